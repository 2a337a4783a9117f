//! A server on free ports, and processes that talk to it as the protocol says.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use mesh_discovery::client::kubeconfig::Kubeconfig;
use mesh_discovery::wire::TokenRequest;
use mesh_discovery::{Config, Server};
use mesh_policy::plan::enrol::{Attestation, EnrolRequest, EnrolResponse, Refusal};
use mesh_policy::plan::registration::Registration;
use mesh_policy::plan::watch::{Change, Cursor, Event, Subscriptions, WatchRequest};
use mesh_policy::plan::{CAPABILITIES, PROTOCOL_VERSION};
use mesh_policy::token::JoinToken;
use mesh_tls::anchors::TrustBundle;
use mesh_tls::config;
use mesh_tls::credentials::Credentials;
use mesh_tls::pem;
use mesh_tls::request::KeyPair;
use reqwest::Client;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

pub(crate) const HOLDS: &str = "the test's own set-up holds";

/// A server and its directory.
pub(crate) struct Discovery {
    pub(crate) server: Server,
    /// Removed with it.
    _dir: TempDir,
}

impl Discovery {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect(HOLDS);
        let server = Server::start(config(&dir)).await.expect(HOLDS);
        Self::of(server, dir)
    }

    pub(crate) fn of(server: Server, dir: TempDir) -> Self {
        Self { server, _dir: dir }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.server.address())
    }

    /// Status and text of `path` on the admin port.
    pub(crate) async fn admin(&self, path: &str) -> (StatusCode, String) {
        let url = format!("http://{}/{path}", self.server.admin_address());
        // It speaks plain HTTP there; reqwest wants to know of TLS all the same.
        let answer = self.nobody().get(url).send().await.expect(HOLDS);
        (answer.status(), answer.text().await.expect(HOLDS))
    }

    /// A token for `namespace/account`.
    pub(crate) async fn token(&self, who: &str) -> JoinToken {
        self.server.create_token(&request(who)).await.expect(HOLDS)
    }

    /// A client without a certificate.
    pub(crate) fn nobody(&self) -> Client {
        client(&config::joining(*self.server.root_hash()))
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
        client(&*self.join_tls(who).await)
    }

    /// What such a process runs to reach this server.
    pub(crate) async fn join_tls(&self, who: &str) -> Arc<ClientConfig> {
        let token = self.token(who).await;
        self.tls_with(&token).await
    }

    pub(crate) async fn join_with(&self, token: &JoinToken) -> Client {
        client(&*self.tls_with(token).await)
    }

    async fn tls_with(&self, token: &JoinToken) -> Arc<ClientConfig> {
        let key = KeyPair::generate().expect(HOLDS);
        let csr = key.signing_request().expect(HOLDS);
        let enrolled = self.enrol(&token.reveal(), csr.der()).await.expect(HOLDS);
        config::to_discovery(&credentials(key, &enrolled))
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
        csr: encode(csr),
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

pub(crate) fn encode(der: &[u8]) -> String {
    STANDARD.encode(der)
}

pub(crate) fn certificates(encoded: &[String]) -> Vec<CertificateDer<'static>> {
    let decode = |text: &String| STANDARD.decode(text).expect(HOLDS).into();
    encoded.iter().map(decode).collect()
}

