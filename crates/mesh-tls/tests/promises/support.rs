//! A small trust domain, and two ends that try a handshake.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_policy::identity::{Identity, TrustDomain};
use mesh_tls::anchors::TrustBundles;
use mesh_tls::config::{self, Alpn, ClientCertificates};
use mesh_tls::credentials::Credentials;
use mesh_tls::handshake::{HandshakeRefused, TlsFacts, accept, connect};
use mesh_tls::issuer::{Issuer, Template};
use mesh_tls::pem;
use mesh_tls::provider::provider;
use mesh_tls::request::KeyPair;
use mesh_tls::root::Root;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
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

pub(crate) type End = Result<TlsFacts, HandshakeRefused>;

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

/// A certificate that no issuer of ours would sign, with its key and a full chain.
pub(crate) struct Forged {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: rcgen::KeyPair,
}

impl Forged {
    /// Signs, with the key of `signer`, a leaf of `web` that `edit` has changed; without a change
    /// it is a good one.
    pub(crate) fn new(mesh: &Domain, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let issuer = mesh.issuer.chain_pem();
        let key = mesh.issuer.key_pem();
        Self::signed_by(&issuer, &key, &leaf_params(mesh, edit))
    }

    /// Signs `params` with a CA given as PEM; the CA's own chain follows the leaf.
    pub(crate) fn signed_by(chain: &str, key: &str, params: &CertificateParams) -> Self {
        let ca = rcgen::KeyPair::from_pem(key).expect("the CA's key reads");
        let issuer = rcgen::Issuer::from_ca_cert_pem(chain, ca).expect("the CA reads");
        let key = rcgen::KeyPair::generate().expect("a key is made");
        let leaf = params.signed_by(&key, &issuer).expect("a leaf is signed");
        let mut whole = vec![leaf.into()];
        whole.extend(pem::read(chain).expect("the CA's chain reads"));
        Self { chain: whole, key }
    }

    pub(crate) fn self_signed(params: &CertificateParams) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key is made");
        let leaf = params.self_signed(&key).expect("a leaf is signed");
        let chain = vec![leaf.into()];
        Self { chain, key }
    }

    pub(crate) fn chain_pem(&self) -> String {
        pem::write(&self.chain)
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The handshake key: what the checks of [`Credentials`] would never let through.
    fn certified(&self) -> SingleCertAndKey {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key reads");
        let certified = CertifiedKey::from_der(self.chain.clone(), key, &provider());
        SingleCertAndKey::from(certified.expect("the key is the leaf's"))
    }

    pub(crate) fn calls(&self, honest: &ClientConfig) -> Arc<ClientConfig> {
        let mut config = honest.clone();
        config.client_auth_cert_resolver = Arc::new(self.certified());
        Arc::new(config)
    }

    pub(crate) fn serves(&self, honest: &ServerConfig) -> Arc<ServerConfig> {
        let mut config = honest.clone();
        config.cert_resolver = Arc::new(self.certified());
        Arc::new(config)
    }

    /// What a strict server makes of it as a client, and a client as its server.
    pub(crate) async fn met(&self, mesh: &Domain) -> (Met, Met) {
        let (web, orders) = (mesh.credentials("web"), mesh.credentials("orders"));
        let calling_orders = calling(&web, orders.identity());
        let as_client = meet(strict(&orders), self.calls(&calling_orders)).await;
        let serving = self.serves(&strict(&web));
        let as_server = meet(serving, calling(&orders, web.identity())).await;
        (as_client, as_server)
    }

    /// Why it is refused at both ends: the names of the reasons.
    pub(crate) async fn refused(&self, mesh: &Domain) -> (String, String) {
        let (as_client, as_server) = self.met(mesh).await;
        assert!(!as_client.answered && !as_server.answered, "it got through");
        (reason(as_client.server), reason(as_server.client))
    }
}

/// The reason of a refusal by its names, such as `Certificate(Leaf(NoUri))`.
pub(crate) fn reason(end: End) -> String {
    format!("{:?}", end.expect_err("it is refused"))
}

/// A good leaf of `web`, changed by `edit`.
pub(crate) fn leaf_params(
    mesh: &Domain,
    edit: impl FnOnce(&mut CertificateParams),
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = (mesh.now - Duration::from_secs(60)).into();
    params.not_after = (mesh.now + Duration::from_secs(3600)).into();
    params.subject_alt_names = vec![uri(mesh.identity("web").as_str())];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    edit(&mut params);
    params
}

/// A CA certificate that signs for an hour.
pub(crate) fn authority_params(mesh: &Domain) -> CertificateParams {
    leaf_params(mesh, |ca| {
        ca.distinguished_name.push(DnType::CommonName, "forged");
        ca.subject_alt_names.clear();
        ca.extended_key_usages.clear();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    })
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("the test's URI is ASCII"))
}
