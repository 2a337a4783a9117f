//! Opens a connection to one endpoint: socket, handshake, HTTP.
//!
//! A connection offers exactly one ALPN, since a server picks by its own
//! preference and the pool must know what it gets. Who is expected there is part
//! of the TLS configuration: a check after a TLS 1.3 handshake would come too
//! late, our certificate has been shown by then.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_policy::identity::Identity;
use mesh_policy::plan::endpoint::HttpVersions;
use mesh_tls::config::Alpn;
use mesh_tls::credentials::Credentials;
use mesh_tls::handshake::{self, HandshakeRefused, TlsFacts};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::pool::Occupancy;
use crate::answer::{Cause, Caused};
use crate::header_list::{PARSED_BYTES, PARSED_FIELDS};
use crate::telemetry::errors::Errors;
use crate::telemetry::tcp::{Counted, TransportMetrics};
use crate::{Body, BoxError};

/// From the first packet to a socket that is open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// From an open socket to an agreed protocol.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an HTTP/2 connection in use is asked whether it lives, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that may be on their way before the reader has seen any, per stream and per connection.
/// Hyper's 64 KiB stall a single large response on any network with a delay.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What the process proves itself with; empty until discovery has issued it.
pub(crate) type CurrentCredentials = Arc<ArcSwapOption<Credentials>>;

/// Which protocol a new connection to an endpoint offers: HTTP/2 wherever it is taken.
///
/// With many requests in flight HTTP/2 costs 60 % of HTTP/1.1, with one in flight
/// half as much again; a pool that does not know the future shares.
pub(crate) const fn http_version(takes: HttpVersions) -> Alpn {
    match takes {
        HttpVersions::Http1 => Alpn::Http1,
        HttpVersions::Both | HttpVersions::Http2 => Alpn::Http2,
    }
}

/// A connection, and the work that keeps it going.
pub(crate) struct Opened {
    /// Where requests are handed in.
    pub(crate) sender: Sender,
    /// Ends with the connection; somebody must poll it.
    pub(crate) driver: BoxFuture<'static, ()>,
    /// What its handshake agreed on; `None` for plaintext.
    pub(crate) tls: Option<TlsFacts>,
}

/// Where requests of a connection are handed in.
pub(crate) enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<Body>),
    /// Many at a time; as many as the peer allows is kept up to date.
    Http2(http2::SendRequest<Body>, Arc<Occupancy>),
}

/// Opens connections to one endpoint.
pub(crate) trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens one.
    fn dial(&self) -> BoxFuture<'static, Result<Opened, ConnectFailed>>;
    /// What the connections speak.
    fn version(&self) -> Alpn;
    /// Where the endpoint is.
    fn address(&self) -> SocketAddr;
}

/// Dials an endpoint's socket, and expects its identity there.
#[derive(Debug)]
pub(crate) struct Dialer {
    address: SocketAddr,
    identity: Option<Identity>,
    version: Alpn,
    credentials: CurrentCredentials,
    prepared: Mutex<Option<Prepared>>,
    metrics: Option<Arc<TransportMetrics>>,
    errors: Option<Arc<Errors>>,
}

/// A TLS configuration, and the credentials it was made from.
#[derive(Debug)]
struct Prepared {
    from: Arc<Credentials>,
    config: Arc<rustls::ClientConfig>,
}

impl Dialer {
    /// Dials `address`; without an identity in plaintext, which only a plan can say.
    pub(crate) fn new(
        address: SocketAddr,
        identity: Option<Identity>,
        takes: HttpVersions,
        credentials: CurrentCredentials,
    ) -> Self {
        Self {
            address,
            identity,
            version: http_version(takes),
            credentials,
            prepared: Mutex::new(None),
            metrics: None,
            errors: None,
        }
    }

    /// The same with its connections counted, and those that it cannot make.
    pub(crate) fn counted(self, metrics: Arc<TransportMetrics>, errors: Arc<Errors>) -> Self {
        Self {
            metrics: Some(metrics),
            errors: Some(errors),
            ..self
        }
    }

    /// The configuration for the endpoint's identity, made once per generation of our credentials.
    fn tls(&self, identity: &Identity) -> Result<Arc<rustls::ClientConfig>, ConnectFailed> {
        let failed = |source| ConnectFailed::new(self.address, Step::Handshake, source);
        let current = self.credentials.load_full();
        let current = current.ok_or_else(|| failed(NoCredentials.into()))?;
        if current.not_after() < SystemTime::now() {
            return Err(failed(CertificateEnded.into()));
        }
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = prepared.as_ref().filter(|p| Arc::ptr_eq(&p.from, &current)) {
            return Ok(Arc::clone(&ready.config));
        }
        let config = mesh_tls::config::client(&current, identity, self.version);
        *prepared = Some(Prepared {
            from: current,
            config: Arc::clone(&config),
        });
        Ok(config)
    }
}

