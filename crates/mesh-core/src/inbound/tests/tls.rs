//! Clients that prove who they are, and those that do not, with a real CA.

use std::time::{Duration, SystemTime};

use mesh_policy::identity::Identity;
use mesh_tls::config::{self, Alpn, ClientCertificates};
use mesh_tls::credentials::Credentials;
use mesh_tls::handshake;
use mesh_tls::issuer::{Issuer, Template};
use mesh_tls::request::KeyPair;
use mesh_tls::root::Root;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::*;
use crate::peer::Peer;

pub(super) const WEB: &str = "spiffe://mesh.local/ns/shop/sa/web";
pub(super) const API: &str = "spiffe://mesh.local/ns/shop/sa/api";

/// A certificate authority for one test.
pub(super) struct Authority(Issuer);

impl Authority {
    pub(super) fn new() -> Self {
        let domain = "mesh.local".parse().expect("a trust domain");
        let root = Root::create(&domain, SystemTime::now()).expect("a root");
        Self(root.sign_issuer(SystemTime::now()).expect("an issuer"))
    }

    fn credentials(&self, identity: &str) -> Credentials {
        self.credentials_for(identity, &Template::default())
    }

    fn credentials_for(&self, identity: &str, template: &Template) -> Credentials {
        let key = KeyPair::generate().expect("a key");
        let request = key.signing_request().expect("a request");
        let identity: Identity = identity.parse().expect("an identity");
        let now = SystemTime::now();
        let issued = self.0.issue(&request, &identity, template, now);
        let chain = issued.expect("a certificate").chain;
        Credentials::new(key, chain, self.0.bundle().clone().into(), now).expect("they fit")
    }

    pub(super) fn server(&self, identity: &str) -> Arc<ServerConfig> {
        config::server(&self.credentials(identity), ClientCertificates::Required)
    }

    pub(super) fn client(&self, alpn: Alpn) -> Arc<ClientConfig> {
        let api = API.parse().expect("an identity");
        config::client(&self.credentials(WEB), &api, alpn)
    }
}

fn house(authority: &Authority, mode: Inbound) -> House {
    let house = House::with(echo(), state(authority.server(API), mode));
    let any = ClientPlan::Identities {
        exact: [WEB.parse().expect("an identity")].into(),
        patterns: Vec::new(),
    };
    house.govern(vec![any]);
    house
}

