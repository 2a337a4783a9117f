//! A small trust domain, and two ends that try a handshake.

use std::sync::Arc;
use std::time::SystemTime;

use mesh_policy::identity::{Identity, TrustDomain};
use mesh_tls::anchors::TrustBundles;
use mesh_tls::config::{self, Alpn, ClientCertificates};
use mesh_tls::credentials::Credentials;
use mesh_tls::handshake::{HandshakeRefused, TlsFacts, accept, connect};
use mesh_tls::issuer::{Issuer, Template};
use mesh_tls::request::KeyPair;
use mesh_tls::root::Root;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A root, its issuer and the time.
pub(crate) struct Domain {
    pub(crate) root: Root,
    pub(crate) issuer: Issuer,
    pub(crate) now: SystemTime,
}

impl Domain {
    pub(crate) fn new(name: &str) -> Self {
        let now = SystemTime::now();
        let root = Root::create(&domain(name), now).expect("a root is made");
        let issuer = root.sign_issuer(now).expect("an issuer is signed");
        Self { root, issuer, now }
    }

    pub(crate) fn bundles(&self) -> TrustBundles {
        self.root.bundle().clone().into()
    }

    pub(crate) fn identity(&self, account: &str) -> Identity {
        identity(&format!(
            "spiffe://{}/ns/shop/sa/{account}",
            self.issuer.domain()
        ))
    }

    pub(crate) fn credentials(&self, account: &str) -> Credentials {
        self.credentials_of(&self.identity(account))
    }

    pub(crate) fn credentials_of(&self, identity: &Identity) -> Credentials {
        let key = KeyPair::generate().expect("a key is made");
        let request = key.signing_request().expect("a key signs");
        let issued = self
            .issuer
            .issue(&request, identity, &Template::default(), self.now)
            .expect("a leaf is issued");
        let mut chain = issued.chain;
        if *identity == Identity::discovery(self.issuer.domain()) {
            chain.push(self.root.certificate().clone());
        }
        Credentials::new(key, chain, self.bundles(), self.now).expect("the parts fit")
    }
}

pub(crate) fn domain(name: &str) -> TrustDomain {
    name.parse().expect("a domain of the test is well spelt")
}

pub(crate) fn identity(text: &str) -> Identity {
    text.parse().expect("an identity of the test is well spelt")
}

pub(crate) fn strict(credentials: &Credentials) -> Arc<ServerConfig> {
    config::server(credentials, ClientCertificates::Required)
}

pub(crate) fn calling(credentials: &Credentials, expected: &Identity) -> Arc<ClientConfig> {
    config::client(credentials, expected, Alpn::Http2)
}

type End = Result<TlsFacts, HandshakeRefused>;

/// What each end makes of a handshake, the client's view including one exchange of a byte each way:
/// in TLS 1.3 it is by reading that a client learns of a refusal.
pub(crate) struct Met {
    pub(crate) server: End,
    pub(crate) client: End,
    /// Whether the client got the server's byte.
    pub(crate) answered: bool,
}

impl Met {
    pub(crate) fn succeeded(&self) -> bool {
        self.server.is_ok() && self.client.is_ok() && self.answered
    }
}

pub(crate) async fn meet(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Met {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serve = async {
        let (mut stream, facts) = accept(far, server).await?;
        let mut byte = [0];
        // A client that refuses us closes here, and its own view of it is what the test asks.
        if stream.read_exact(&mut byte).await.is_ok() {
            stream
                .write_all(b"!")
                .await
                .expect("the client still reads");
        }
        Ok(facts)
    };
    let call = async {
        let (mut stream, facts) = match connect(near, client).await {
            Ok(connected) => connected,
            Err(refused) => return (Err(refused), false),
        };
        let mut byte = [0];
        let answered = async {
            stream.write_all(b"?").await?;
            stream.read_exact(&mut byte).await
        };
        let answered = answered.await.is_ok();
        (Ok(facts), answered)
    };
    let (server, (client, answered)) = tokio::join!(serve, call);
    Met {
        server,
        client,
        answered,
    }
}
