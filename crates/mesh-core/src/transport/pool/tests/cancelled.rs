//! Requests that are given up while they wait: neither a connection nor a turn is lost.

use tokio_test::task::spawn;

use super::*;

/// One connection, with one stream.
fn one() -> PoolLimits {
    PoolLimits {
        shared: 1,
        whole: 1,
        ..limits()
    }
}

/// A pool whose one connection is open, and the right to it.
async fn taken(version: Alpn) -> (Memory, Arc<Pool>, Lease) {
    let memory = Memory {
        streams: 1,
        ..Memory::new(version)
    };
    let pool = memory.pool(one());
    call(&pool).await;
    let lease = pool.lease().await.expect("it is free");
    (memory, pool, lease)
}

#[tokio::test(start_paused = true)]
async fn what_a_request_was_given_when_it_went_is_given_to_the_next() {
    for version in [Alpn::Http1, Alpn::Http2] {
        let (memory, pool, lease) = taken(version).await;
        let mut waiting: Vec<_> = (0..3).map(|_| spawn(pool.lease())).collect();
        assert!(waiting.iter_mut().all(|lease| lease.poll().is_pending()));
        // The second goes while it waits, the first once it was given the connection.
        drop(waiting.remove(1));
        lease.give_back();
        settle().await;
        assert!(waiting[0].is_woken(), "{version}");
        drop(waiting.remove(0));
        settle().await;
        assert!(waiting[0].is_woken(), "{version}");
        let lease = waiting
            .remove(0)
            .await
            .expect("the connection that is open");
        assert!(pool.state().waiters.is_empty(), "{version}");
        lease.give_back();
        settle().await;
        assert!(pool.ready().is_some(), "{version}");
        assert_eq!(memory.dials(), 1, "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_give_up_leave_no_place_behind() {
    for version in [Alpn::Http1, Alpn::Http2] {
        let (_memory, pool, lease) = taken(version).await;
        for _ in 0..1_000 {
            let limit = Duration::from_millis(1);
            assert!(tokio::time::timeout(limit, pool.lease()).await.is_err());
        }
        assert_eq!(pool.state().waiters.len(), 0, "{version}");
        assert!(!pool.waited_for.load(Ordering::SeqCst), "{version}");
        lease.give_back();
        settle().await;
        assert!(pool.ready().is_some(), "{version}");
    }
}

fn count(pool: &Pool, of: impl Fn(&State) -> usize) -> usize {
    of(&pool.state())
}

/// Callers who give up after random times, while connections are refused, opened slowly, cut.
#[tokio::test(start_paused = true)]
async fn whatever_is_given_up_nothing_is_lost() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let version = [Alpn::Http1, Alpn::Http2][random.usize(..2)];
        let memory = Memory {
            streams: random.u32(1..3),
            opens: Arc::new(Semaphore::new(0)),
            answers: Arc::new(Semaphore::new(0)),
            ..Memory::new(version)
        };
        let few = PoolLimits {
            shared: random.usize(1..3),
            whole: random.usize(1..6),
            idle: random.usize(0..4),
            ..limits()
        };
        let pool = memory.pool(few);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let home = Arc::clone(&pool);
            let limit = Duration::from_millis(random.u64(0..40));
            calls.spawn(async move {
                let once = async {
                    let lease = home.lease().await.ok()?;
                    let (response, held) = lease.send(request()).await.ok()?;
                    response.into_body().collect().await.ok()?;
                    held.finish();
                    Some(())
                };
                drop(tokio::time::timeout(limit, once).await);
            });
            memory.opens.add_permits(random.usize(..2));
            memory.answers.add_permits(random.usize(..2));
            memory.refuses.store(random.u8(..5) == 0, Ordering::Relaxed);
            if random.u8(..20) == 0 {
                memory.cut.notify_waiters();
            }
            tokio::time::sleep(Duration::from_millis(random.u64(..3))).await;
            let open = match version {
                Alpn::Http1 => (count(&pool, |state| state.open + state.dialling), few.whole),
                Alpn::Http2 => {
                    let dialling = count(&pool, |state| state.dialling);
                    (pool.shared.load().len() + dialling, few.shared)
                }
            };
            assert!(open.0 <= open.1, "seed {seed}: {open:?}");
        }
        calls.join_all().await;
        memory.refuses.store(false, Ordering::Relaxed);
        memory.opens.add_permits(1_000);
        memory.answers.add_permits(1_000);
        settle().await;
        assert_eq!(count(&pool, |state| state.waiters.len()), 0, "seed {seed}");
        assert_eq!(count(&pool, |state| state.dialling), 0, "seed {seed}");
        let shared = pool.shared.load();
        let streams: usize = shared.iter().map(|s| s.occupancy.in_flight()).sum();
        assert_eq!(streams, 0, "seed {seed}: streams that nobody has");
        let used = count(&pool, |state| state.open - state.idle.len());
        assert_eq!(used, 0, "seed {seed}: connections that nobody has");
        call(&pool).await;
    }
}

#[test]
fn a_request_on_another_runtime_outlives_the_one_that_dialled() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let built = builder.worker_threads(1).enable_all().build();
        built.expect("a runtime")
    };
    let memory = Memory {
        opens: Arc::new(Semaphore::new(0)),
        ..Memory::new(Alpn::Http2)
    };
    let pool = memory.pool(limits());
    let (first, second) = (runtime(), runtime());
    first.block_on(async {
        let mut begun = spawn(pool.lease());
        assert!(begun.poll().is_pending());
    });
    let call = second.spawn({
        let pool = Arc::clone(&pool);
        async move { call(&pool).await }
    });
    while pool.state().waiters.is_empty() {
        std::thread::yield_now();
    }
    drop(first);
    memory.opens.add_permits(1);
    second.block_on(call).expect("it dials on its own");
    assert_eq!(memory.dials(), 2);
}
