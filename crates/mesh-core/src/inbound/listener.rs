//! One served socket, from its first connection to the end of its drain.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body as HttpBody;
use mesh_tls::accept::turns::Turns;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tower_service::Service;

use super::case::Cases;
use super::policy::Policy;
use super::ruling::{Docket, RulingLayer};
use crate::config::Inbound;
use crate::peer::Peer;
use crate::telemetry::inbound::ListenerMetrics;
use crate::telemetry::tcp::Counted;
use crate::telemetry::{Recorder, Workload};
use crate::transport::Limits;
use crate::transport::accept::{Accepted, Listen, accept};
use crate::transport::connections::{Connections, Ticket};
use crate::transport::secure::{Demand, Secured, Unsecured, secure};
use crate::transport::serve::serve as serve_connection;
use crate::{Body, BoxError};

/// What a listener is told from outside, also while it runs.
#[derive(Clone, Debug)]
pub struct InboundState {
    /// Who the process is: each handshake takes what is current. It must require a client
    /// certificate, as `mesh_tls::config::server` does.
    pub credentials: Arc<ArcSwap<ServerConfig>>,
    /// Who may call: each request takes what is current.
    pub policy: Arc<ArcSwap<Policy>>,
    /// What becomes of plaintext.
    pub mode: Inbound,
    /// What a client of HTTP/1.0 means that names no host: the first name that is served.
    pub authority: Option<HeaderValue>,
    /// How long and how much a client may keep the server waiting.
    pub limits: Limits,
    /// Where the series are registered.
    pub recorder: Recorder,
    /// Whose series they are.
    pub workload: Workload,
}

/// Serves `app` on `listener` until `shutdown`, then drains: requests in flight finish within
/// [`Limits::drain`]. Dropping the future cuts every connection.
///
/// # Errors
///
/// The error of a socket that has no address. An accepting socket's errors are survived.
pub async fn serve<A, B>(
    listener: TcpListener,
    app: A,
    state: InboundState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    A: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    A::Error: Into<BoxError>,
    A::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let address = listener.local_addr()?;
    run(
        listener,
        address,
        Served::new(app, state, address),
        shutdown,
    )
    .await;
    Ok(())
}

pub(super) async fn run<L, A, B>(
    listener: L,
    address: SocketAddr,
    served: Served<A>,
    shutdown: impl Future<Output = ()>,
) where
    L: Listen,
    A: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    A::Error: Into<BoxError>,
    A::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let connections = Arc::new(Connections::new(served.docket.limits().clone()));
    let cut = connections.cut_on_drop();
    let served = Arc::new(served);
    let spawn = |accepted: Accepted<L::Io>| {
        let id = accepted.ticket.id();
        let task = tokio::spawn(one(accepted, Arc::clone(&served)));
        connections.attach(id, task.abort_handle());
    };
    let refused = &served.docket.metrics().refused;
    let turned = served.cases.watch(served.docket.limits().revoked);
    let denials = served.docket.denials.watch();
    let looks = async { tokio::join!(turned, denials) };
    let mut looks = std::pin::pin!(looks);
    tokio::select! {
        () = accept(&listener, &connections, refused, spawn) => {}
        () = connections.watch() => {}
        _ = &mut looks => {}
        () = shutdown => {}
    }
    drop(listener);
    tracing::debug!(%address, "the listener drains");
    tokio::select! {
        () = connections.drain() => {}
        () = connections.watch() => {}
        _ = &mut looks => {}
    }
    drop(cut);
}

/// What all connections of a listener share.
pub(super) struct Served<A> {
    /// Locked to be cloned for a connection: an application need not be [`Sync`].
    app: Mutex<A>,
    credentials: Arc<ArcSwap<ServerConfig>>,
    mode: Inbound,
    turns: Arc<Turns>,
    docket: Arc<Docket>,
    cases: Cases,
}

impl<A> Served<A> {
    pub(super) fn new(app: A, state: InboundState, address: SocketAddr) -> Self {
        let metrics = ListenerMetrics::new(&state.recorder, &state.workload, address);
        Self {
            app: Mutex::new(app),
            credentials: state.credentials,
            mode: state.mode,
            turns: Turns::of_this_runtime(),
            docket: Arc::new(Docket::new(
                state.policy,
                state.limits,
                metrics,
                state.authority,
            )),
            cases: Cases::default(),
        }
    }

    fn app(&self) -> A
    where
        A: Clone,
    {
        let app = self.app.lock().unwrap_or_else(PoisonError::into_inner);
        app.clone()
    }

    fn demand(&self) -> Demand {
        Demand {
            mode: self.mode,
            credentials: Arc::clone(&self.credentials),
            limit: self.docket.limits().handshake,
        }
    }
}

/// One connection, from its first byte to its last.
async fn one<IO, A, B>(accepted: Accepted<IO>, served: Arc<Served<A>>)
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    A: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    A::Error: Into<BoxError>,
    A::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Accepted {
        io,
        address,
        ticket,
    } = accepted;
    let stack = |peer: Peer, ticket: &Ticket| {
        let case = served
            .cases
            .open(&served.docket, peer.clone(), ticket.activity());
        super::stack(served.app(), peer, RulingLayer::new(case), &served.docket)
    };
    let place = ticket.connections().half_open(address.ip());
    let secured = tokio::select! {
        secured = secure(io, served.demand(), &served.turns) => secured,
        () = place.evicted() => Err(Unsecured::Evicted),
    };
    drop(place);
    let ended = match secured {
        Ok(Secured::Tls {
            stream,
            facts,
            http,
        }) => {
            let peer = Peer::new(address, Some(facts));
            let stream = Counted::new(*stream, served.docket.connections(&peer));
            serve_connection(stream, http, stack(peer, &ticket), ticket).await
        }
        Ok(Secured::Plain { stream, http }) => {
            let peer = Peer::plaintext(address);
            let denied = served.docket.denies(&peer);
            ticket.activity().doubt(denied);
            let place = denied.then(|| ticket.connections().refused(address.ip()));
            let stream = Counted::new(stream, served.docket.connections(&peer));
            let serving = serve_connection(stream, http, stack(peer, &ticket), ticket);
            match place {
                None => serving.await,
                Some(place) => tokio::select! {
                    ended = serving => ended,
                    () = place.evicted() => return,
                },
            }
        }
        Err(error) => {
            served.docket.metrics().handshake_failed(&error);
            let source = std::error::Error::source(&error);
            tracing::debug!(%address, %error, source, "a connection carried no request");
            return;
        }
    };
    if let Err(error) = ended {
        if let Some(cause) = super::unread::cause(&error) {
            served.docket.metrics().errors.count(cause);
        }
        let source = std::error::Error::source(&error);
        tracing::debug!(%address, %error, source, "a connection broke");
    }
}
