//! What is spoken on the wire: versions, groups, protocols, and no way round a full handshake.

use std::sync::Arc;

use mesh_tls::config::{self, Alpn};
use mesh_tls::handshake::{accept, connect};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{Ticketer, kx_group};
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Domain, calling, meet, reason, strict};

/// A `ClientHello` of TLS 1.2, with nothing wrong but its age.
fn hello_of_tls12() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2c]);
    hello.extend([1, 0]);
    let extensions: &[&[u8]] = &[
        &[0, 10, 0, 6, 0, 4, 0, 29, 0, 23],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 6, 0, 4, 4, 3, 5, 3],
        &[0, 16, 0, 5, 0, 3, 2, b'h', b'2'],
    ];
    let extensions = extensions.concat();
    hello.extend(length(extensions.len()));
    hello.extend(extensions);
    let [high, low] = length(hello.len());
    let handshake = [&[1, 0, high, low], hello.as_slice()].concat();
    let [high, low] = length(handshake.len());
    [&[22, 3, 1, high, low], handshake.as_slice()].concat()
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("it is short").to_be_bytes()
}

#[tokio::test]
async fn t01_a_client_of_tls_1_2_gets_the_alert_protocol_version() {
    let mesh = Domain::new("mesh.local");
    let (web, orders) = (mesh.credentials("web"), mesh.credentials("orders"));
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    near.write_all(&hello_of_tls12()).await.unwrap();
    assert!(accept(far, strict(&orders)).await.is_err());
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);

    let met = meet(strict(&orders), calling(&web, orders.identity())).await;
    assert!(met.succeeded(), "control");
}

/// Connects three times with the same configurations, reading what the server sends after its
/// handshake, and tells of each whether it was resumed and how many tickets the client got.
async fn three_times(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> Vec<(HandshakeKind, u32)> {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let serve = async {
            let (mut stream, _) = accept(far, server.clone())
                .await
                .expect("the client is good");
            stream.write_all(b"!").await.expect("the client reads");
            stream
        };
        let call = async {
            let (mut stream, _) = connect(near, client.clone())
                .await
                .expect("the server is good");
            stream
                .read_exact(&mut [0])
                .await
                .expect("the server writes");
            let connection = stream.get_ref().1;
            let kind = connection.handshake_kind().expect("the handshake is over");
            (kind, connection.tls13_tickets_received())
        };
        let (_open, facts) = tokio::join!(serve, call);
        seen.push(facts);
    }
    seen
}

#[tokio::test]
async fn t17_every_handshake_is_a_full_one() {
    let mesh = Domain::new("mesh.local");
    let (web, orders) = (mesh.credentials("web"), mesh.credentials("orders"));
    let (server, client) = (strict(&orders), calling(&web, orders.identity()));
    let mut eager_client = (*client).clone();
    eager_client.resumption = Resumption::in_memory_sessions(16);
    eager_client.enable_early_data = true;
    let eager_client = Arc::new(eager_client);
    let mut eager_server = (*server).clone();
    eager_server.send_tls13_tickets = 2;
    eager_server.session_storage = ServerSessionMemoryCache::new(16);
    eager_server.ticketer = Ticketer::new().unwrap();
    let eager_server = Arc::new(eager_server);

    let full = |tickets| vec![(HandshakeKind::Full, tickets); 3];
    assert_eq!(three_times(server.clone(), client.clone()).await, full(0));
    assert_eq!(
        three_times(server.clone(), eager_client.clone()).await,
        full(0)
    );
    assert_eq!(three_times(eager_server.clone(), client).await, full(2));
    let resumed = three_times(eager_server, eager_client).await;
    assert_eq!(resumed[2].0, HandshakeKind::Resumed, "control");
    // Without a store the number has no effect, and without the number the store has none.
    assert_eq!(server.send_tls13_tickets, 0);
    assert!(!server.session_storage.can_cache());
    assert_eq!(server.max_early_data_size, 0);
}

#[tokio::test]
async fn t24_only_strong_suites_groups_and_signatures_are_offered() {
    let mesh = Domain::new("mesh.local");
    let (web, orders) = (mesh.credentials("web"), mesh.credentials("orders"));
    let client = calling(&web, orders.identity());
    let provider = client.crypto_provider();
    let groups: Vec<_> = provider.kx_groups.iter().map(|g| g.name()).collect();
    let names: Vec<_> = groups.iter().filter_map(|g| g.as_str()).collect();
    assert_eq!(
        names,
        ["X25519MLKEM768", "X25519", "secp256r1", "secp384r1"]
    );
    for suite in &provider.cipher_suites {
        assert!(suite.tls13().is_some(), "{suite:?}");
    }
    let schemes = provider
        .signature_verification_algorithms
        .supported_schemes();
    let schemes = format!("{schemes:?}");
    assert!(
        !schemes.contains("RSA") && !schemes.contains("SHA1"),
        "{schemes}"
    );

    // A peer without post-quantum groups is still met, and the facts say so.
    let mut classic = (**provider).clone();
    classic.kx_groups = vec![kx_group::X25519];
    let ours = strict(&orders);
    let mut older = ServerConfig::builder_with_provider(Arc::new(classic))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(ours.cert_resolver.clone());
    older.alpn_protocols = ours.alpn_protocols.clone();
    let met = meet(Arc::new(older), client).await;
    assert_eq!(met.client.unwrap().group, "X25519");
}

#[tokio::test]
async fn t25_without_an_agreed_protocol_there_is_no_connection() {
    let mesh = Domain::new("mesh.local");
    let (web, orders) = (mesh.credentials("web"), mesh.credentials("orders"));
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let client = config::client(&web, orders.identity(), alpn);
        let met = meet(strict(&orders), client).await;
        assert!(met.succeeded(), "control");
        assert_eq!(met.server.unwrap().alpn, alpn);
        assert_eq!(met.client.unwrap().alpn, alpn);
    }
    let offering = |protocols: &[&str]| {
        let mut client = (*calling(&web, orders.identity())).clone();
        client.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(client)
    };
    for protocols in [&["foo"] as &[&str], &["H2"], &[]] {
        let met = meet(strict(&orders), offering(protocols)).await;
        assert!(!met.answered, "{protocols:?}");
        assert_eq!(reason(met.server), "NoAgreedAlpn", "{protocols:?}");
        assert!(met.client.is_err(), "{protocols:?}");
    }
    let mut silent = (*strict(&orders)).clone();
    silent.alpn_protocols.clear();
    let met = meet(Arc::new(silent), calling(&web, orders.identity())).await;
    assert_eq!(reason(met.client), "NoAgreedAlpn");
}
