//! Requests that find no connection free.

use tokio_test::task::spawn;

use super::*;

/// An endpoint that takes `connections` and answers nothing yet.
fn slow(version: Alpn, connections: usize) -> Memory {
    Memory {
        streams: 1,
        opens: Arc::new(Semaphore::new(connections)),
        answers: Arc::new(Semaphore::new(0)),
        ..Memory::new(version)
    }
}

/// A pool of `memory` whose one connection is open and carries a request, and has all streams
/// that its peer allows.
async fn busy(memory: &Memory, limits: PoolLimits) -> (Arc<Pool>, tokio::task::JoinHandle<()>) {
    let pool = memory.pool(limits);
    memory.answers.add_permits(1);
    call(&pool).await;
    let first = spawn_call(&pool);
    settle().await;
    assert_eq!(memory.dials(), 1);
    (pool, first)
}

#[tokio::test(start_paused = true)]
async fn a_request_that_dials_takes_what_becomes_free_and_the_dial_goes_on() {
    for version in [Alpn::Http1, Alpn::Http2] {
        let memory = slow(version, 1);
        let (pool, first) = busy(&memory, limits()).await;
        let second = spawn_call(&pool);
        settle().await;
        assert_eq!(memory.dials(), 2, "{version}: it has another one opened");
        memory.answers.add_permits(10);
        first.await.unwrap();
        second.await.unwrap();
        assert_eq!(
            pool.state().dialling,
            1,
            "{version}: for those who come later"
        );
        memory.opens.add_permits(1);
        settle().await;
        assert_eq!(pool.state().dialling, 0);
        let both = [pool.ready(), pool.ready()];
        assert!(
            both.iter().all(Option::is_some),
            "{version}: both are there"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_its_turn_to_dial_takes_what_becomes_free() {
    let memory = slow(Alpn::Http1, 1);
    let (pool, first) = busy(&memory, limits()).await;
    let mut others: Vec<_> = (0..=MAX_DIALS).map(|_| spawn_call(&pool)).collect();
    settle().await;
    assert_eq!(memory.dials(), 1 + MAX_DIALS);
    memory.answers.add_permits(1_000);
    first.await.unwrap();
    let last = others.pop().expect("there are many");
    last.await.expect("it is served, and nobody dialled for it");
    assert_eq!(memory.dials(), 1 + MAX_DIALS);
}

#[tokio::test(start_paused = true)]
async fn a_limit_shorter_than_a_handshake_does_not_keep_an_endpoint_unreachable() {
    for version in [Alpn::Http1, Alpn::Http2] {
        let memory = Memory {
            opens: Arc::new(Semaphore::new(0)),
            ..Memory::new(version)
        };
        let pool = memory.pool(limits());
        let mut served = 0;
        for _ in 0..20 {
            let opens = Arc::clone(&memory.opens);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(30)).await;
                opens.add_permits(1);
            });
            let limit = Duration::from_millis(20);
            served += u32::from(tokio::time::timeout(limit, call(&pool)).await.is_ok());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!((served, memory.dials()), (19, 1), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_again_and_again_begin_no_more_dials_than_wait() {
    let memory = slow(Alpn::Http1, 0);
    let pool = memory.pool(limits());
    for _ in 0..100 {
        let limit = Duration::from_millis(5);
        assert!(tokio::time::timeout(limit, pool.lease()).await.is_err());
    }
    assert_eq!(memory.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_who_waits_is_served_in_order() {
    for version in [Alpn::Http1, Alpn::Http2] {
        let recorder = crate::telemetry::Recorder::new(crate::telemetry::Metrics::Own).unwrap();
        let memory = Memory {
            streams: 1,
            ..Memory::new(version)
        };
        let most = PoolLimits {
            whole: 2,
            ..limits()
        };
        let pool = Pool::new(
            memory.clone(),
            most,
            recorder.counter("limited", Vec::new()),
        );
        // Both connections, and as many streams as their peer allows.
        futures_util::future::join(call(&pool), call(&pool)).await;
        let mut held = vec![pool.lease().await.unwrap()];
        if version == Alpn::Http2 {
            let mut second = spawn(pool.lease());
            assert!(second.poll().is_pending());
            settle().await;
            held.push(second.await.unwrap());
            // Its peer's limit comes with its first answer.
            let first = held.pop().unwrap().send(request()).await.unwrap();
            first.0.into_body().collect().await.unwrap();
            drop(first.1);
        }
        held.push(pool.lease().await.unwrap());
        assert_eq!(memory.dials(), 2, "{version}");
        let mut waiting: Vec<_> = (0..5).map(|_| spawn(pool.lease())).collect();
        assert!(waiting.iter_mut().all(|lease| lease.poll().is_pending()));
        assert!(
            recorder.render().contains("limited 5"),
            "{}",
            recorder.render()
        );
        for place in 0..5 {
            // A request that comes now does not pass those who wait.
            held.remove(0).give_back();
            assert!(pool.ready().is_none(), "{version}");
            settle().await;
            let woken: Vec<_> = waiting.iter().map(|lease| lease.is_woken()).collect();
            assert_eq!(
                woken.iter().position(|woken| *woken),
                Some(0),
                "{version}, {place}"
            );
            held.push(waiting.remove(0).await.unwrap());
        }
        assert_eq!(memory.dials(), 2, "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_makes_room_for_another() {
    for version in [Alpn::Http1, Alpn::Http2] {
        let memory = slow(version, 10);
        let one = PoolLimits {
            shared: 1,
            whole: 1,
            ..limits()
        };
        let (pool, first) = busy(&memory, one).await;
        let second = spawn_call(&pool);
        settle().await;
        assert_eq!(memory.dials(), 1, "{version}: there is room for one");
        memory.cut.notify_waiters();
        drop(first.await);
        memory.answers.add_permits(10);
        second.await.expect("it has a connection of its own");
        assert_eq!(memory.dials(), 2, "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_beyond_those_that_may_wait_fails_at_once() {
    let memory = slow(Alpn::Http1, 0);
    let few = PoolLimits {
        waiting: 2,
        ..limits()
    };
    let pool = memory.pool(few);
    let mut waiting = [spawn(pool.lease()), spawn(pool.lease())];
    assert!(waiting.iter_mut().all(|lease| lease.poll().is_pending()));
    let error = pool.lease().await.err().expect("too many wait");
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.starts_with("2 requests wait"), "{why}");
    drop(waiting);
    let mut next = spawn(pool.lease());
    assert!(next.poll().is_pending());
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_fail_with_the_dial_when_no_connection_is_open() {
    for version in [Alpn::Http1, Alpn::Http2] {
        let memory = Memory::new(version);
        memory.refuses.store(true, Ordering::Relaxed);
        let pool = memory.pool(limits());
        let many = (0..MAX_DIALS * 2).map(|_| pool.lease());
        let leases = futures_util::future::join_all(many).await;
        assert!(leases.iter().all(Result::is_err), "{version}");
        assert!(
            memory.dials() <= MAX_DIALS * 2,
            "{version}: {}",
            memory.dials()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_fails_with_a_dial_while_another_connection_is_open() {
    let memory = slow(Alpn::Http1, 1);
    let (pool, first) = busy(&memory, limits()).await;
    // The one has a connection opened, which takes long; the other one in vain.
    let mut waiting = [spawn(pool.lease()), spawn(pool.lease())];
    assert!(waiting[0].poll().is_pending());
    settle().await;
    memory.refuses.store(true, Ordering::Relaxed);
    assert!(waiting[1].poll().is_pending());
    settle().await;
    let [first_in_line, second] = &mut waiting;
    let failed = first_in_line.poll();
    assert!(matches!(failed, std::task::Poll::Ready(Err(_))));
    assert!(second.poll().is_pending(), "it may be served yet");
    memory.answers.add_permits(1);
    first.await.unwrap();
    let served = second.poll();
    assert!(matches!(served, std::task::Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn connections_whose_uploads_go_on_hold_a_request_up_once() {
    let memory = Memory::new(Alpn::Http1);
    let pool = memory.pool(limits());
    let mut uploads = Vec::new();
    for _ in 0..limits().idle {
        let lease = pool.lease().await.unwrap();
        let endless = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<bytes::Bytes>, crate::BoxError>,
        >());
        uploads.push((lease, Request::post("/").body(Body::new(endless)).unwrap()));
    }
    for (lease, request) in uploads {
        let (response, held) = lease.send(request).await.expect("it answers early");
        response.into_body().collect().await.unwrap();
        held.finish();
    }
    assert_eq!(
        pool.state().idle.len(),
        limits().idle,
        "none of them is free"
    );
    let begun = Instant::now();
    call(&pool).await;
    assert!(begun.elapsed() <= FREE_WITHIN, "{:?}", begun.elapsed());
    let _busy = pool.ready().expect("the new one is free");
    let begun = Instant::now();
    call(&pool).await;
    assert_eq!(
        begun.elapsed(),
        Duration::ZERO,
        "and the next one not at all"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_upload_ends_soon_is_waited_for() {
    let memory = Memory::new(Alpn::Http1);
    let pool = memory.pool(limits());
    let soon = Duration::from_millis(10);
    let upload = futures_util::stream::once(async move {
        tokio::time::sleep(soon).await;
        Ok::<_, crate::BoxError>(http_body::Frame::data(bytes::Bytes::from_static(b"x")))
    });
    let upload = Body::new(http_body_util::StreamBody::new(upload));
    let begun = Instant::now();
    let lease = pool.lease().await.unwrap();
    let sent = lease.send(Request::post("/").body(upload).unwrap()).await;
    let (response, held) = sent.expect("it answers early");
    response.into_body().collect().await.unwrap();
    held.finish();
    call(&pool).await;
    assert_eq!((begun.elapsed(), memory.dials()), (soon, 1));
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_dials_under_way_have_theirs_when_those_are_done() {
    let memory = slow(Alpn::Http1, 0);
    let pool = memory.pool(limits());
    let mut waiting: Vec<_> = (0..MAX_DIALS + 5).map(|_| spawn(pool.lease())).collect();
    assert!(waiting.iter_mut().all(|lease| lease.poll().is_pending()));
    settle().await;
    memory.opens.add_permits(1_000);
    settle().await;
    // None of them gives its connection back.
    let leases: Vec<_> = waiting.iter_mut().map(|lease| lease.poll()).collect();
    assert!(leases.iter().all(std::task::Poll::is_ready));
    assert_eq!(memory.dials(), MAX_DIALS + 5);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_later_takes_nothing_while_others_wait() {
    for version in [Alpn::Http1, Alpn::Http2] {
        let memory = Memory::new(version);
        let pool = memory.pool(limits());
        call(&pool).await;
        let first = pool.state().waiters.join(&pool);
        assert!(pool.ready().is_none(), "{version}");
        // Who comes last serves all that is free, from the front of the line.
        drop(spawn(pool.lease()).poll());
        first
            .await
            .expect("the connection that is open")
            .give_back();
        settle().await;
    }
}
