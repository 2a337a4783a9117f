//! Clients that take their time to read, on a clock that jumps.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::*;

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
/// More than a pipe holds, and less than hyper does.
const LONG: usize = 350_000;

fn house() -> House {
    let house = House::serve(tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::from(vec![b'x'; LONG])))
    }));
    house.govern(vec![ClientPlan::Anyone]);
    house
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_a_response_that_is_read_slowly() {
    let mut house = house();
    let mut pipe = house.connect().await;
    pipe.write_all(ASK).await.expect("the pipe is open");
    sleep(Duration::from_millis(10)).await;
    house.shut_down();
    let (mut read, mut buffer) = (0, vec![0; 16 * 1024]);
    loop {
        match pipe.read(&mut buffer).await.expect("an end") {
            0 => break,
            more => read += more,
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert!(read > LONG, "{read} bytes of head and body");
    house.task.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn h07_a_client_that_does_not_read_is_cut_after_a_minute() {
    let house = house();
    let mut pipe = house.connect().await;
    pipe.write_all(ASK).await.expect("the pipe is open");
    sleep(Duration::from_secs(50)).await;
    assert!(pipe.write_all(b"G").await.is_ok(), "it has time");
    sleep(Duration::from_secs(25)).await;
    assert!(pipe.write_all(b"G").await.is_err(), "it is cut");
}

#[tokio::test(start_paused = true)]
async fn h07_an_http2_client_that_answers_no_ping_is_gone_within_a_minute() {
    let house = house();
    let mut pipe = house.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    pipe.write_all(preface).await.expect("the pipe is open");
    let started = Instant::now();
    pipe.read_to_end(&mut Vec::new()).await.expect("an end");
    let taken = started.elapsed();
    assert!(taken <= Duration::from_secs(60), "{taken:?}");
}

/// Counts the handlers and bodies that are alive.
struct Alive(Arc<AtomicU32>);

impl Alive {
    fn new(alive: &Arc<AtomicU32>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(alive))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves bodies without an end, in frames of `frame` bytes.
fn endless(frame: usize) -> (House, Arc<AtomicU32>) {
    let alive = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&alive);
    let house = House::serve(tower::service_fn(move |_: Request<Body>| {
        let guard = Alive::new(&counted);
        let frames = futures_util::stream::repeat_with(move || {
            let _held = &guard;
            Ok::<_, BoxError>(http_body::Frame::data(Bytes::from(vec![b'x'; frame])))
        });
        let body = Body::new(http_body_util::StreamBody::new(frames));
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    }));
    house.govern(vec![ClientPlan::Anyone]);
    (house, alive)
}

/// A client that answers pings, and gives each stream a window of `window` bytes.
async fn client(house: &House, window: u32) -> http2::SendRequest<Body> {
    let io = TokioIo::new(house.connect().await);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(hyper_util::rt::TokioTimer::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(1 << 24);
    let (client, connection) = builder.handshake(io).await.expect("a pipe connects");
    tokio::spawn(connection);
    client
}

fn ask() -> Request<Body> {
    get("/").body(Body::empty()).expect("a request")
}

#[tokio::test(start_paused = true)]
async fn h09_a_stream_that_nobody_reads_ends_within_a_minute_and_its_neighbours_go_on() {
    let (house, alive) = endless(16 * 1024);
    let mut client = client(&house, 1 << 16).await;
    let mut unread = client.send_request(ask()).await.expect("an answer");
    let mut read = client.send_request(ask()).await.expect("an answer");
    for _ in 0..7 {
        sleep(Duration::from_secs(10)).await;
        for _ in 0..8 {
            let frame = read.body_mut().frame().await.expect("it has no end");
            frame.expect("it is read");
        }
        let alive = alive.load(Ordering::Relaxed);
        assert!(alive >= 1, "the one that is read goes on");
    }
    assert_eq!(
        alive.load(Ordering::Relaxed),
        1,
        "the other handler is gone"
    );
    let mut frames = 0;
    let error = loop {
        match unread.body_mut().frame().await.expect("no clean end") {
            Ok(_) => frames += 1,
            Err(error) => break error,
        }
    };
    assert!(frames <= 5, "{frames} frames were on their way");
    assert!(
        error.to_string().contains("error reading a body"),
        "{error}"
    );
    client
        .send_request(ask())
        .await
        .expect("the connection lives");
}

#[tokio::test(start_paused = true)]
async fn h09_a_window_of_one_byte_holds_no_handler() {
    let (house, alive) = endless(16 * 1024);
    let mut client = client(&house, 1).await;
    let mut unread = Vec::new();
    for _ in 0..100 {
        unread.push(client.send_request(ask()).await.expect("an answer"));
    }
    assert_eq!(alive.load(Ordering::Relaxed), 100);
    sleep(Duration::from_secs(61)).await;
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn h09_a_slow_reader_of_large_frames_is_not_taken_for_one_that_does_not_read() {
    let (house, _alive) = endless(1 << 20);
    let mut client = client(&house, 1 << 16).await;
    let mut response = client.send_request(ask()).await.expect("an answer");
    for _ in 0..100 {
        sleep(Duration::from_secs(20)).await;
        let frame = response.body_mut().frame().await.expect("it has no end");
        frame.expect("it goes on for as long as it is read");
    }
}

#[tokio::test(start_paused = true)]
async fn h09_a_handler_that_is_silent_is_no_client_that_does_not_read() {
    let house = House::serve(tower::service_fn(|_: Request<Body>| async {
        let frames = futures_util::stream::unfold(0, |n| async move {
            sleep(Duration::from_secs(300)).await;
            let frame = http_body::Frame::data(Bytes::from_static(b"x"));
            (n < 3).then(|| (Ok::<_, BoxError>(frame), n + 1))
        });
        let body = Body::new(http_body_util::StreamBody::new(frames));
        Ok::<_, Infallible>(Response::new(body))
    }));
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = client(&house, 1 << 16).await;
    let response = client.send_request(ask()).await.expect("an answer");
    assert_eq!(text(response).await, "xxx");
}