impl Dial for Dialer {
    fn dial(&self) -> BoxFuture<'static, Result<Opened, ConnectFailed>> {
        let (address, version) = (self.address, self.version);
        let (metrics, errors) = (self.metrics.clone(), self.errors.clone());
        let tls = self.identity.as_ref().map(|identity| self.tls(identity));
        let dialled = async move {
            let tls = tls.transpose()?;
            let socket = within(address, Step::Connect, TcpStream::connect(address)).await?;
            socket
                .set_nodelay(true)
                .map_err(|error| ConnectFailed::new(address, Step::Connect, error.into()))?;
            let Some(tls) = tls else {
                return within(
                    address,
                    Step::Handshake,
                    open_counted(socket, version, metrics),
                )
                .await;
            };
            within(address, Step::Handshake, async {
                let (stream, facts) = handshake::connect(socket, tls).await?;
                let opened = open_counted(stream, version, metrics).await?;
                let tls = Some(facts);
                Ok::<_, BoxError>(Opened { tls, ..opened })
            })
            .await
        };
        Box::pin(dialled.inspect_err(move |error| {
            if let Some(errors) = &errors {
                errors.count(error.cause());
            }
        }))
    }

    fn version(&self) -> Alpn {
        self.version
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn within<T, E: Into<BoxError>>(
    address: SocketAddr,
    step: Step,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, ConnectFailed> {
    let limit = step.limit();
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(ConnectFailed::new(address, step, error.into())),
        Err(_) => Err(ConnectFailed::new(
            address,
            step,
            TookTooLong { limit }.into(),
        )),
    }
}

async fn open_counted<Io>(
    io: Io,
    version: Alpn,
    metrics: Option<Arc<TransportMetrics>>,
) -> Result<Opened, BoxError>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match metrics {
        Some(metrics) => open(Counted::new(io, metrics), version).await,
        None => open(io, version).await,
    }
}

/// Speaks HTTP over a stream that is secured, or needs not be.
pub(crate) async fn open<Io>(io: Io, version: Alpn) -> Result<Opened, BoxError>
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(io);
    match version {
        Alpn::Http1 => {
            let (sender, connection) = http1::Builder::new()
                .max_headers(PARSED_FIELDS)
                .max_header_size(PARSED_BYTES as usize)
                .handshake(io)
                .await?;
            let driver = async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "an HTTP/1.1 connection broke");
                }
            };
            Ok(Opened {
                sender: Sender::Http1(sender),
                driver: Box::pin(driver),
                tls: None,
            })
        }
        Alpn::Http2 => {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .max_header_list_size(PARSED_BYTES)
                .handshake(io)
                .await?;
            let occupancy = Arc::new(Occupancy::new(connection.current_max_send_streams()));
            let driver = Http2Driver {
                connection,
                occupancy: Arc::clone(&occupancy),
            };
            Ok(Opened {
                sender: Sender::Http2(sender, occupancy),
                driver: Box::pin(driver),
                tls: None,
            })
        }
    }
}

/// Drives an HTTP/2 connection and notes how many streams its peer allows.
struct Http2Driver<Io>
where
    Io: Read + Write + Unpin + Send + 'static,
{
    connection: http2::Connection<Io, Body, TokioExecutor>,
    occupancy: Arc<Occupancy>,
}

impl<Io> Future for Http2Driver<Io>
where
    Io: Read + Write + Unpin + Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = Pin::new(&mut self.connection).poll(cx);
        self.occupancy
            .allow(self.connection.current_max_send_streams());
        polled.map(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "an HTTP/2 connection broke");
            }
        })
    }
}

/// A step of opening a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Handshake,
}

impl Step {
    const fn limit(self) -> Duration {
        match self {
            Self::Connect => CONNECT_TIMEOUT,
            Self::Handshake => HANDSHAKE_TIMEOUT,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
        })
    }
}

/// An endpoint could not be reached, or is not who it should be. Shared by all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the {step} with {address} failed")]
pub struct ConnectFailed {
    address: SocketAddr,
    step: Step,
    #[source]
    source: Arc<dyn std::error::Error + Send + Sync>,
}

impl ConnectFailed {
    fn new(address: SocketAddr, step: Step, source: BoxError) -> Self {
        Self {
            address,
            step,
            source: source.into(),
        }
    }

    /// No connection was tried, because of `source`.
    pub(super) fn untried(address: SocketAddr, source: impl Into<BoxError>) -> Self {
        Self::new(address, Step::Connect, source.into())
    }

    /// Whether it failed because of an `E`.
    pub(super) fn is_because_of<E: std::error::Error + 'static>(&self) -> bool {
        self.source.is::<E>()
    }

    #[cfg(test)]
    pub(crate) fn refused() -> Self {
        let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        Self::untried(([127, 0, 0, 1], 0).into(), source)
    }
}

impl Caused for ConnectFailed {
    fn cause(&self) -> Cause {
        match self.source.downcast_ref() {
            // Somebody else is there.
            Some(HandshakeRefused::Certificate(_) | HandshakeRefused::NoCertificate) => {
                Cause::IdentityMismatch
            }
            _ if self.source.is::<TookTooLong>() => Cause::ConnectTimeout,
            _ if self.source.is::<CertificateEnded>() => Cause::CertificateEnded,
            _ => Cause::ConnectFailed,
        }
    }
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it took longer than {limit:?}")]
struct TookTooLong {
    limit: Duration,
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "this process's own certificate has ended, so no peer would take it: discovery has not renewed it; see /ready and the log for why"
)]
struct CertificateEnded;

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this process has no certificate yet: Mesh::join has not finished")]
struct NoCredentials;
