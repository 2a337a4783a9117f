mod cancelled;
mod waiting;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{Notify, Semaphore};

use super::dialling::MAX_DIALS;
use super::*;
use crate::transport::connect::open;

/// An endpoint in memory: counts connections, and answers when it is let.
#[derive(Clone, Debug)]
struct Memory {
    version: Alpn,
    streams: u32,
    dials: Arc<AtomicUsize>,
    refuses: Arc<AtomicBool>,
    /// Connections that may be opened.
    opens: Arc<Semaphore>,
    /// Answers that may be given.
    answers: Arc<Semaphore>,
    /// Breaks all connections that are open.
    cut: Arc<Notify>,
}

impl Memory {
    fn new(version: Alpn) -> Self {
        Self {
            version,
            streams: 100,
            dials: Arc::default(),
            refuses: Arc::default(),
            opens: Arc::new(Semaphore::new(1_000)),
            answers: Arc::new(Semaphore::new(1_000)),
            cut: Arc::default(),
        }
    }

    fn pool(&self, limits: PoolLimits) -> Arc<Pool> {
        Pool::new(self.clone(), limits, Counter::noop())
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }
}

impl Dial for Memory {
    fn dial(&self) -> BoxFuture<'static, Result<Opened, ConnectFailed>> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        Box::pin(async move {
            if this.refuses.load(Ordering::Relaxed) {
                return Err(ConnectFailed::refused());
            }
            this.opens.acquire().await.expect("never closed").forget();
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let version = this.version;
            tokio::spawn(serve(theirs, this));
            let opened = open(ours, version).await;
            Ok(opened.expect("the other end is there"))
        })
    }

    fn version(&self) -> Alpn {
        self.version
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

async fn serve(stream: tokio::io::DuplexStream, memory: Memory) {
    let service = service_fn(|request: Request<Incoming>| {
        let answers = Arc::clone(&memory.answers);
        async move {
            // Its end is not waited for.
            tokio::spawn(request.into_body().collect());
            answers.acquire().await.expect("never closed").forget();
            Ok::<_, Infallible>(Response::new(Body::from("hello")))
        }
    });
    let io = TokioIo::new(stream);
    let served: BoxFuture<'_, hyper::Result<()>> = match memory.version {
        Alpn::Http1 => Box::pin(
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, service),
        ),
        Alpn::Http2 => Box::pin(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(memory.streams)
                .serve_connection(io, service),
        ),
    };
    // A connection that its client drops is what these tests do.
    tokio::select! {
        served = served => drop(served),
        () = memory.cut.notified() => {}
    }
}

fn limits() -> PoolLimits {
    PoolLimits {
        shared: 2,
        ..PoolLimits::default()
    }
}

fn request() -> Request<Body> {
    let request = Request::builder().uri("http://api.shop/");
    request.body(Body::empty()).expect("it is well formed")
}

/// Sends one request and reads its answer to the end.
async fn call(pool: &Arc<Pool>) {
    let lease = pool.lease().await.expect("a connection");
    let (response, held) = lease.send(request()).await.expect("an answer");
    response
        .into_body()
        .collect()
        .await
        .expect("a whole answer");
    held.finish();
}

/// The same in a task of its own.
fn spawn_call(pool: &Arc<Pool>) -> tokio::task::JoinHandle<()> {
    let pool = Arc::clone(pool);
    tokio::spawn(async move { call(&pool).await })
}

/// Long enough for everything that waits for no timer, with the clock paused.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn many_requests_share_one_http2_connection_that_is_opened_once() {
    let memory = Memory::new(Alpn::Http2);
    let pool = memory.pool(limits());
    assert!(pool.ready().is_none());
    let calls: Vec<_> = (0..20).map(|_| call(&pool)).collect();
    futures_util::future::join_all(calls).await;
    assert_eq!(memory.dials(), 1);
    assert!(pool.ready().is_some());
}

