//! Connections that became something else than HTTP.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use super::*;

/// One connection at most, which becomes an echo of bytes.
fn house() -> House {
    let app = tower::service_fn(|mut request: Request<Body>| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgraded.await.expect("it is upgraded"));
            let (mut read, mut write) = tokio::io::split(&mut io);
            drop(tokio::io::copy(&mut read, &mut write).await);
        });
        Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "echo")
            .body(Body::empty())
    });
    let mut state = state(no_credentials(), Inbound::Detect);
    state.limits.connections = 1;
    let house = House::with(app, state);
    house.govern(vec![ClientPlan::Anyone]);
    house
}

/// Asks for an upgrade; what the answer begins with.
async fn upgrade(house: &House) -> (DuplexStream, String) {
    let mut pipe = house.connect().await;
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let mut answer = [0; 1024];
    let read = match pipe.write_all(ask).await {
        Ok(()) => pipe.read(&mut answer).await.expect("an answer or an end"),
        Err(_) => 0,
    };
    let status = answer[..read].split(|byte| *byte == b'\r').next();
    let status = String::from_utf8_lossy(status.unwrap_or_default()).into_owned();
    (pipe, status)
}

async fn echoes(pipe: &mut DuplexStream) -> bool {
    let mut echo = [0; 2];
    pipe.write_all(b"hi").await.is_ok() && pipe.read_exact(&mut echo).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_keeps_its_place_for_as_long_as_it_lives() {
    let house = house();
    let (mut pipe, status) = upgrade(&house).await;
    assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
    sleep(Duration::from_secs(1000)).await;
    assert!(echoes(&mut pipe).await, "it may rest");
    assert_eq!(upgrade(&house).await.1, "", "there is place for one");
    drop(pipe);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(upgrade(&house).await.1, status);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_an_upgraded_connection_and_then_cuts_it() {
    let mut house = house();
    let (mut pipe, _) = upgrade(&house).await;
    let started = Instant::now();
    house.shut_down();
    sleep(Duration::from_secs(119)).await;
    assert!(echoes(&mut pipe).await);
    house.task.await.expect("no panic");
    assert_eq!(started.elapsed(), Duration::from_secs(120));
    assert_eq!(pipe.read(&mut [0; 2]).await.expect("an end"), 0);
}
