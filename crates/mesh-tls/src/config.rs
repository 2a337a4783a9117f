//! What rustls is told: TLS 1.3, our verifiers, no resumption.
//!
//! A resumed session skips the verifiers: it would outlive a rotated identity and a removed root.
//! So there are no tickets, no session stores and no early data, on either end.

use std::fmt;
use std::sync::Arc;

use mesh_policy::identity::Identity;
use mesh_policy::token::RootHash;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, WantsVerifier};

use crate::credentials::Credentials;
use crate::provider::provider;
use crate::verifier::{ClientVerifier, JoiningVerifier, ServerVerifier};
use crate::verify::discovery_of;

const TLS13_IS_KNOWN: &str = "the provider has suites and groups of TLS 1.3";

/// The application protocol of a connection: agreed in the handshake, or there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/1.1, `http/1.1`.
    Http1,
    /// HTTP/2, `h2`.
    Http2,
}

impl Alpn {
    /// Its registered name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }

    pub(crate) fn from_wire(name: &[u8]) -> Option<Self> {
        [Self::Http1, Self::Http2]
            .into_iter()
            .find(|alpn| alpn.as_str().as_bytes() == name)
    }

    fn to_wire(self) -> Vec<u8> {
        self.as_str().as_bytes().to_vec()
    }
}

impl fmt::Display for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a server lets in clients that show no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Every client proves an identity: between workloads.
    Required,
    /// A client may come without one and is then nobody; a certificate that is shown must hold.
    /// For discovery, which is called by those who have none yet.
    Optional,
}

/// What an accepting end runs.
#[must_use]
pub fn server(credentials: &Credentials, clients: ClientCertificates) -> Arc<ServerConfig> {
    let verifier = ClientVerifier::new(credentials.bundles().clone(), clients);
    let mut config = accepting()
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified())));
    config.alpn_protocols = vec![Alpn::Http2.to_wire(), Alpn::Http1.to_wire()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// What a connecting end runs, for one server that must be `expected`.
///
/// It offers one protocol: a server picks by its own preference among several.
#[must_use]
pub fn client(credentials: &Credentials, expected: &Identity, alpn: Alpn) -> Arc<ClientConfig> {
    let verifier = ServerVerifier::new(credentials.bundles().clone(), expected.clone());
    connecting(Arc::new(verifier), Some(credentials), alpn)
}

/// What a process runs to reach the discovery server of its own domain, over HTTP/2.
#[must_use]
pub fn to_discovery(credentials: &Credentials) -> Arc<ClientConfig> {
    let expected = discovery_of(credentials.identity());
    client(credentials, &expected, Alpn::Http2)
}

/// What a process without an identity runs for its first contact with discovery, over HTTP/2.
///
/// The server must be discovery, and show a root whose hash is `root`: the one of the join token.
/// Its domain is learnt from it.
#[must_use]
pub fn joining(root: RootHash) -> Arc<ClientConfig> {
    connecting(Arc::new(JoiningVerifier::new(root)), None, Alpn::Http2)
}

fn accepting() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect(TLS13_IS_KNOWN)
}

fn connecting(
    verifier: Arc<dyn ServerCertVerifier>,
    credentials: Option<&Credentials>,
    alpn: Alpn,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect(TLS13_IS_KNOWN)
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match credentials {
        Some(own) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified())))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_wire()];
    config.resumption = Resumption::disabled();
    // Identities are expected, not host names; a name would only tell the network who is called.
    config.enable_sni = false;
    Arc::new(config)
}
