//! The whole stack of a listener over pipes in memory: real bytes, a clock that jumps.

mod heads;
mod hosts;
mod paths;
mod plaintext;
mod series;
mod slow;
mod strangers;
mod tls;
mod turned;
mod unprocessed;
mod upgrade;
mod writes;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_policy::plan::inbound::{AuthorizationPlan, ClientPlan, EffectPlan, InboundPlan};
use mesh_policy::plan::part::Part;
use rustls::ServerConfig;
use tokio::io::DuplexStream;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::listener::{InboundState, Served, run};
use super::*;
use crate::config::Inbound;
use crate::telemetry::{Metrics, Recorder, Workload};
use crate::transport::accept::Listen;

const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// A listener that takes one end of each pipe.
struct Pipes(Mutex<mpsc::Receiver<DuplexStream>>);

impl Listen for Pipes {
    type Io = DuplexStream;

    async fn accept(&self) -> std::io::Result<(DuplexStream, SocketAddr)> {
        match self.0.lock().await.recv().await {
            Some(pipe) => Ok((pipe, SocketAddr::from(([10, 0, 0, 9], 50_000)))),
            None => std::future::pending().await,
        }
    }
}

/// A served application and what governs it.
struct House {
    pipes: mpsc::Sender<DuplexStream>,
    policy: Arc<ArcSwap<Policy>>,
    recorder: Recorder,
    /// How often the application was called.
    calls: Arc<AtomicU32>,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl House {
    /// Serves `app` in plaintext and TLS, with nothing known of its policy yet.
    fn serve<A, B>(app: A) -> Self
    where
        A: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        A::Error: Into<BoxError>,
        A::Future: Send + 'static,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::with(app, state(no_credentials(), Inbound::Detect))
    }

    fn with<A, B>(app: A, state: InboundState) -> Self
    where
        A: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        A::Error: Into<BoxError>,
        A::Future: Send + 'static,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (pipes, incoming) = mpsc::channel(8);
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let app = app.map_request(move |request| {
            counted.fetch_add(1, Ordering::Relaxed);
            request
        });
        let (shutdown, told) = oneshot::channel::<()>();
        let policy = Arc::clone(&state.policy);
        let recorder = state.recorder.clone();
        let served = Served::new(app, state, ADDRESS);
        let told = async {
            // A house that is dropped without a word keeps its listener until the runtime ends.
            if told.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let task = tokio::spawn(run(Pipes(Mutex::new(incoming)), ADDRESS, served, told));
        Self {
            pipes,
            policy,
            recorder,
            calls,
            shutdown: Some(shutdown),
            task,
        }
    }

    /// Lets these clients in.
    fn govern(&self, authorizations: Vec<ClientPlan>) {
        self.policy
            .store(Arc::new(Policy::compile(&plan(authorizations))));
    }

    async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.pipes.send(theirs).await.expect("the listener lives");
        ours
    }

    async fn http1(&self) -> http1::SendRequest<Body> {
        let io = TokioIo::new(self.connect().await);
        let (send, connection) = http1::handshake(io).await.expect("a pipe connects");
        tokio::spawn(connection);
        send
    }

    async fn http2(&self) -> http2::SendRequest<Body> {
        let io = TokioIo::new(self.connect().await);
        let (send, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .expect("a pipe connects");
        tokio::spawn(connection);
        send
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn shut_down(&mut self) {
        let told = self.shutdown.take().expect("only once").send(());
        told.expect("the listener lives");
    }
}

fn plan(clients: Vec<ClientPlan>) -> Part<InboundPlan> {
    let authorization = |client| {
        let mut source = mesh_policy::name::ObjectRef::builtin("some-policy");
        source.group = "policy.linkerd.io".into();
        source.kind = "AuthorizationPolicy".into();
        Part::new(
            "authorization/1",
            AuthorizationPlan {
                source,
                effect: EffectPlan::Allow,
                networks: Vec::new(),
                client,
            },
        )
    };
    Part::new(
        "inbound/1",
        InboundPlan {
            port: "api.shop:80".parse().expect("a port"),
            server: mesh_policy::name::ObjectRef::builtin("some-server"),
            http: mesh_policy::plan::endpoint::HttpVersions::Both,
            authorizations: clients.into_iter().map(authorization).collect(),
            narrowed_by: Vec::new(),
            request_body_idle_ms: None,
        },
    )
}

fn state(credentials: Arc<ServerConfig>, mode: Inbound) -> InboundState {
    InboundState {
        credentials: Arc::new(ArcSwap::new(credentials)),
        policy: Arc::new(ArcSwap::new(Arc::new(Policy::Awaited))),
        mode,
        authority: Some(http::HeaderValue::from_static("api.shop")),
        limits: crate::transport::Limits::default(),
        recorder: Recorder::new(Metrics::Own).expect("an own recorder is always there"),
        workload: Workload {
            namespace: "shop".into(),
            deployment: "api".into(),
            pod: "api-1".into(),
        },
    }
}

/// A configuration that no handshake succeeds with.
fn no_credentials() -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(mesh_tls::provider::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider speaks TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    Arc::new(config)
}

/// Answers with the request's headers as its own, and its body.
fn echo() -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send {
    tower::service_fn(|request: Request<Body>| async {
        let (head, body) = request.into_parts();
        let mut response = Response::new(body);
        for (name, value) in &head.headers {
            let copy = http::HeaderName::try_from(format!("seen-{name}")).expect("a name");
            response.headers_mut().append(copy, value.clone());
        }
        Ok(response)
    })
}

fn get(path: &str) -> http::request::Builder {
    Request::builder()
        .uri(format!("http://api.shop{path}"))
        .header("host", "api.shop")
}

async fn text<B>(response: Response<B>) -> String
where
    B: HttpBody,
    B::Error: std::fmt::Debug,
{
    let body = response.into_body().collect().await.expect("a whole body");
    String::from_utf8(body.to_bytes().into()).expect("text")
}
