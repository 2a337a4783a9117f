//! Makes a TLS stream of a byte stream, over whatever carries bytes.
//!
//! There is no time limit here: whoever calls decides how long a handshake may take.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_policy::identity::Identity;
use rustls::server::Acceptor;
use rustls::{CipherSuite, ClientConfig, CommonState, ProtocolVersion, ServerConfig};
use rustls_pki_types::{DnsName, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, TlsConnector, client, server};

use crate::config::Alpn;
use crate::leaf::Leaf;
use crate::verifier;
use crate::verify::RefusedCertificate;

/// What a finished handshake agreed on and proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// The protocol's version, such as `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's registered name, such as `TLS_AES_128_GCM_SHA256`.
    pub suite: &'static str,
    /// The key exchange's group, such as `X25519MLKEM768`.
    pub group: &'static str,
    /// The application protocol: never absent, since a handshake without one is refused.
    pub alpn: Alpn,
    /// Who the peer has proved to be; `None` only of a client that showed no certificate.
    pub peer: Option<Identity>,
    /// The last second in which the peer's certificate counts.
    pub peer_not_after: Option<SystemTime>,
}

/// Accepts a client.
///
/// # Errors
///
/// [`HandshakeRefused`] of either side; the client has been told by an alert where TLS has one.
pub async fn accept<IO>(
    stream: IO,
    config: Arc<ServerConfig>,
) -> Result<(server::TlsStream<IO>, TlsFacts), HandshakeRefused>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    hello(stream).await?.accept(config).await
}

/// Reads all that a client says before it is answered, which takes next to no work.
///
/// # Errors
///
/// [`HandshakeRefused::Tls`] of what is no TLS, and [`HandshakeRefused::Io`].
pub async fn hello<IO>(stream: IO) -> Result<Hello<IO>, HandshakeRefused>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    Ok(Hello(
        LazyConfigAcceptor::new(Acceptor::default(), stream).await?,
    ))
}

/// A client that has said hello and waits for the answer.
pub struct Hello<IO>(StartHandshake<IO>);

impl<IO> Hello<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    /// Accepts the client, as [`accept`] does.
    ///
    /// # Errors
    ///
    /// As [`accept`].
    pub async fn accept(
        self,
        config: Arc<ServerConfig>,
    ) -> Result<(server::TlsStream<IO>, TlsFacts), HandshakeRefused> {
        let stream = self.0.into_stream(config).await?;
        let facts = TlsFacts::read(stream.get_ref().1)?;
        Ok((stream, facts))
    }
}

impl<IO> std::fmt::Debug for Hello<IO> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello").finish_non_exhaustive()
    }
}

/// Connects to the server that `config` expects.
///
/// A server may still refuse our certificate after this returns: in TLS 1.3 the client is done
/// first, and learns of it by the alert at its first read.
///
/// # Errors
///
/// [`HandshakeRefused`] of either side; no application data has been sent.
pub async fn connect<IO>(
    stream: IO,
    config: Arc<ClientConfig>,
) -> Result<(client::TlsStream<IO>, TlsFacts), HandshakeRefused>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(config);
    let stream = connector.connect(no_name(), stream).await?;
    let facts = TlsFacts::read(stream.get_ref().1)?;
    Ok((stream, facts))
}

/// The verifiers look at identities; rustls wants a name, which is neither sent nor compared.
fn no_name() -> ServerName<'static> {
    ServerName::DnsName(DnsName::try_from_str("mesh.invalid").expect("it is a DNS name"))
}

impl TlsFacts {
    fn read(connection: &CommonState) -> Result<Self, HandshakeRefused> {
        // rustls lets a client in that offers no protocol at all.
        let alpn = connection.alpn_protocol().and_then(Alpn::from_wire);
        let alpn = alpn.ok_or(HandshakeRefused::NoAgreedAlpn)?;
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.map(Leaf::read).transpose();
        let leaf = leaf.map_err(RefusedCertificate::from)?;
        let group = connection.negotiated_key_exchange_group();
        Ok(Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "unknown",
            },
            suite: match connection.negotiated_cipher_suite().map(|s| s.suite()) {
                Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
                Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
                Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
                _ => "unknown",
            },
            group: group.and_then(|g| g.name().as_str()).unwrap_or("unknown"),
            alpn,
            peer_not_after: leaf.as_ref().map(Leaf::not_after),
            peer: leaf.map(|leaf| leaf.identity().clone()),
        })
    }
}

/// Why a handshake made no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeRefused {
    /// We refuse what the peer presents.
    #[error("the peer's certificate is refused")]
    Certificate(#[from] RefusedCertificate),
    /// The peer presents nothing, where an identity is required.
    #[error("the peer presents no certificate: only members of the mesh are let in")]
    NoCertificate,
    /// No application protocol in common, or none offered.
    #[error("no application protocol was agreed: offer h2 or http/1.1 by ALPN")]
    NoAgreedAlpn,
    /// The peer refuses us, or what we offer.
    #[error("the peer refuses the handshake with the alert {alert}")]
    ByPeer {
        /// The alert's registered name.
        alert: String,
    },
    /// Another breach of TLS.
    #[error("the handshake breaks TLS")]
    Tls(#[source] rustls::Error),
    /// The byte stream failed or ended.
    #[error("the connection broke during the handshake")]
    Io(#[source] io::Error),
}

impl From<io::Error> for HandshakeRefused {
    fn from(error: io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner.cloned() {
            Some(tls) => Self::from(tls),
            None => Self::Io(error),
        }
    }
}

impl From<rustls::Error> for HandshakeRefused {
    fn from(error: rustls::Error) -> Self {
        match &error {
            rustls::Error::InvalidCertificate(certificate) => {
                match verifier::refused(certificate) {
                    Some(refused) => Self::Certificate(refused),
                    None => Self::Tls(error),
                }
            }
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::NoApplicationProtocol => Self::NoAgreedAlpn,
            rustls::Error::AlertReceived(alert) => Self::ByPeer {
                alert: alert
                    .as_str()
                    .map_or_else(|| u8::from(*alert).to_string(), str::to_owned),
            },
            _ => Self::Tls(error),
        }
    }
}