pub(crate) fn client(tls: &ClientConfig) -> Client {
    Client::builder()
        .tls_backend_preconfigured(tls.clone())
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

/// A watch, as a process holds it.
pub(crate) struct Watch {
    pub(crate) id: String,
    pub(crate) reset: bool,
    response: reqwest::Response,
    buffer: Vec<u8>,
}

pub(crate) fn watch_request(wanted: Subscriptions, resume: Option<Cursor>) -> WatchRequest {
    WatchRequest {
        version: PROTOCOL_VERSION,
        capabilities: CAPABILITIES.iter().map(|&name| name.to_owned()).collect(),
        library: "test".into(),
        workload: "api".into(),
        instance: "api-1".into(),
        labels: [("app".to_owned(), "api".to_owned())].into(),
        admin: None,
        resume,
        subscriptions: wanted,
    }
}

pub(crate) fn calls(services: &[&str]) -> Subscriptions {
    Subscriptions {
        services: services.iter().map(|s| s.parse().expect(HOLDS)).collect(),
        ..Subscriptions::default()
    }
}

pub(crate) fn serves(service: &str) -> Subscriptions {
    Subscriptions {
        inbound: [service.parse().expect(HOLDS)].into(),
        ..Subscriptions::default()
    }
}

impl Discovery {
    /// Opens a watch and reads its welcome.
    pub(crate) async fn watch(&self, client: &Client, request: &WatchRequest) -> Watch {
        let body = serde_json::to_string(request).expect(HOLDS);
        let sent = client.post(self.url("/v1/watch")).body(body).send().await;
        let response = sent.expect(HOLDS);
        assert_eq!(response.status(), StatusCode::OK);
        let mut watch = Watch {
            id: String::new(),
            reset: false,
            response,
            buffer: Vec::new(),
        };
        let Change::Welcome {
            watch: id, reset, ..
        } = watch.next().await.change
        else {
            panic!("the first event is no welcome");
        };
        Watch { id, reset, ..watch }
    }

    /// Registers an endpoint of `service`.
    pub(crate) async fn register(
        &self,
        client: &Client,
        watch: &str,
        id_and_service: (&str, &str),
    ) -> Result<(), (StatusCode, Refusal)> {
        let (id, service) = id_and_service;
        let registration = Registration {
            watch: watch.to_owned(),
            serves: service.parse().expect(HOLDS),
            address: ([127, 0, 0, 1], 9).into(),
            workload: "api".into(),
            instance: "api-1".into(),
            labels: [("app".to_owned(), "api".to_owned())].into(),
            zone: None,
            weight: 100,
        };
        self.put(client, &format!("/v1/endpoints/{id}"), &registration)
            .await
    }

    pub(crate) async fn put(
        &self,
        client: &Client,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<(), (StatusCode, Refusal)> {
        let body = serde_json::to_string(body).expect(HOLDS);
        let sent = client.put(self.url(path)).body(body).send().await;
        let response = sent.expect(HOLDS);
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let bytes = response.bytes().await.expect(HOLDS);
        Err((status, serde_json::from_slice(&bytes).expect(HOLDS)))
    }
}

impl Watch {
    /// The next event, within the time in which a watch must say something.
    pub(crate) async fn next(&mut self) -> Event {
        let next = async {
            loop {
                if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.buffer.drain(..=end).collect();
                    return serde_json::from_slice(&line).expect("every line is an event");
                }
                let chunk = self.response.chunk().await.expect(HOLDS);
                let chunk = chunk.expect("the watch goes on");
                self.buffer.extend_from_slice(&chunk);
            }
        };
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, next)
            .await
            .expect("an event comes within 10 s")
    }

    /// The next event that is no heartbeat.
    pub(crate) async fn news(&mut self) -> Event {
        loop {
            let event = self.next().await;
            if !matches!(event.change, Change::Heartbeat { .. }) {
                return event;
            }
        }
    }

    /// The ids of the next endpoint set that is told whole or changed.
    pub(crate) async fn endpoints(&mut self) -> (Vec<String>, Vec<String>) {
        loop {
            if let Change::Endpoints { delta, .. } = self.news().await.change {
                let put = delta.put.0.keys().map(|id| id.to_string()).collect();
                return (put, delta.gone.into_iter().collect());
            }
        }
    }

    /// Whether the server has ended the stream.
    pub(crate) async fn ends(mut self) -> bool {
        let end = async { while let Ok(Some(_)) = self.response.chunk().await {} };
        tokio::time::timeout(Duration::from_secs(5), end)
            .await
            .is_ok()
    }
}

/// A client with the credentials of a kubeconfig.
pub(crate) fn of_kubeconfig(text: &str) -> Client {
    let kubeconfig = Kubeconfig::parse(text, None).expect(HOLDS);
    let domain = "mesh.local".parse().expect(HOLDS);
    let bundle = TrustBundle::from_pem(domain, &kubeconfig.anchors).expect(HOLDS);
    let chain = pem::read(&kubeconfig.chain).expect(HOLDS);
    let key = KeyPair::from_pem(&kubeconfig.key).expect(HOLDS);
    let admin = Credentials::new(key, chain, bundle.into(), SystemTime::now());
    client(&config::to_discovery(&admin.expect(HOLDS)))
}
