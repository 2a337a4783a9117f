use super::*;

fn plans() -> Plans {
    Plans::new("shop".parse().unwrap(), Arc::default())
}

#[test]
fn all_spellings_of_a_service_are_one_name() {
    let plans = plans();
    let (first, port) = plans.find("orders").unwrap();
    assert_eq!(port, None);
    for spelling in [
        "orders.shop",
        "orders.shop.svc.cluster.local",
        "ORDERS.shop.",
    ] {
        let (entry, _) = plans.find(spelling).unwrap();
        assert!(Arc::ptr_eq(&first, &entry), "{spelling}");
    }
    assert_eq!(plans.find("orders.shop:8080").unwrap().1, Some(8080));
    assert_eq!(plans.wanted().len(), 1);
}

#[test]
fn what_is_outside_the_mesh_is_never_subscribed_to() {
    let plans = plans();
    assert!(plans.find("www.example.com").is_err());
    assert!(plans.find("10.0.0.1:80").is_err());
    assert!(plans.wanted().is_empty());
}

/// On two threads: a wake before the name can be found lost one name in thirty.
#[test]
fn whoever_is_woken_finds_the_new_name() {
    const NAMES: usize = 900;
    let changed: Arc<Notify> = Arc::default();
    let plans = Arc::new(Plans::new("shop".parse().unwrap(), Arc::clone(&changed)));
    let watched = Arc::clone(&plans);
    let (tell, told) = std::sync::mpsc::channel();
    let watcher = std::thread::spawn(move || {
        for known in 1..=NAMES {
            tokio_test::block_on(changed.notified());
            assert_eq!(watched.wanted().len(), known);
            tell.send(()).unwrap();
        }
    });
    for name in 0..NAMES {
        plans.find(&format!("n{name}")).unwrap();
        if told.recv().is_err() {
            break;
        }
    }
    watcher.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_use_waits_a_second_and_later_ones_do_not() {
    let plans = plans();
    let (entry, _) = plans.find("orders").unwrap();
    let asked = Instant::now();
    assert!(matches!(entry.answer().await, Answer::Asked));
    assert_eq!(asked.elapsed().as_secs(), 1);
    assert!(matches!(entry.answer().await, Answer::Asked));
    assert_eq!(asked.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_wakes_whoever_waits() {
    let plans = plans();
    let (entry, _) = plans.find("orders").unwrap();
    let mut waiting = tokio_test::task::spawn(entry.answer());
    assert!(waiting.poll().is_pending());
    plans.answer(entry.name(), Answer::Unknown);
    assert!(waiting.is_woken());
    assert!(matches!(waiting.await, Answer::Unknown));
}

#[test]
fn of_too_many_unknown_names_the_least_recently_used_goes() {
    let plans = plans();
    for number in 0..MAX_UNKNOWN {
        plans.find(&format!("n{number}")).unwrap();
    }
    plans.find("n0").unwrap();
    plans.find("one-more").unwrap();
    let wanted = plans.wanted();
    assert_eq!(wanted.len(), MAX_UNKNOWN);
    assert!(wanted.contains(&"n0.shop".parse().unwrap()));
    assert!(!wanted.contains(&"n1.shop".parse().unwrap()));
    assert!(plans.spellings.get("n1", |_| ()).is_none());
}

#[test]
fn a_name_that_is_used_is_kept_though_it_came_first() {
    let plans = plans();
    for number in 0..3 * MAX_UNKNOWN {
        plans.find(&format!("n{number}")).unwrap();
        plans.find("n0").unwrap();
    }
    let kept = plans.wanted();
    assert_eq!(kept.len(), MAX_UNKNOWN);
    assert!(kept.contains(&"n0.shop".parse().unwrap()));
    assert_eq!(plans.kept().spellings, MAX_UNKNOWN);
}

#[test]
fn names_that_discovery_knows_are_not_counted_among_the_unknown() {
    let plans = plans();
    let known = |number: usize| format!("known-{number}");
    for number in 0..2 * MAX_UNKNOWN {
        let (entry, _) = plans.find(&known(number)).unwrap();
        plans.answer(entry.name(), Answer::Known(service(entry.name())));
    }
    for number in 0..MAX_UNKNOWN {
        plans.find(&format!("n{number}")).unwrap();
    }
    assert_eq!(plans.wanted().len(), 3 * MAX_UNKNOWN);
    // Those that vanish are the ones to go, once there are too many.
    for number in 0..2 * MAX_UNKNOWN {
        let (entry, _) = plans.find(&known(number)).unwrap();
        plans.answer(entry.name(), Answer::Unknown);
    }
    let (entry, _) = plans.find("one-more").unwrap();
    assert_eq!(plans.wanted().len(), MAX_UNKNOWN);
    plans.answer(entry.name(), Answer::Known(service(entry.name())));
    assert_eq!(plans.kept().unknown.len(), MAX_UNKNOWN - 1);
}

/// A plan without ports.
fn service(name: &ServiceName) -> Arc<Service> {
    let nobody = |_: &_| unreachable!("it has no backends");
    Arc::new(Service::compile(name, &Default::default(), nobody))
}

#[test]
fn a_spelling_beyond_those_kept_costs_a_parse_and_nothing_is_written() {
    let plans = Arc::new(plans());
    plans.find("orders").unwrap();
    for port in 1..=MAX_SPELLINGS {
        plans.find(&format!("orders.shop:{port}")).unwrap();
    }
    assert_eq!(plans.kept().spellings, MAX_SPELLINGS);
    // Whoever wrote would wait for us.
    let writing = plans.kept();
    let (tell, told) = std::sync::mpsc::channel();
    let other = Arc::clone(&plans);
    let reader = std::thread::spawn(move || {
        for spelling in ["orders", "orders.shop.svc.cluster.local", "ORDERS.shop:80"] {
            tell.send(other.find(spelling).unwrap().1).unwrap();
        }
    });
    let limit = Duration::from_secs(30);
    let ports: Vec<_> = (0..3).map(|_| told.recv_timeout(limit)).collect();
    drop(writing);
    reader.join().unwrap();
    assert_eq!(ports, [Ok(None), Ok(None), Ok(Some(80))]);
}

#[test]
fn a_name_that_was_let_go_and_asked_again_is_known_to_be_new() {
    let plans = plans();
    for number in 0..MAX_UNKNOWN {
        plans.find(&format!("n{number}")).unwrap();
    }
    let told = plans.entered();
    assert!(plans.asked_since(told).is_empty());
    plans.find("one-more").unwrap();
    plans.find("n0").unwrap();
    let names = |names: [&str; 2]| names.map(|name| name.parse().unwrap()).into();
    assert_eq!(plans.asked_since(told), names(["n0.shop", "one-more.shop"]));
    plans.answer(&"n0.shop".parse().unwrap(), Answer::Unknown);
    assert_eq!(plans.asked_since(told).len(), 1, "it has its answer");
}
