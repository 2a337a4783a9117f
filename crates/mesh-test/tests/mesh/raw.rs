//! What a client does that does not use our library: enrol, register, and speak bytes over mutual TLS.

use std::net::SocketAddr;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_core::BoxError;
use mesh_policy::identity::Identity;
use mesh_policy::plan::enrol::{Attestation, EnrolRequest, EnrolResponse};
use mesh_policy::plan::registration::Registration;
use mesh_policy::plan::watch::{Change, Event, Subscriptions, WatchRequest};
use mesh_policy::plan::{CAPABILITIES, PROTOCOL_VERSION};
use mesh_test::TestMesh;
use mesh_tls::anchors::{TrustBundle, TrustBundles};
use mesh_tls::config::{self, Alpn};
use mesh_tls::credentials::Credentials;
use mesh_tls::request::KeyPair;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Gets a certificate for `identity`, written `namespace/account`, with a fresh token.
pub(crate) async fn enrol(mesh: &TestMesh, identity: &str) -> Result<Credentials, BoxError> {
    let token = mesh.token(identity).await?;
    let key = KeyPair::generate()?;
    let csr = STANDARD.encode(key.signing_request()?.der());
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured((*config::joining(*token.root())).clone())
        .build()?;
    let answer = http
        .post(format!("{}/v1/identity", mesh.url()))
        .json(&EnrolRequest {
            version: PROTOCOL_VERSION,
            csr,
            attestation: Attestation::JoinToken(token.reveal()),
        })
        .send()
        .await?
        .error_for_status()?;
    let answer: EnrolResponse = answer.json().await?;
    let der = |texts: &[String]| {
        let decode = |text: &String| STANDARD.decode(text).map(Into::into);
        texts.iter().map(decode).collect::<Result<Vec<_>, _>>()
    };
    let domain = answer.identity.trust_domain().parse()?;
    let bundle = TrustBundle::new(domain, der(&answer.anchors)?)?;
    let bundles: TrustBundles = [bundle].into_iter().collect();
    Ok(Credentials::new(
        key,
        der(&answer.chain)?,
        bundles,
        SystemTime::now(),
    )?)
}

/// Opens a watch as `identity` and registers `address` as `service`.
pub(crate) async fn register(
    mesh: &TestMesh,
    identity: &str,
    service: &str,
    address: SocketAddr,
) -> Result<reqwest::Response, BoxError> {
    let credentials = enrol(mesh, identity).await?;
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured((*config::to_discovery(&credentials)).clone())
        .build()?;
    let mut watch = http
        .post(format!("{}/v1/watch", mesh.url()))
        .json(&WatchRequest {
            version: PROTOCOL_VERSION,
            capabilities: CAPABILITIES.iter().map(ToString::to_string).collect(),
            library: "raw".to_owned(),
            workload: "raw".to_owned(),
            instance: "raw-1".to_owned(),
            labels: [].into(),
            admin: None,
            resume: None,
            subscriptions: Subscriptions::default(),
        })
        .send()
        .await?
        .error_for_status()?;
    let first = watch.chunk().await?.ok_or("the watch said nothing")?;
    let line = first
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let event: Event = serde_json::from_slice(line)?;
    let Change::Welcome { watch: id, .. } = event.change else {
        return Err("the first event was no welcome".into());
    };
    let answer = http
        .put(format!("{}/v1/endpoints/raw-1", mesh.url()))
        .json(&Registration {
            watch: id,
            serves: service.parse()?,
            address,
            workload: "raw".to_owned(),
            instance: "raw-1".to_owned(),
            labels: [].into(),
            zone: None,
            weight: 100,
        })
        .send()
        .await?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("{status}: {}", answer.text().await?).into());
    }
    // The lease lives as long as the watch, so the caller holds it.
    Ok(watch)
}

/// Sends `bytes` over mutual TLS with HTTP/1.1 and gives all that comes back.
pub(crate) async fn speak(
    credentials: &Credentials,
    address: SocketAddr,
    expected: &str,
    bytes: &str,
) -> Result<String, BoxError> {
    let expected: Identity = expected.parse()?;
    let config = config::client(credentials, &expected, Alpn::Http1);
    let stream = TcpStream::connect(address).await?;
    let (mut stream, _) = mesh_tls::handshake::connect(stream, config).await?;
    stream.write_all(bytes.as_bytes()).await?;
    let mut answer = Vec::new();
    // A server that closes without a TLS farewell has still said what it said.
    drop(stream.read_to_end(&mut answer).await);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Asks for `/` over a bare TCP connection and gives all that comes back until the server closes it.
pub(crate) async fn get_in_plaintext(address: SocketAddr) -> Result<String, BoxError> {
    ask_in_plaintext(address, "/", "api.shop").await
}

/// Asks a program's admin port for `path`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<String, BoxError> {
    ask_in_plaintext(address, path, &address.to_string()).await
}

async fn ask_in_plaintext(address: SocketAddr, path: &str, host: &str) -> Result<String, BoxError> {
    let mut stream = TcpStream::connect(address).await?;
    let ask = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
