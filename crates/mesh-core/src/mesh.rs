//! The handle on the mesh: join, serve, call, drain.
//!
//! A [`Mesh`] holds channels and shared state only. What runs on its behalf runs
//! on a thread of its own, which ends with the last handle; connections run on
//! the application's runtime.

mod client;
mod server;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_policy::identity::Identity;
use tokio::sync::{oneshot, watch};

pub use client::{Client, Sending};
pub use server::{ServeError, Server};

use crate::config::{Config, InvalidConfig};
use crate::discovery::{Control, Joined, Setup, start};
pub use crate::discovery::{LinkFailed, TokenUnreadable};
use crate::telemetry::errors::{Errors, OUTBOUND_HTTP};
use crate::telemetry::{InvalidMetrics, Recorder, Workload};
use crate::{BoxError, outbound};

/// A process's place in the mesh. Cheap to clone; the last one dropped, with its
/// clients and servers, ends it.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use mesh_core::{Body, Config, Mesh};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let mesh = Mesh::join(Config::from_env()?).await?;
///
/// let client = mesh.client();
/// let request = http::Request::get("http://orders.shop/cart").body(Body::empty())?;
/// let response = client.send(request).await?;
///
/// let app = Router::new().route("/", get(|| async { "hello" }));
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
/// mesh.serve(listener, app).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

/// What all handles share.
struct Inner {
    config: Arc<Config>,
    recorder: Recorder,
    joined: Joined,
    outbound: outbound::Outbound,
    /// Calls that the mesh answered with an error.
    errors: Arc<Errors>,
    draining: watch::Sender<bool>,
    /// How many listeners are being served.
    servers: watch::Sender<usize>,
    control: Control,
}

impl Mesh {
    /// Joins the mesh: waits until discovery has given an identity and opened a watch.
    ///
    /// Discovery that cannot be reached is tried again, after 0.5 s to 30 s with full
    /// jitter, until [`Config::join_timeout`] has passed. The admin port is up before
    /// this returns.
    ///
    /// # Errors
    ///
    /// [`JoinError`] for a configuration that cannot work, and at once for a refusal.
    pub async fn join(config: Config) -> Result<Self, JoinError> {
        config.check()?;
        let recorder = Recorder::new(config.metrics.clone())?;
        let config = Arc::new(config);
        let (draining, drained) = watch::channel(false);
        let trouble = Arc::new(Mutex::new(None));
        let setup = Setup {
            config: Arc::clone(&config),
            recorder: recorder.clone(),
            draining: drained,
            trouble: Arc::clone(&trouble),
        };
        let (tell, told) = oneshot::channel();
        let control = start(setup, tell).map_err(JoinError::Thread)?;
        let told = match config.join_timeout {
            None => told.await,
            Some(limit) => tokio::time::timeout(limit, told).await.map_err(|_| {
                let trouble = trouble
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                let trouble = trouble.unwrap_or_else(|| "it gave no answer yet".to_owned());
                JoinError::TimedOut { limit, trouble }
            })?,
        };
        let joined = told.map_err(|_| JoinError::Ended)??;
        say_joined(&joined, &config);
        let series =
            crate::layers::retry::Series::new(recorder.clone(), Arc::clone(&joined.workload));
        let errors = Errors::outbound(&recorder, &joined.workload, OUTBOUND_HTTP);
        let inner = Inner {
            errors: Arc::new(errors),
            outbound: outbound::stack(
                Arc::clone(&joined.plans),
                Arc::new(series),
                config.replay_limit,
            ),
            config,
            recorder,
            joined,
            draining,
            servers: watch::Sender::new(0),
            control,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// A client of every service in the mesh.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.inner.outbound.clone(), self.clone())
    }

    /// Who this process is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.joined.identity
    }

    /// What this process is called: the names that its metrics carry.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.inner.joined.workload
    }

    /// Where `/metrics`, `/ready`, `/live` and `/plan` are; `None` if they are switched off.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.inner.joined.admin
    }

    /// Where the mesh's series live, for metrics of an application's own and for tests.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.inner.recorder
    }

    /// Whether this process should get traffic; [`Mesh::not_ready`] says why not.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.not_ready().is_empty()
    }

    /// Why this process should get no traffic, as `/ready` shows it; empty when it should.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = self.inner.joined.status.not_ready();
        if !self.inner.control.is_running() {
            reasons
                .push("the mesh's control thread has ended: see its panic in the log".to_owned());
        }
        reasons
    }

    /// Drains every listener and waits until all are done: it is not ready any more,
    /// leaves the endpoints of its services, then finishes what is in flight. At last discovery is
    /// told of the traffic that it has not heard of, for at most a second: a program that calls
    /// and ends, and serves nothing, drains for that.
    ///
    /// There is no way back. Calls that go out are not touched.
    pub async fn drain(&self) {
        self.inner.draining.send_replace(true);
        let mut servers = self.inner.servers.subscribe();
        // The sender lives as long as `self`, so this ends with the last listener.
        drop(servers.wait_for(|servers| *servers == 0).await);
        self.inner.joined.flush.all().await;
    }
}

/// Says who this process is now, and where it shows itself.
fn say_joined(joined: &Joined, config: &Config) {
    let discovery: Vec<String> = config.discovery.iter().map(ToString::to_string).collect();
    let admin = joined.admin.map(|admin| admin.to_string());
    tracing::info!(
        identity = %joined.identity,
        discovery = discovery.join(","),
        admin = admin.as_deref().unwrap_or("off"),
        "joined the mesh"
    );
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh")
            .field("identity", &self.inner.joined.identity)
            .field("admin", &self.inner.joined.admin)
            .finish_non_exhaustive()
    }
}

/// A process could not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// There is no recorder for the metrics.
    #[error(transparent)]
    Metrics(#[from] InvalidMetrics),
    /// The token is not where the configuration says.
    #[error(transparent)]
    Token(#[from] TokenUnreadable),
    /// The admin port cannot be opened.
    #[error("the admin port cannot listen on {address}: choose another with MESH_ADMIN, or off")]
    Admin {
        /// Where it should listen.
        address: SocketAddr,
        /// Why it cannot.
        source: std::io::Error,
    },
    /// Discovery said no.
    #[error(
        "discovery refused this process: its token may be used, expired or revoked, or does not allow what was asked; make a new one with `mesh token create`, and see discovery's log"
    )]
    Refused(#[source] LinkFailed),
    /// No discovery server could prove that it is the one that made the token.
    #[error(
        "no discovery server proved to be the one that made this token: see that MESH_DISCOVERY and the token belong together"
    )]
    Distrusted(#[source] LinkFailed),
    /// No usable identity came of it.
    #[error("discovery gave no usable identity")]
    Identity(#[source] BoxError),
    /// The identity is not of a workload.
    #[error("{0} names no workload: a token for one has the form namespace/account")]
    NoWorkload(Identity),
    /// It took too long.
    #[error("not joined within {limit:?}: {trouble}")]
    TimedOut {
        /// How long was waited.
        limit: Duration,
        /// What went wrong last.
        trouble: String,
    },
    /// The control thread cannot be started.
    #[error("the mesh's control thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// The control thread ended, which it does only when it panics.
    #[error("the mesh's control thread has ended: see its panic above")]
    Ended,
}
