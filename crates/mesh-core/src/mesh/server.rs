//! Serving: a listener, its registrations, and how both end.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use mesh_policy::name::ServiceAddress;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_service::Service;

use super::Mesh;
use crate::config::Shutdown;
use crate::discovery::Registered;
use crate::inbound::{InboundState, serve};
use crate::{Body, BoxError};

/// How long a drain waits for discovery to let a registration go; then the lease ends by itself.
const WITHDRAWAL: Duration = Duration::from_secs(2);
/// How long a drained listener still takes connections, from clients that have not yet
/// heard that it left.
const LAST_CALLERS: Duration = Duration::from_millis(500);

impl Mesh {
    /// Serves all configured names on `listener`, until it is drained: by SIGTERM or
    /// Ctrl-C, or with [`Shutdown::Manual`] only by [`Mesh::drain`]. A signal that comes while it
    /// drains ends it at once: what is still in flight is cut.
    ///
    /// The service may be an axum `Router`, a `tower::service_fn`, or any other that is
    /// `Clone` and `Send`. Until the inbound policy has come, requests are answered 503,
    /// and nobody is told of the listener.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if there is no name to serve, or no usable socket.
    pub async fn serve<S, B>(&self, listener: TcpListener, service: S) -> Result<(), ServeError>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let names = self.inner.config.services.clone();
        if names.is_empty() {
            return Err(ServeError::NoService);
        }
        self.serve_names(&names, listener, service).await
    }

    /// Serves one of several configured names: `mesh.server("orders.shop").serve(…)`.
    #[must_use]
    pub fn server(&self, name: &str) -> Server {
        Server {
            mesh: self.clone(),
            name: name.to_owned(),
        }
    }

    async fn serve_names<S, B>(
        &self,
        names: &[ServiceAddress],
        listener: TcpListener,
        service: S,
    ) -> Result<(), ServeError>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let _serving = Serving::begin(&self.inner.servers);
        let address = self.reached_at(listener.local_addr()?);
        let services: Vec<String> = names.iter().map(ToString::to_string).collect();
        tracing::info!(services = services.join(","), %address, "listening");
        let state = self.inbound_state(names);
        let served = &self.inner.joined.served;
        let registered = names
            .iter()
            .map(|name| served.register(name.clone(), address));
        let registered: Vec<Registered> = registered.collect();
        let ended = self.drained();
        let shutdown = async {
            ended.await;
            let withdrawals = registered.into_iter().map(Registered::withdraw);
            let all = futures_util::future::join_all(withdrawals);
            // Discovery may be gone; then the lease ends with the watch.
            drop(tokio::time::timeout(WITHDRAWAL, all).await);
            tokio::time::sleep(LAST_CALLERS).await;
        };
        let serving = serve(listener, service, state, shutdown);
        tokio::select! {
            served = serving => served?,
            () = self.hurried() => {
                tracing::warn!(%address, "a second signal ends the drain: what is in flight is cut");
                return Ok(());
            }
        }
        // The program may end right after this.
        self.inner.joined.flush.all().await;
        Ok(())
    }

    fn inbound_state(&self, names: &[ServiceAddress]) -> InboundState {
        let joined = &self.inner.joined;
        InboundState {
            credentials: std::sync::Arc::clone(&joined.proof.server),
            policy: joined.served.policy(names),
            mode: self.inner.config.inbound,
            authority: names.first().and_then(authority),
            limits: self.inner.config.limits.clone(),
            recorder: self.inner.recorder.clone(),
            workload: (*joined.workload).clone(),
        }
    }

    /// The address that others reach a socket by.
    fn reached_at(&self, bound: SocketAddr) -> SocketAddr {
        let advertised = self.inner.config.advertise;
        match advertised {
            Some(ip) => SocketAddr::new(ip, bound.port()),
            None if bound.ip().is_unspecified() => {
                SocketAddr::new(self.inner.joined.reached_by, bound.port())
            }
            None => bound,
        }
    }

    /// Ends when this process drains; a signal makes all of its listeners drain.
    async fn drained(&self) {
        let told = self.told_to_drain();
        match self.inner.config.shutdown {
            Shutdown::Manual => told.await,
            Shutdown::Signals => {
                tokio::select! {
                    () = told => {}
                    () = signal() => {
                        self.inner.draining.send_replace(true);
                    }
                }
            }
        }
    }

    async fn told_to_drain(&self) {
        let mut draining = self.inner.draining.subscribe();
        // The sender lives as long as `self`.
        drop(draining.wait_for(|draining| *draining).await);
    }

    /// Ends at the second signal: its sender waits no longer. The first begins the drain, or finds it
    /// begun by the program.
    async fn hurried(&self) {
        match self.inner.config.shutdown {
            Shutdown::Manual => std::future::pending().await,
            Shutdown::Signals => {
                signal().await;
                signal().await;
            }
        }
    }
}

/// A name as clients write it.
fn authority(name: &ServiceAddress) -> Option<HeaderValue> {
    HeaderValue::try_from(name.to_string()).ok()
}

/// Ends at the first SIGTERM or Ctrl-C; where neither can be heard, never.
async fn signal() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "Ctrl-C cannot be heard");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = interrupt => {}
        () = terminate() => {}
    }
}

#[cfg(unix)]
async fn terminate() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be heard");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn terminate() {
    std::future::pending().await
}

/// Counts a listener for as long as it is served.
struct Serving<'a>(&'a watch::Sender<usize>);

impl<'a> Serving<'a> {
    fn begin(servers: &'a watch::Sender<usize>) -> Self {
        servers.send_modify(|servers| *servers += 1);
        Self(servers)
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|servers| *servers -= 1);
    }
}

/// One of several names that a process serves.
#[derive(Clone, Debug)]
pub struct Server {
    mesh: Mesh,
    name: String,
}

impl Server {
    /// Serves this name on `listener`, as [`Mesh::serve`] does all names.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if the name is not configured, or there is no usable socket.
    pub async fn serve<S, B>(self, listener: TcpListener, service: S) -> Result<(), ServeError>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let configured = &self.mesh.inner.config.services;
        let wanted = configured.iter().find(|name| name.to_string() == self.name);
        let Some(name) = wanted else {
            return Err(ServeError::NotConfigured { name: self.name });
        };
        let names = std::slice::from_ref(name);
        self.mesh.serve_names(names, listener, service).await
    }
}

/// A listener could not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The process serves nothing.
    #[error("this process serves no service: name it in Config::services or MESH_SERVICE")]
    NoService,
    /// The process does not serve that name.
    #[error(
        "{name:?} is none of this process's services: name it in Config::services or MESH_SERVICE, spelled alike"
    )]
    NotConfigured {
        /// The name.
        name: String,
    },
    /// The socket is of no use.
    #[error("the socket cannot be served")]
    Socket(#[from] std::io::Error),
}
