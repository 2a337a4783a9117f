//! From nothing to a member: the first contact, and the handshakes of members.

use std::sync::Arc;

use mesh_policy::identity::Identity;
use mesh_tls::anchors::{InvalidAnchor, TrustBundle};
use mesh_tls::config::{self, ClientCertificates};
use mesh_tls::credentials::Credentials;
use mesh_tls::pem;
use mesh_tls::request::KeyPair;
use rcgen::{CertificateParams, SubjectPublicKeyInfo};
use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::support::{Domain, Forged, authority_params, calling, meet, reason, strict};

#[tokio::test]
async fn two_members_prove_each_other_with_post_quantum_keys() {
    let mesh = Domain::new("mesh.local");
    let (web, orders) = (mesh.credentials("web"), mesh.credentials("orders"));
    let met = meet(strict(&orders), calling(&web, orders.identity())).await;
    assert!(met.answered);
    let (server, client) = (met.server.unwrap(), met.client.unwrap());
    assert_eq!(server.peer.as_ref(), Some(web.identity()));
    assert_eq!(client.peer.as_ref(), Some(orders.identity()));
    assert_eq!(server.peer_not_after, Some(web.not_after()));
    for facts in [server, client] {
        assert_eq!(facts.version, "TLSv1.3");
        assert_eq!(facts.group, "X25519MLKEM768");
        assert!(facts.suite.starts_with("TLS_"), "{}", facts.suite);
        assert_eq!(facts.alpn, config::Alpn::Http2);
    }
}

/// A discovery server of `mesh`, open to those without a certificate.
fn discovery(mesh: &Domain) -> Credentials {
    mesh.credentials_of(&Identity::discovery(mesh.issuer.domain()))
}

fn open(credentials: &Credentials) -> Arc<ServerConfig> {
    config::server(credentials, ClientCertificates::Optional)
}

/// The same server, presenting `chain` for its key.
fn presenting(
    honest: &ServerConfig,
    own: &Credentials,
    chain: Vec<CertificateDer<'static>>,
) -> Arc<ServerConfig> {
    assert_eq!(own.chain()[0], chain[0]);
    let hello = honest.cert_resolver.clone();
    let mut config = honest.clone();
    config.cert_resolver = Arc::new(Other { hello, chain });
    Arc::new(config)
}

/// Takes the key of one resolver and another chain.
#[derive(Debug)]
struct Other {
    hello: Arc<dyn rustls::server::ResolvesServerCert>,
    chain: Vec<CertificateDer<'static>>,
}

impl rustls::server::ResolvesServerCert for Other {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let own = self.hello.resolve(hello)?;
        Some(Arc::new(CertifiedKey::new(
            self.chain.clone(),
            own.key.clone(),
        )))
    }
}

#[tokio::test]
async fn a_process_that_joins_believes_the_root_of_its_token_alone() {
    let mesh = Domain::new("mesh.local");
    let other = Domain::new("mesh.local");
    let server = open(&discovery(&mesh));
    let met = meet(server.clone(), config::joining(mesh.root.hash())).await;
    assert!(met.succeeded());
    assert_eq!(met.server.unwrap().peer, None);
    let met = meet(server, config::joining(other.root.hash())).await;
    assert_eq!(reason(met.client), "Certificate(RootNotPinned)");
}

#[tokio::test]
async fn a_process_that_joins_speaks_to_nobody_but_discovery() {
    let mesh = Domain::new("mesh.local");
    // A member shows the root as well, and its certificate is good.
    let mut member = Forged::new(&mesh, |_| {});
    member.chain.push(mesh.root.certificate().clone());
    let member = member.serves(&open(&mesh.credentials("web")));
    let met = meet(member, config::joining(mesh.root.hash())).await;
    assert!(reason(met.client).contains("NotDiscovery"));
    assert!(!met.answered);
}

