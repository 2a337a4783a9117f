//! Opens an HTTP/2 connection to a discovery server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh_tls::handshake::{self, HandshakeRefused};
use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

/// From the name to an agreed protocol.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the connection is asked whether it lives, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Where requests of a connection are handed in.
pub(super) type Requests = http2::SendRequest<Full<Bytes>>;

/// Connects to `host` and proves who is there. The connection ends with the last of its
/// [`Requests`] and answers.
pub(super) async fn dial(
    host: &str,
    port: u16,
    tls: Arc<ClientConfig>,
) -> Result<Requests, DialFailed> {
    let limit = Instant::now() + CONNECT_TIMEOUT;
    let opened = async {
        let socket = socket(host, port, limit).await?;
        // Requests are small and must not wait for each other; a socket that refuses still works.
        drop(socket.set_nodelay(true));
        let (stream, _) = handshake::connect(socket, tls).await?;
        let opened = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .adaptive_window(true)
            .handshake(TokioIo::new(stream))
            .await;
        opened.map_err(DialFailed::Http)
    };
    let opened = timeout_at(limit, opened).await;
    let (requests, connection) = opened.map_err(|_| DialFailed::TookTooLong)??;
    drop(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to discovery broke");
        }
    }));
    Ok(requests)
}

/// Tries the addresses of a name in turn, each for its share of the time that is left: an address
/// that swallows packets leaves time for the next.
async fn socket(host: &str, port: u16, limit: Instant) -> Result<TcpStream, DialFailed> {
    let unresolved = |source| DialFailed::Unresolved {
        host: host.to_owned(),
        source,
    };
    let addresses = lookup_host((host, port)).await.map_err(unresolved)?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let mut last = unresolved(io::ErrorKind::NotFound.into());
    let mut untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        let share = limit.saturating_duration_since(Instant::now()) / untried;
        untried -= 1;
        let connected = timeout(share, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(socket) => return Ok(socket),
            Err(source) => last = DialFailed::Connect { address, source },
        }
    }
    Err(last)
}

/// There is no connection to a discovery server.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialFailed {
    #[error("the name {host:?} has no address")]
    Unresolved {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("nothing answers at {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no connection was made within {CONNECT_TIMEOUT:?}")]
    TookTooLong,
    #[error("the handshake failed")]
    Handshake(#[from] HandshakeRefused),
    #[error("no HTTP/2 connection was made")]
    Http(#[source] hyper::Error),
}
