//! Clients that take their time (H07), on a clock that jumps.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep};

use super::*;

fn house() -> House {
    let house = House::serve(echo());
    house.govern(vec![ClientPlan::Anyone]);
    house
}

/// Writes one byte per second until the other end is gone; how long that took.
async fn drip(mut pipe: DuplexStream, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    for byte in bytes.iter().cycle() {
        if pipe.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    started.elapsed()
}

fn is_about(taken: Duration, limit: u64) -> bool {
    let limit = Duration::from_secs(limit);
    (limit..=limit + Duration::from_secs(11)).contains(&taken)
}

#[tokio::test(start_paused = true)]
async fn h07_a_head_of_one_byte_per_second_is_cut_after_30_seconds() {
    let house = house();
    let mut pipe = house.connect().await;
    pipe.write_all(b"GET / HTTP/1.1\r\nx-a: ")
        .await
        .expect("the pipe is open");
    let taken = drip(pipe, b"a").await;
    assert!(is_about(taken, 30), "{taken:?}");
    assert_eq!(house.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn h07_a_second_head_on_a_connection_is_not_trusted_more() {
    let house = house();
    let mut pipe = house.connect().await;
    pipe.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("the pipe is open");
    sleep(Duration::from_secs(100)).await;
    let taken = drip(pipe, b"G").await;
    assert!(is_about(taken, 30), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn h07_an_http2_head_of_one_byte_per_second_is_cut_after_30_seconds() {
    const HEADERS_OF_ONE_MEGABYTE: [u8; 9] = [0, 0x3f, 0xff, 1, 0, 0, 0, 0, 1];
    let house = house();
    let mut pipe = house.connect().await;
    pipe.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .expect("the pipe is open");
    pipe.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .expect("the pipe is open");
    pipe.write_all(&HEADERS_OF_ONE_MEGABYTE)
        .await
        .expect("the pipe is open");
    let taken = drip(pipe, &[0x40, 1, b'a', 1, b'b']).await;
    assert!(is_about(taken, 30), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn h07_a_client_that_says_nothing_is_gone_after_10_seconds() {
    let house = house();
    let mut pipe = house.connect().await;
    let started = Instant::now();
    assert_eq!(pipe.read(&mut [0; 8]).await.expect("an end"), 0);
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    let counted = house.recorder.render();
    assert!(counted.contains(r#"reason="timeout"} 1"#), "{counted}");
}

#[tokio::test(start_paused = true)]
async fn h07_a_connection_rests_for_5_minutes_in_http1() {
    let house = house();
    let mut client = house.http1().await;
    for _ in 0..2 {
        client.ready().await.expect("a resting connection is kept");
        let request = get("/").body(Body::from("x")).expect("a request");
        let response = client.send_request(request).await.expect("an answer");
        drop(text(response).await);
        sleep(Duration::from_secs(290)).await;
    }
    client.ready().await.expect("a resting connection is kept");
    sleep(Duration::from_secs(30)).await;
    assert!(client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn h07_a_connection_rests_for_5_minutes_in_http2_also_while_it_pings() {
    let house = house();
    let io = TokioIo::new(house.connect().await);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(hyper_util::rt::TokioTimer::new());
    builder
        .keep_alive_interval(Duration::from_secs(7))
        .keep_alive_while_idle(true);
    let (mut client, connection) = builder.handshake(io).await.expect("a pipe connects");
    tokio::spawn(connection);
    for _ in 0..2 {
        client.ready().await.expect("a resting connection is kept");
        let request = get("/").body(Body::from("x")).expect("a request");
        let response = client.send_request(request).await.expect("an answer");
        drop(text(response).await);
        sleep(Duration::from_secs(290)).await;
    }
    client.ready().await.expect("a resting connection is kept");
    sleep(Duration::from_secs(30)).await;
    assert!(client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn h07_a_body_that_falls_silent_is_answered_408_and_closed() {
    let house = House::serve(tower::service_fn(|request: Request<Body>| async {
        // As an extractor does: whatever is wrong with a body is the client's fault.
        let status = match request.into_body().collect().await {
            Ok(_) => 200,
            Err(_) => 400,
        };
        Response::builder().status(status).body(Body::empty())
    }));
    house.govern(vec![ClientPlan::Anyone]);
    let mut pipe = house.connect().await;
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhello";
    pipe.write_all(head).await.expect("the pipe is open");
    let started = Instant::now();
    let mut answer = String::new();
    pipe.read_to_string(&mut answer)
        .await
        .expect("text, and an end");
    assert_eq!(started.elapsed(), Duration::from_secs(30));
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn h07_the_plan_may_allow_silence() {
    let house = house();
    let mut patient = plan(vec![ClientPlan::Anyone])
        .understood()
        .expect("ours")
        .clone();
    patient.request_body_idle_ms = Some(0);
    let patient = Part::new("inbound/1", patient);
    house.policy.store(Arc::new(Policy::compile(&patient)));
    let mut pipe = house.connect().await;
    pipe.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na")
        .await
        .expect("open");
    sleep(Duration::from_secs(3600)).await;
    pipe.write_all(b"b").await.expect("the pipe is open");
    let mut answer = vec![0; 15];
    pipe.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 200 OK");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_says_goodbye_does_not_hold_up_a_drain() {
    let mut house = house();
    let mut silent = house.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    silent.write_all(preface).await.expect("the pipe is open");
    let mut stopped = house.connect().await;
    stopped
        .write_all(b"GET / HT")
        .await
        .expect("the pipe is open");
    sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    house.shut_down();
    house.task.await.expect("no panic");
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

/// An application that takes 20 s to be ready, anew for each request.
#[derive(Default)]
struct Busy(Option<Pin<Box<Sleep>>>);

impl Clone for Busy {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Service<Request<Body>> for Busy {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let wait = || Box::pin(sleep(Duration::from_secs(20)));
        self.0.get_or_insert_with(wait).as_mut().poll(cx).map(Ok)
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Response::new(Body::empty())))
    }
}

#[tokio::test(start_paused = true)]
async fn z02_a_denied_stranger_does_not_wait_for_a_busy_application() {
    let house = House::serve(Busy::default());
    for (clients, status, seconds) in [(vec![], 403, 0), (vec![ClientPlan::Anyone], 200, 20)] {
        house.govern(clients);
        let started = Instant::now();
        let request = get("/").body(Body::empty()).expect("a request");
        let response = house.http1().await.send_request(request).await;
        assert_eq!(response.expect("an answer").status(), status);
        assert_eq!(started.elapsed(), Duration::from_secs(seconds));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_an_upload_whose_response_has_ended() {
    let (told, mut uploads) = mpsc::channel(1);
    let mut house = House::serve(tower::service_fn(move |request: Request<Body>| {
        let told = told.clone();
        tokio::spawn(async move {
            let read = request.into_body().collect().await;
            told.send(read.map(|read| read.to_bytes().len()).ok()).await
        });
        async { Ok::<_, Infallible>(Response::new(Body::from("taken"))) }
    }));
    house.govern(vec![ClientPlan::Anyone]);
    let mut pipe = house.connect().await;
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n";
    pipe.write_all(head).await.expect("the pipe is open");
    assert!(pipe.read(&mut [0; 1024]).await.expect("an answer") > 0);
    house.shut_down();
    for _ in 0..50 {
        sleep(Duration::from_secs(1)).await;
        pipe.write_all(b"x").await.expect("the pipe is open");
    }
    assert_eq!(uploads.recv().await, Some(Some(50)));
    house.task.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn h07_a_stranger_whom_policy_refuses_does_not_rest() {
    const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for sent in [HTTP2, b"GET / HT"] {
        let house = house();
        house.govern(Vec::new());
        let mut pipe = house.connect().await;
        pipe.write_all(sent).await.expect("the pipe is open");
        let started = Instant::now();
        pipe.read_to_end(&mut Vec::new()).await.expect("an end");
        let taken = started.elapsed();
        assert!(is_about(taken, 10), "{taken:?}");
    }
}