#[tokio::test]
async fn the_pinned_root_must_be_shown_and_be_its_own_signature() {
    let mesh = Domain::new("mesh.local");
    let own = discovery(&mesh);
    let honest = open(&own);
    let joining = || config::joining(mesh.root.hash());
    let [leaf, issuer, root] = own.chain() else {
        panic!("discovery shows its root");
    };
    let whole = vec![leaf.clone(), issuer.clone(), root.clone()];
    let met = meet(presenting(&honest, &own, whole), joining()).await;
    assert!(met.succeeded(), "control");

    let without = vec![leaf.clone(), issuer.clone()];
    let met = meet(presenting(&honest, &own, without), joining()).await;
    assert_eq!(reason(met.client), "Certificate(RootNotPinned)");

    let mut long = vec![leaf.clone()];
    long.extend([issuer, issuer, issuer, root].map(Clone::clone));
    let met = meet(presenting(&honest, &own, long), joining()).await;
    assert!(reason(met.client).contains("TooLarge"));

    // The root's name and public key, with dates that somebody else wrote.
    let key = rcgen::KeyPair::from_pem(&mesh.root.key().to_pem()).unwrap();
    let mut params: CertificateParams = authority_params(&mesh);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "root.mesh.local");
    let public = SubjectPublicKeyInfo::from_pem(&key.public_key_pem()).unwrap();
    let resigned = params.self_signed(&key).unwrap();
    let stranger = rcgen::KeyPair::generate().unwrap();
    let stranger = rcgen::Issuer::from_params(&params, &stranger);
    let wrapped = params.signed_by(&public, &stranger).unwrap();
    let shows = |root: rcgen::Certificate| vec![leaf.clone(), issuer.clone(), root.into()];
    let met = meet(presenting(&honest, &own, shows(resigned)), joining()).await;
    assert!(met.succeeded(), "control");
    let met = meet(presenting(&honest, &own, shows(wrapped)), joining()).await;
    assert_eq!(reason(met.client), "Certificate(RootNotPinned)");
}

#[tokio::test]
async fn a_member_expects_discovery_of_its_own_domain() {
    let mesh = Domain::new("mesh.local");
    let web = mesh.credentials("web");
    let met = meet(open(&discovery(&mesh)), config::to_discovery(&web)).await;
    assert!(met.succeeded());
    assert_eq!(met.server.unwrap().peer.as_ref(), Some(web.identity()));
    let posing = open(&mesh.credentials("orders"));
    let met = meet(posing, config::to_discovery(&web)).await;
    assert!(reason(met.client).contains("Unexpected"));
    let other = open(&discovery(&Domain::new("mesh.local")));
    let met = meet(other, config::to_discovery(&web)).await;
    assert_eq!(reason(met.client), "Certificate(UnknownAuthority)");
}

#[test]
fn a_bundle_holds_authorities_and_at_least_one() {
    let mesh = Domain::new("mesh.local");
    let bundle = |certificates| TrustBundle::new(mesh.issuer.domain().clone(), certificates);
    let leaf = mesh.credentials("web").chain()[0].clone();
    let refused = bundle(vec![mesh.root.certificate().clone(), leaf]);
    assert!(matches!(refused, Err(InvalidAnchor::NotAnAuthority { .. })));
    assert!(matches!(bundle(vec![]), Err(InvalidAnchor::None { .. })));
    let damaged = bundle(vec![CertificateDer::from(vec![0x30, 0])]);
    assert!(matches!(damaged, Err(InvalidAnchor::Unreadable)));
    let text = mesh.root.bundle().to_pem();
    let again = TrustBundle::from_pem(mesh.issuer.domain().clone(), &text).unwrap();
    assert_eq!(again.certificates(), mesh.root.bundle().certificates());
}

#[test]
fn text_holds_certificates_and_keys_as_other_tools_write_them() {
    let mesh = Domain::new("mesh.local");
    let chain = discovery(&mesh).chain().to_vec();
    let text = pem::write(&chain);
    assert_eq!(pem::read(&text).unwrap(), chain);
    assert!(text.lines().all(|line| line.len() <= 64));
    let theirs = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let ours = KeyPair::from_pem(&theirs.replace('\n', "\r\n")).unwrap();
    assert_eq!(ours.to_pem().as_str(), theirs.replace("\r\n", "\n"));
    for damaged in [
        "",
        "web",
        &text[..text.len() - 40],
        &text.replace("MII", "M!I"),
    ] {
        assert!(pem::read(damaged).is_err(), "{damaged}");
    }
    assert!(KeyPair::from_pem(&text).is_err());
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    assert!(KeyPair::from_pem(&rsa.serialize_pem()).is_err());
}

/// cert-manager writes EC keys in the older form unless told otherwise.
#[test]
fn a_key_of_the_older_form_is_read_and_written_as_such() {
    let key = KeyPair::generate().unwrap();
    let pkcs8 = rcgen::KeyPair::from_pem(&key.to_pem())
        .unwrap()
        .serialize_der();
    let start = pkcs8
        .windows(2)
        .position(|pair| pair == [0x30, 0x6b])
        .unwrap();
    let certificate = pem::write(&[CertificateDer::from(pkcs8[start..].to_vec())]);
    let sec1 = certificate.replace("CERTIFICATE", "EC PRIVATE KEY");
    let read = KeyPair::from_pem(&sec1).unwrap();
    assert_eq!(read.public_key_hash(), key.public_key_hash());
    assert_eq!(read.to_pem().as_str(), sec1);
}
