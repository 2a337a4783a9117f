//! What a client that misbehaves costs the others: nothing.

use std::time::Duration;

use http::{Method, StatusCode, Version};
use mesh_discovery::listen::Limits;
use mesh_discovery::{Config, Server};
use mesh_tls::config;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::harness::{self, Discovery, HOLDS, calls, client, status, watch_request};

#[tokio::test]
async fn clients_that_never_finish_a_handshake_delay_nobody_and_are_dropped() {
    let discovery = with(Limits {
        handshake_timeout: Duration::from_millis(500),
        ..Limits::default()
    });
    let discovery = discovery.await;
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
async fn t26_clients_that_stop_anywhere_in_their_handshakes_keep_nobody_waiting() {
    let discovery = with(Limits {
        handshakes: 4,
        ..Limits::default()
    });
    let discovery = discovery.await;
    let hello = hello(&discovery);
    let mut stopped = Vec::new();
    for bytes in [&[][..], &[0x16, 3, 1], &hello].repeat(20) {
        let mut stream = connect(&discovery).await;
        stream.write_all(bytes).await.expect(HOLDS);
        if bytes.len() > 3 {
            stream.read_u8().await.expect("the server's answer");
        }
        stopped.push(stream);
    }
    // They end after 10 s by themselves.
    let answer = timeout(Duration::from_secs(8), ask(&discovery)).await;
    assert_eq!(answer.ok(), Some(StatusCode::UNAUTHORIZED));
    assert!(is_closed(&mut stopped[0]).await, "the oldest made room");
}

#[tokio::test]
async fn p13_clients_without_a_certificate_leave_room_for_members() {
    let discovery = with(Limits {
        connections: 16,
        ..Limits::default()
    });
    let discovery = discovery.await;
    let member = discovery.join_tls("shop/web").await;
    let mut anonymous = Vec::new();
    for _ in 0..20 {
        let nobody = discovery.nobody();
        assert_eq!(
            asked_by(&nobody, &discovery).await,
            StatusCode::UNAUTHORIZED
        );
        anonymous.push(nobody);
    }
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect(&discovery).await);
    }
    let member = client(&member);
    let answer = timeout(Duration::from_secs(8), asked_by(&member, &discovery)).await;
    assert_eq!(answer.ok(), Some(StatusCode::FORBIDDEN));
    drop((anonymous, silent));
}

async fn with(limits: Limits) -> Discovery {
    let dir = tempfile::tempdir().expect(HOLDS);
    let server = Server::start(Config {
        limits,
        ..harness::config(&dir)
    });
    Discovery::of(server.await.expect(HOLDS), dir)
}

async fn connect(discovery: &Discovery) -> TcpStream {
    let connected = TcpStream::connect(discovery.server.address()).await;
    connected.expect(HOLDS)
}

/// The whole hello of a client without a certificate.
fn hello(discovery: &Discovery) -> Vec<u8> {
    let tls = config::joining(*discovery.server.root_hash());
    let name = ServerName::try_from("mesh.invalid").expect(HOLDS);
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(tls, name).expect(HOLDS);
    client.write_tls(&mut hello).expect(HOLDS);
    hello
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut read = Vec::new();
    let ended = timeout(Duration::from_secs(5), stream.read_to_end(&mut read)).await;
    ended.is_ok()
}

/// A path that is an administrator's alone.
async fn ask(discovery: &Discovery) -> StatusCode {
    asked_by(&discovery.nobody(), discovery).await
}

async fn asked_by(client: &reqwest::Client, discovery: &Discovery) -> StatusCode {
    status(client, Method::GET, discovery.url("/v1/tokens")).await
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
    let old = client(&tls);
    let body = serde_json::to_string(&watch_request(calls(&[]), None)).expect(HOLDS);
    let answer = old.post(discovery.url("/v1/watch")).body(body).send().await;
    let answer = answer.expect(HOLDS);
    assert_eq!(answer.version(), Version::HTTP_11);
    assert_eq!(answer.status(), StatusCode::HTTP_VERSION_NOT_SUPPORTED);
}
