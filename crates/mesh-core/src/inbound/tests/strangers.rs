//! Clients that stop before they have proved who they are, and the members who come after them.

use std::time::Duration;

use mesh_tls::config::Alpn;
use mesh_tls::handshake;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::tls::{API, Authority, WEB, ask, http1_over, without_certificate};
use super::*;

#[tokio::test(start_paused = true)]
async fn t26_clients_that_stop_anywhere_in_their_handshakes_keep_nobody_waiting() {
    let authority = Authority::new();
    let mut state = state(authority.server(API), Inbound::Strict);
    state.limits.handshakes = 4;
    let house = House::with(echo(), state);
    house.govern(vec![ClientPlan::Anyone]);
    let started = Instant::now();
    let mut stopped = Vec::new();
    for _ in 0..8 {
        stopped.push(house.connect().await);
        let mut pipe = house.connect().await;
        let some_of_a_hello = [0x16, 3, 1];
        pipe.write_all(&some_of_a_hello).await.expect("it is open");
        stopped.push(pipe);
        stopped.push(stop_after_hello(&house).await);
    }
    let mut member = http1_over(&house, authority.client(Alpn::Http1)).await;
    let response = member.send_request(ask()).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(started.elapsed(), Duration::ZERO);
    let counted = house.recorder.render();
    assert!(counted.contains(r#"reason="evicted"} 21"#), "{counted}");
    // Those that were not needed end by their own time, and the member is none of them.
    tokio::time::sleep(Duration::from_secs(11)).await;
    for mut pipe in stopped {
        pipe.read_to_end(&mut Vec::new()).await.expect("an end");
    }
    assert!(member.send_request(ask()).await.is_ok());
}

/// A client that says a whole hello and then nothing.
async fn stop_after_hello(house: &House) -> DuplexStream {
    let name = ServerName::try_from("mesh.invalid").expect("a name");
    let mut hello = Vec::new();
    rustls::ClientConnection::new(without_certificate(), name)
        .expect("a client")
        .write_tls(&mut hello)
        .expect("in memory");
    let mut pipe = house.connect().await;
    pipe.write_all(&hello).await.expect("the pipe is open");
    pipe.read_u8().await.expect("the server's answer");
    pipe
}

#[tokio::test(start_paused = true)]
async fn p13_strangers_that_hold_sockets_leave_room_for_members() {
    let authority = Authority::new();
    let mut state = state(authority.server(API), Inbound::Detect);
    state.limits.connections = 8;
    let house = House::with(echo(), state);
    let web = ClientPlan::Identities {
        exact: [WEB.parse().expect("an identity")].into(),
        patterns: Vec::new(),
    };
    house.govern(vec![web]);
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(house.connect().await);
        let mut plaintext = house.connect().await;
        plaintext.write_all(b"G").await.expect("it is open");
        held.push(plaintext);
        tokio::task::yield_now().await;
    }
    let mut members = Vec::new();
    for _ in 0..8 {
        members.push(http1_over(&house, authority.client(Alpn::Http1)).await);
    }
    for member in &mut members {
        let response = member.send_request(ask()).await.expect("an answer");
        assert_eq!(response.status(), 200);
    }
    let mut stranger = house.connect().await;
    stranger.read_to_end(&mut Vec::new()).await.expect("an end");
    let counted = house.recorder.render();
    let refused = counted.lines().find(|line| {
        line.starts_with("mesh_inbound_connections_refused_total{") && line.ends_with(" 1")
    });
    assert!(refused.is_some(), "the members alone fill it: {counted}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_takes_the_credentials_of_the_moment_its_hello_is_whole() {
    let authority = Authority::new();
    let state = state(authority.server(WEB), Inbound::Strict);
    let credentials = Arc::clone(&state.credentials);
    let house = House::with(echo(), state);
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let client = tokio::spawn(handshake::connect(near, authority.client(Alpn::Http1)));
    let mut hello = vec![0; 8_192];
    let length = far.read(&mut hello).await.expect("a hello");
    let (begin, rest) = hello[..length].split_at(length / 2);
    let mut pipe = house.connect().await;
    pipe.write_all(begin).await.expect("it is open");
    tokio::time::sleep(Duration::from_secs(1)).await;
    credentials.store(authority.server(API));
    pipe.write_all(rest).await.expect("it is open");
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut pipe).await });
    let connected = client.await.expect("no panic");
    connected.expect("the new identity is the one it expects");
}