pub(super) async fn http1_over(
    house: &House,
    config: Arc<ClientConfig>,
) -> http1::SendRequest<Body> {
    let pipe = house.connect().await;
    let (stream, _) = handshake::connect(pipe, config).await.expect("a handshake");
    let (send, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP/1.1");
    tokio::spawn(connection);
    send
}

pub(super) fn ask() -> Request<Body> {
    get("/").body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn a_peer_is_told_to_the_application_by_extension_and_by_header() {
    let authority = Authority::new();
    let app = tower::service_fn(|request: Request<Body>| async move {
        let peer = request.extensions().get::<Peer>().expect("a peer").clone();
        let tls = peer.tls().expect("it spoke TLS");
        assert_eq!((tls.version, tls.group), ("TLSv1.3", "X25519MLKEM768"));
        assert_eq!(request.headers()["x-mesh-client-id"], WEB);
        assert_eq!(request.headers()["l5d-client-id"], WEB);
        Ok::<_, Infallible>(Response::new(Body::from(peer.name())))
    });
    let house = House::with(app, state(authority.server(API), Inbound::Strict));
    let web = ClientPlan::Identities {
        exact: [WEB.parse().expect("an identity")].into(),
        patterns: Vec::new(),
    };
    house.govern(vec![web]);
    let mut client = http1_over(&house, authority.client(Alpn::Http1)).await;
    let forged = get("/").header("x-mesh-client-id", API).body(Body::empty());
    let response = client
        .send_request(forged.expect("a request"))
        .await
        .expect("an answer");
    assert_eq!(text(response).await, WEB);

    let pipe = house.connect().await;
    let (stream, facts) = handshake::connect(pipe, authority.client(Alpn::Http2))
        .await
        .expect("TLS");
    assert_eq!(facts.alpn, Alpn::Http2);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let response = client.send_request(ask()).await.expect("an answer");
    assert_eq!(text(response).await, WEB);
    assert!(
        house
            .recorder
            .render()
            .contains(&format!(r#"tls="true",client_id="{WEB}""#))
    );
}

#[tokio::test]
async fn z02_a_denied_peer_is_told_why_and_keeps_its_connection() {
    let authority = Authority::new();
    let house = house(&authority, Inbound::Detect);
    house.govern(Vec::new());
    let mut client = http1_over(&house, authority.client(Alpn::Http1)).await;
    for _ in 0..2 {
        client.ready().await.expect("the connection lives");
        let response = client.send_request(ask()).await.expect("an answer");
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["x-mesh-error"], "denied");
        let by = &response.headers()["x-mesh-denied-by"];
        assert_eq!(by, "default//some-server; reason=no-authorization");
        assert_eq!(text(response).await, "");
    }
    assert_eq!(house.calls(), 0);
    let counted = house.recorder.render();
    let denied = r#"status_code="403",classification="success",grpc_status="",error=""} 2"#;
    assert!(counted.contains(denied), "{counted}");
}

/// Believes any server: what a client that is no member of the mesh does.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        mesh_tls::provider::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

pub(super) fn without_certificate() -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(mesh_tls::provider::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

#[tokio::test]
async fn t02_a_client_without_a_certificate_is_refused_on_either_kind_of_port() {
    let authority = Authority::new();
    for mode in [Inbound::Strict, Inbound::Detect] {
        let house = house(&authority, mode);
        let connector = tokio_rustls::TlsConnector::from(without_certificate());
        let name = ServerName::try_from("mesh.invalid").expect("a name");
        let stream = connector.connect(name, house.connect().await).await;
        // In TLS 1.3 the client is done first: the refusal is what it reads.
        let mut stream = stream.expect("the client's side ends first");
        // The server may have hung up already; what it said is read all the same.
        drop(
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: api.shop\r\n\r\n")
                .await,
        );
        let error = stream
            .read_to_end(&mut Vec::new())
            .await
            .expect_err("refused");
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let required = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        assert_eq!(tls, Some(&required));
        assert_eq!(house.calls(), 0);

        // The control: a member of the mesh is let in on the same port.
        let mut member = http1_over(&house, authority.client(Alpn::Http1)).await;
        let response = member.send_request(ask()).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let counted = house.recorder.render();
        assert!(counted.contains(r#"reason="refused"} 1"#), "{counted}");
    }
}

#[tokio::test]
async fn a_strict_port_closes_plaintext_without_an_answer() {
    let authority = Authority::new();
    let house = house(&authority, Inbound::Strict);
    let mut pipe = house.connect().await;
    pipe.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("the pipe is open");
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer).await.expect("an end");
    assert!(answer.is_empty());
    assert!(house.recorder.render().contains(r#"reason="not-tls"} 1"#));
}

#[tokio::test]
async fn new_credentials_hold_for_the_next_handshake_and_old_connections_live() {
    let authority = Authority::new();
    let state = state(
        authority.server("spiffe://mesh.local/ns/shop/sa/old"),
        Inbound::Strict,
    );
    let credentials = Arc::clone(&state.credentials);
    let house = House::with(echo(), state);
    house.govern(vec![ClientPlan::Anyone]);
    let old = "spiffe://mesh.local/ns/shop/sa/old"
        .parse()
        .expect("an identity");
    let config = config::client(&authority.credentials(WEB), &old, Alpn::Http1);
    let mut early = http1_over(&house, config).await;
    credentials.store(authority.server(API));
    let mut late = http1_over(&house, authority.client(Alpn::Http1)).await;
    for client in [&mut early, &mut late] {
        let response = client.send_request(ask()).await.expect("an answer");
        assert_eq!(response.status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn t19_a_connection_ends_with_its_clients_certificate_and_its_streams_a_minute_later() {
    let authority = Authority::new();
    let house = House::with(
        turned::ticking(),
        state(authority.server(API), Inbound::Detect),
    );
    house.govern(vec![ClientPlan::Anyone]);
    let template = Template {
        ttl: Duration::from_secs(100),
        ..Template::default()
    };
    let credentials = authority.credentials_for(WEB, &template);
    let api = API.parse().expect("an identity");
    let config = config::client(&credentials, &api, Alpn::Http2);
    let pipe = house.connect().await;
    let (stream, _) = handshake::connect(pipe, config).await.expect("a handshake");
    let io = TokioIo::new(stream);
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), io)
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let started = Instant::now();
    let mut answer = send.send_request(ask()).await.expect("an answer");
    tokio::time::sleep(Duration::from_secs(95)).await;
    send.send_request(ask())
        .await
        .expect("another while it counts");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(
        send.send_request(ask()).await.is_err(),
        "none after its end"
    );
    while let Some(Ok(_)) = answer.body_mut().frame().await {}
    let seconds = started.elapsed().as_secs();
    assert!((155..=163).contains(&seconds), "cut after {seconds} s");
}