#[tokio::test(start_paused = true)]
async fn full_connections_make_the_pool_open_another_up_to_its_bound() {
    let memory = Memory {
        streams: 1,
        answers: Arc::new(Semaphore::new(1)),
        ..Memory::new(Alpn::Http2)
    };
    let pool = memory.pool(limits());
    // The first answer brings the peer's limit along.
    call(&pool).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let pool = Arc::clone(&pool);
        calls.spawn(async move { call(&pool).await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(memory.dials(), 2);
    memory.answers.add_permits(4);
    calls.join_all().await;
    assert_eq!(memory.dials(), 2);
}

#[tokio::test]
async fn all_who_wait_for_a_connection_are_told_why_there_is_none() {
    let memory = Memory {
        refuses: Arc::new(true.into()),
        ..Memory::new(Alpn::Http2)
    };
    let pool = memory.pool(limits());
    let leases = futures_util::future::join_all((0..5).map(|_| pool.lease())).await;
    assert!(leases.iter().all(Result::is_err));
    assert_eq!(memory.dials(), 1);
    // A failure is not remembered here: the balancer does that.
    assert!(pool.lease().await.is_err());
    assert_eq!(memory.dials(), 2);
}

#[test]
fn a_runtime_that_ends_costs_a_connection_and_no_request() {
    let memory = Memory::new(Alpn::Http2);
    let one = PoolLimits {
        shared: 1,
        ..limits()
    };
    let pool = memory.pool(one);
    for dials in 1..=3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let limit = Duration::from_secs(10);
        let called = runtime.block_on(async { tokio::time::timeout(limit, call(&pool)).await });
        assert!(
            called.is_ok(),
            "a closed connection takes the room of a new one"
        );
        assert_eq!(memory.dials(), dials);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_is_closed() {
    let memory = Memory::new(Alpn::Http2);
    let pool = memory.pool(limits());
    call(&pool).await;
    tokio::time::sleep(limits().idle_for).await;
    assert_eq!(pool.shared.load().len(), 1, "closed too early");
    tokio::time::sleep(limits().idle_for).await;
    assert_eq!(pool.shared.load().len(), 0);
    call(&pool).await;
    assert_eq!(memory.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_use_is_left_at_its_age_and_finishes_what_it_carries() {
    let memory = Memory::new(Alpn::Http2);
    let pool = memory.pool(limits());
    call(&pool).await;
    memory.answers.forget_permits(1_000);
    let slow = pool.ready().expect("it is open").send(request());
    let mut slow = tokio_test::task::spawn(slow);
    assert!(slow.poll().is_pending());
    tokio::time::sleep(limits().max_age + limits().idle_for).await;
    assert!(pool.ready().is_none());
    memory.answers.add_permits(1);
    let (response, _held) = slow.await.expect("it is answered");
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn an_http1_connection_carries_the_next_request_once_its_answer_is_read() {
    let memory = Memory::new(Alpn::Http1);
    let pool = memory.pool(limits());
    for _ in 0..3 {
        call(&pool).await;
    }
    assert_eq!(memory.dials(), 1);
    futures_util::future::join(call(&pool), call(&pool)).await;
    assert_eq!(memory.dials(), 2);
}

#[tokio::test]
async fn an_answer_that_is_not_read_takes_its_http1_connection_with_it() {
    let memory = Memory::new(Alpn::Http1);
    let pool = memory.pool(limits());
    let lease = pool.lease().await.expect("a connection");
    drop(lease.send(request()).await.expect("an answer"));
    call(&pool).await;
    assert_eq!(memory.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn idle_http1_connections_are_bounded_and_end() {
    let memory = Memory::new(Alpn::Http1);
    let few = PoolLimits {
        idle: 2,
        ..limits()
    };
    let pool = memory.pool(few);
    futures_util::future::join_all((0..4).map(|_| call(&pool))).await;
    assert_eq!(memory.dials(), 4);
    assert_eq!(pool.state().idle.len(), 2);
    tokio::time::sleep(few.idle_for * 2).await;
    assert_eq!(pool.state().idle.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_burst_opens_no_more_http1_connections_at_once_than_there_are_turns() {
    let mut memory = Memory::new(Alpn::Http1);
    memory.opens = Arc::new(Semaphore::new(0));
    let pool = memory.pool(limits());
    let burst: Vec<_> = (0..MAX_DIALS + 10).map(|_| spawn_call(&pool)).collect();
    settle().await;
    assert_eq!(memory.dials(), MAX_DIALS);
    memory.opens.add_permits(1_000);
    for call in burst {
        call.await.expect("each is answered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_a_turn_on_a_full_connection_when_another_cannot_be_had() {
    let mut memory = Memory::new(Alpn::Http2);
    memory.streams = 1;
    let pool = memory.pool(limits());
    call(&pool).await;
    let _full = pool.lease().await.expect("the one stream");
    memory.refuses.store(true, Ordering::Relaxed);
    let turn = pool.lease().await;
    assert!(turn.is_ok(), "{:?}", turn.err());
    assert_eq!(memory.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_http1_connection_in_use_is_left_at_its_age() {
    let memory = Memory::new(Alpn::Http1);
    let pool = memory.pool(limits());
    let begun = Instant::now();
    while begun.elapsed() < limits().max_age + limits().idle_for {
        call(&pool).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(memory.dials(), 2);
}
