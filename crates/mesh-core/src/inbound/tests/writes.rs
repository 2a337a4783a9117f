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
