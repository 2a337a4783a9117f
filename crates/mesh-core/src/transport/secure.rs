//! Finds out what a client speaks, and makes it prove who it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_tls::accept::turns::Turns;
use mesh_tls::config::Alpn;
use mesh_tls::handshake::{self, HandshakeRefused, TlsFacts};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use super::activity::Http;
use super::rewind::Rewind;
use crate::config::Inbound;

/// The first byte of a TLS connection: a record of type handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection whose protocol is known.
#[derive(Debug)]
pub(crate) enum Secured<IO> {
    /// The client proved who it is.
    Tls {
        stream: Box<TlsStream<Rewind<IO>>>,
        facts: TlsFacts,
        http: Http,
    },
    /// It did not, and policy will say what it may do.
    Plain { stream: Rewind<IO>, http: Http },
}

/// What a listener asks of a connection.
#[derive(Debug)]
pub(crate) struct Demand {
    pub(crate) mode: Inbound,
    pub(crate) credentials: Arc<ArcSwap<ServerConfig>>,
    pub(crate) limit: Duration,
}

/// Why a connection never carried a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsecured {
    #[error("the client closed without a byte")]
    Closed,
    #[error("the client's handshake took longer than {limit:?}")]
    Slow { limit: Duration },
    #[error("its place was needed for the next client, and this one had not proved who it is")]
    Evicted,
    #[error(
        "the client does not speak TLS, and this port takes nothing else: connect through the mesh, or listen with MESH_INBOUND=detect"
    )]
    NotTls,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("the client's handshake was refused")]
    Refused(#[source] HandshakeRefused),
}

impl Unsecured {
    /// All values of the label `reason`.
    pub(crate) const REASONS: [&str; 6] =
        ["closed", "timeout", "evicted", "not-tls", "io", "refused"];

    /// The value of the label `reason`.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Slow { .. } => "timeout",
            Self::Evicted => "evicted",
            Self::NotTls => "not-tls",
            Self::Broken(_) => "io",
            Self::Refused(_) => "refused",
        }
    }
}

/// Detects and shakes hands, all within the demand's limit.
pub(crate) async fn secure<IO>(
    io: IO,
    demand: Demand,
    turns: &Arc<Turns>,
) -> Result<Secured<IO>, Unsecured>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let limit = demand.limit;
    tokio::time::timeout(limit, detect(io, demand, turns))
        .await
        .unwrap_or(Err(Unsecured::Slow { limit }))
}

async fn detect<IO>(io: IO, demand: Demand, turns: &Arc<Turns>) -> Result<Secured<IO>, Unsecured>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = Rewind::new(io);
    let first = stream.first_byte().await.map_err(Unsecured::Broken)?;
    match (first, demand.mode) {
        (None, _) => Err(Unsecured::Closed),
        (Some(TLS_HANDSHAKE), _) => {
            let hello = handshake::hello(stream).await.map_err(Unsecured::Refused)?;
            // Credentials are taken with the first turn: a root that was removed during the wait
            // for it counts no more.
            let accept = async { hello.accept(demand.credentials.load_full()).await };
            let accepted = turns.pace(accept).await;
            let (stream, facts) = accepted.map_err(Unsecured::Refused)?;
            let http = match facts.alpn {
                Alpn::Http2 => Http::Two,
                Alpn::Http1 => Http::One,
            };
            let stream = Box::new(stream);
            Ok(Secured::Tls {
                stream,
                facts,
                http,
            })
        }
        (Some(_), Inbound::Strict) => Err(Unsecured::NotTls),
        (Some(_), Inbound::Detect) => {
            let http = match stream.has_preface().await.map_err(Unsecured::Broken)? {
                true => Http::Two,
                false => Http::One,
            };
            Ok(Secured::Plain { stream, http })
        }
    }
}
