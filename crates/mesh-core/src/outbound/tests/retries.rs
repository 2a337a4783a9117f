//! What is tried again, where it goes, and what it costs.

use mesh_policy::plan::outbound::{RetryPlan, StatusRange};

use super::*;

const SERVER_ERRORS: StatusRange = StatusRange { from: 500, to: 599 };

fn retried(attempts: u32, limits: TimeoutsPlan) -> RulePlan {
    RulePlan {
        timeouts: limits,
        retry: Some(RetryPlan {
            attempts,
            codes: vec![SERVER_ERRORS],
            ..RetryPlan::default()
        }),
        ..rule(vec![to("api.shop:80", 1)])
    }
}

fn tries(memory: &Memory) -> usize {
    memory.seen.lock().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn p01_a_failed_connect_goes_to_another_endpoint_also_a_post_without_a_stanza() {
    let mut world = World::new();
    let good = memory("good", Behaviour::Answers);
    let gone = memory("gone", Behaviour::CannotBeReached);
    world.serve("api.shop:80", &[gone, good]);
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    for second in 0..20 {
        let request = Request::post("http://api.shop/").body(Body::from("once"));
        let response = world.stack().call(request.unwrap()).await;
        assert_eq!(text(response.unwrap()).await, "good", "{second}");
        tokio::time::advance(Duration::from_secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_listed_status_is_tried_again_at_another_endpoint_which_is_told() {
    for _ in 0..20 {
        let mut world = World::new();
        let good = memory("good", Behaviour::Answers);
        let bad = memory("bad", Behaviour::Fails);
        world.serve("api.shop:80", &[good.clone(), bad.clone()]);
        world.plan(vec![retried(1, TimeoutsPlan::default())]);
        let response = world.get("http://api.shop/").await.unwrap();
        assert_eq!(text(response).await, "good");
        let again = good.seen.lock().unwrap()[0]
            .1
            .get("x-mesh-attempt")
            .cloned();
        assert_eq!(again.is_some(), tries(&bad) == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn p08_a_post_is_tried_again_only_where_the_route_answers_for_it() {
    let mut world = World::new();
    let bad = memory("bad", Behaviour::Fails);
    world.serve("api.shop:80", std::slice::from_ref(&bad));
    world.plan(vec![retried(2, TimeoutsPlan::default())]);
    let post = || Request::post("http://api.shop/").body(Body::from("a"));
    let response = world.stack().call(post().unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), tries(&bad)), (500, 1));
    let metrics = world.outfit.recorder.render();
    assert!(metrics.contains("reason=\"method\"} 1"), "{metrics}");
    let mut all = retried(2, TimeoutsPlan::default());
    let retry = all.retry.as_mut().unwrap();
    retry.methods = mesh_policy::plan::outbound::RetryMethods::All;
    world.plan(vec![all]);
    let response = world.stack().call(post().unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), tries(&bad)), (500, 4));
}

#[tokio::test(start_paused = true)]
async fn p08_a_body_is_kept_as_far_as_the_process_was_told_to() {
    for (limit, times) in [(9, 2), (8, 1)] {
        let mut world = World::new();
        let bad = memory("bad", Behaviour::Fails);
        world.serve("api.shop:80", std::slice::from_ref(&bad));
        world.plan(vec![retried(1, TimeoutsPlan::default())]);
        let streamed = Body::new(http_body_util::Full::new(bytes::Bytes::from("nine byte")));
        let put = Request::put("http://api.shop/").body(streamed).unwrap();
        let response = world.stack_that_keeps(limit).call(put).await.unwrap();
        assert_eq!((response.status().as_u16(), tries(&bad)), (500, times));
    }
}

#[tokio::test(start_paused = true)]
async fn p10_tries_and_waits_together_end_at_the_requests_limit() {
    let mut world = World::new();
    let silent = memory("silent", Behaviour::IsSilent);
    world.serve("api.shop:80", std::slice::from_ref(&silent));
    let limits = TimeoutsPlan {
        request_ms: Some(350),
        backend_request_ms: Some(100),
        ..TimeoutsPlan::default()
    };
    world.plan(vec![retried(10, limits)]);
    let begun = tokio::time::Instant::now();
    assert_eq!(world.cause("http://api.shop/").await, Cause::Timeout);
    assert!(begun.elapsed() <= Duration::from_millis(350));
    assert!((2..=3).contains(&tries(&silent)), "{}", tries(&silent));
    let told = silent.seen.lock().unwrap()[0].1["x-mesh-timeout"].clone();
    assert_eq!(told, "100ms");
    let metrics = world.outfit.recorder.render();
    assert!(metrics.contains("error=\"timeout\""), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn o01_a_backend_that_always_fails_sees_little_more_than_the_requests() {
    let mut world = World::new();
    let bad = memory("bad", Behaviour::Fails);
    world.serve("api.shop:80", std::slice::from_ref(&bad));
    world.plan(vec![retried(3, TimeoutsPlan::default())]);
    let requests = 2_000;
    let begun = tokio::time::Instant::now();
    let calls = (0..requests).map(|round| {
        if round == requests / 2 {
            // A change of the plan gives nobody a new budget.
            world.plan(vec![retried(3, TimeoutsPlan::default())]);
        }
        world.get("http://api.shop/")
    });
    futures_util::future::join_all(calls).await;
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    let most = requests + requests / 5 + 10 * (seconds + 10);
    assert!(
        (requests + 1..=most).contains(&tries(&bad)),
        "{} > {most}",
        tries(&bad)
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_attaches_to_a_request_is_there_at_every_try() {
    #[derive(Clone, Debug, PartialEq)]
    struct Attached(u32);

    let mut world = World::new();
    world.serve("api.shop:80", &[memory("never asked", Behaviour::Answers)]);
    world.plan(vec![retried(2, TimeoutsPlan::default())]);
    let seen = Arc::<Mutex<Vec<Option<Attached>>>>::default();
    let asked = Arc::clone(&seen);
    let fails = tower::service_fn(move |outgoing: Box<Outgoing>| {
        let attached = outgoing.request.extensions().get().cloned();
        asked.lock().unwrap().push(attached);
        let failed = Response::builder().status(500).body(Body::empty());
        std::future::ready(Ok::<_, BoxError>(failed.unwrap()))
    });
    let Outfit {
        recorder, workload, ..
    } = world.outfit.clone();
    let series = Arc::new(Series::new(recorder, workload));
    let retry = RetryLayer::new(series, 1 << 10).layer(fails);
    let mut stack = RouteLayer::new(Arc::clone(&world.plans)).layer(retry);
    let request = Request::get("http://api.shop/").extension(Attached(7));
    let ended = stack.call(request.body(Body::empty()).unwrap()).await;
    assert_eq!(ended.unwrap().status(), 500);
    assert_eq!(*seen.lock().unwrap(), vec![Some(Attached(7)); 3]);
}
