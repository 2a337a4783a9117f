//! A server on free ports, and processes that talk to it as the protocol says.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use mesh_discovery::wire::TokenRequest;
use mesh_discovery::{Config, Server};
use mesh_policy::plan::PROTOCOL_VERSION;
use mesh_policy::plan::enrol::{Attestation, EnrolRequest, EnrolResponse, Refusal};
use mesh_policy::token::JoinToken;
use mesh_tls::anchors::TrustBundle;
use mesh_tls::config;
use mesh_tls::credentials::Credentials;
use mesh_tls::request::KeyPair;
use reqwest::Client;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

pub(crate) const HOLDS: &str = "the test's own set-up holds";

/// A server and its directory.
pub(crate) struct Discovery {
    pub(crate) server: Server,
    pub(crate) dir: TempDir,
}

impl Discovery {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect(HOLDS);
        let server = Server::start(config(&dir)).await.expect(HOLDS);
        Self { server, dir }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.server.address())
    }

    /// A token for `namespace/account`.
    pub(crate) async fn token(&self, who: &str) -> JoinToken {
        self.server.create_token(&request(who)).await.expect(HOLDS)
    }

    /// A client without a certificate.
    pub(crate) fn nobody(&self) -> Client {
        client(config::joining(*self.server.root_hash()))
    }

    /// Asks for a certificate for `key` with the token spelled `token`.
    pub(crate) async fn enrol(
        &self,
        token: &str,
        csr: &[u8],
    ) -> Result<EnrolResponse, (StatusCode, Refusal)> {
        let request = enrol_request(token, csr);
        let sent = self.nobody().post(self.url("/v1/identity"));
        answer(sent.body(request)).await
    }

    /// A process of `namespace/account`, with a token of its own.
    pub(crate) async fn join(&self, who: &str) -> Client {
        let token = self.token(who).await;
        self.join_with(&token).await
    }

    pub(crate) async fn join_with(&self, token: &JoinToken) -> Client {
        let key = KeyPair::generate().expect(HOLDS);
        let csr = key.signing_request().expect(HOLDS);
        let enrolled = self.enrol(&token.reveal(), csr.der()).await.expect(HOLDS);
        client(config::to_discovery(&credentials(key, &enrolled)))
    }
}

pub(crate) fn config(dir: &TempDir) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin: ([127, 0, 0, 1], 0).into(),
        data_dir: dir.path().to_owned(),
        ..Config::default()
    }
}

pub(crate) fn request(who: &str) -> TokenRequest {
    let (namespace, account) = who.split_once('/').expect(HOLDS);
    TokenRequest::new(
        namespace.parse().expect(HOLDS),
        account.parse().expect(HOLDS),
    )
}

pub(crate) fn enrol_request(token: &str, csr: &[u8]) -> String {
    let request = EnrolRequest {
        version: PROTOCOL_VERSION,
        csr: STANDARD.encode(csr),
        attestation: Attestation::JoinToken(token.to_owned()),
    };
    serde_json::to_string(&request).expect(HOLDS)
}

pub(crate) fn credentials(key: KeyPair, enrolled: &EnrolResponse) -> Credentials {
    let domain = enrolled.identity.trust_domain().parse().expect(HOLDS);
    let bundle = TrustBundle::new(domain, certificates(&enrolled.anchors)).expect(HOLDS);
    let chain = certificates(&enrolled.chain);
    Credentials::new(key, chain, bundle.into(), SystemTime::now()).expect(HOLDS)
}

pub(crate) fn certificates(encoded: &[String]) -> Vec<CertificateDer<'static>> {
    let decode = |text: &String| STANDARD.decode(text).expect(HOLDS).into();
    encoded.iter().map(decode).collect()
}

pub(crate) fn client(tls: std::sync::Arc<rustls::ClientConfig>) -> Client {
    Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .build()
        .expect(HOLDS)
}

/// The JSON of a good answer, or how it was refused.
pub(crate) async fn answer<T: serde::de::DeserializeOwned>(
    request: reqwest::RequestBuilder,
) -> Result<T, (StatusCode, Refusal)> {
    let response = request.send().await.expect(HOLDS);
    let status = response.status();
    let bytes = response.bytes().await.expect(HOLDS);
    if status.is_success() {
        return Ok(serde_json::from_slice(&bytes).expect(HOLDS));
    }
    Err((status, serde_json::from_slice(&bytes).expect(HOLDS)))
}

/// The status of an answer to a request without a body.
pub(crate) async fn status(client: &Client, method: Method, url: String) -> StatusCode {
    let request = client.request(method, url).body("");
    request.send().await.expect(HOLDS).status()
}
