//! What a client that misbehaves costs the others: nothing.

use std::time::Duration;

use http::{Method, StatusCode, Version};
use mesh_discovery::listen::Limits;
use mesh_discovery::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::harness::{Discovery, HOLDS, calls, config, status, watch_request};

#[tokio::test]
async fn clients_that_never_finish_a_handshake_delay_nobody_and_are_dropped() {
    let dir = tempfile::tempdir().expect(HOLDS);
    let limits = Limits {
        handshake_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = Server::start(Config {
        limits,
        ..config(&dir)
    });
    let discovery = Discovery::of(server.await.expect(HOLDS), dir);
    let mut silent = Vec::new();
    for _ in 0..100 {
        let connected = TcpStream::connect(discovery.server.address()).await;
        silent.push(connected.expect(HOLDS));
    }
    let begun = Instant::now();
    let nobody = discovery.nobody();
    let url = discovery.url("/v1/tokens");
    assert_eq!(
        status(&nobody, Method::GET, url).await,
        StatusCode::UNAUTHORIZED
    );
    assert!(begun.elapsed() < Duration::from_secs(3));
    for mut stream in silent {
        let closed = timeout(Duration::from_secs(5), stream.read(&mut [0; 8])).await;
        assert_eq!(closed.expect("it is dropped").unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn clients_that_say_nothing_take_no_turn_to_shake_hands() {
    let dir = tempfile::tempdir().expect(HOLDS);
    let limits = Limits {
        handshakes: 2,
        ..Limits::default()
    };
    let server = Server::start(Config {
        limits,
        ..config(&dir)
    });
    let discovery = Discovery::of(server.await.expect(HOLDS), dir);
    let mut silent = Vec::new();
    for _ in 0..20 {
        let connected = TcpStream::connect(discovery.server.address()).await;
        silent.push(connected.expect(HOLDS));
    }
    let nobody = discovery.nobody();
    let url = discovery.url("/v1/tokens");
    let answer = status(&nobody, Method::GET, url);
    // They are dropped after 10 s, and their turns would be free by then.
    let answer = timeout(Duration::from_secs(8), answer).await;
    assert_eq!(answer.ok(), Some(StatusCode::UNAUTHORIZED));
    drop(silent);
}

#[tokio::test]
async fn plaintext_gets_no_answer() {
    let discovery = Discovery::start().await;
    let connected = TcpStream::connect(discovery.server.address()).await;
    let mut stream = connected.expect(HOLDS);
    let request = b"GET /v1/tokens HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.expect(HOLDS);
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    drop(read.expect("it is closed"));
    assert!(!answer.starts_with(b"HTTP"), "an alert at most: {answer:?}");
}

#[tokio::test]
async fn a_watch_over_http1_is_refused_since_it_cannot_be_pinged() {
    let discovery = Discovery::start().await;
    let tls = discovery.join_tls("shop/web").await;
    let mut tls = (*tls).clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let old = crate::harness::client(&tls);
    let body = serde_json::to_string(&watch_request(calls(&[]), None)).expect(HOLDS);
    let answer = old.post(discovery.url("/v1/watch")).body(body).send().await;
    let answer = answer.expect(HOLDS);
    assert_eq!(answer.version(), Version::HTTP_11);
    assert_eq!(answer.status(), StatusCode::HTTP_VERSION_NOT_SUPPORTED);
}
