//! Certificates that the mesh's own issuer would never sign, and one that looks like it did.

use std::fs;
use std::path::Path;

use mesh_test::TestMesh;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

/// A leaf to be signed: correct unless told otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    params: CertificateParams,
}

impl Leaf {
    /// The template that discovery uses, for the identity `uri`.
    pub(crate) fn of(uri: &str) -> Self {
        Self::nameless().and_uri(uri)
    }

    /// The same without a name.
    pub(crate) fn nameless() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        Self { params }
    }

    pub(crate) fn and_uri(self, uri: &str) -> Self {
        self.and(SanType::URI(uri.try_into().expect("ASCII")))
    }

    pub(crate) fn and_dns(self, name: &str) -> Self {
        self.and(SanType::DnsName(name.try_into().expect("ASCII")))
    }

    pub(crate) fn and_common_name(mut self, name: &str) -> Self {
        self.params
            .distinguished_name
            .push(DnType::CommonName, name);
        self
    }

    pub(crate) fn signing(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        self
    }

    pub(crate) fn with(mut self, usage: KeyUsagePurpose) -> Self {
        self.params.key_usages.push(usage);
        self
    }

    fn and(mut self, name: SanType) -> Self {
        self.params.subject_alt_names.push(name);
        self
    }
}

/// Signs `leaf` with the mesh's issuer and writes `leaf.pem`, `chain.pem`, `key.pem`, `root.pem`.
pub(crate) fn under_the_mesh(mesh: &TestMesh, leaf: &Leaf, folder: &Path) {
    let ca = mesh.ca_folder();
    let read =
        |name: &str| fs::read_to_string(ca.join(name)).expect("discovery keeps its CA there");
    let chain = read("issuer.crt");
    let key = KeyPair::from_pem(&read("issuer.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&chain, key).expect("an issuer");
    write(leaf, &issuer, [&chain, &read("root.crt")], folder);
}

/// The same under a root and an issuer of the forger's own, with the same names.
pub(crate) fn under_an_own_root(leaf: &Leaf, folder: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let root_key = KeyPair::generate().expect("a key");
    let params = authority("root");
    let root = params.self_signed(&root_key).expect("a root");
    let root_issuer = Issuer::new(params, root_key);
    let key = KeyPair::generate().expect("a key");
    let params = authority("issuer");
    let certificate = params.signed_by(&key, &root_issuer).expect("an issuer");
    let issuer = Issuer::new(params, key);
    write(leaf, &issuer, [&certificate.pem(), &root.pem()], folder);
}

fn write(leaf: &Leaf, issuer: &Issuer<'_, KeyPair>, [chain, root]: [&String; 2], folder: &Path) {
    let key = KeyPair::generate().expect("a key");
    let signed = leaf.params.signed_by(&key, issuer).expect("a signature");
    let files = [
        ("leaf.pem", signed.pem()),
        ("chain.pem", chain.clone()),
        ("key.pem", key.serialize_pem()),
        ("root.pem", root.clone()),
    ];
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("a writable folder");
    }
}
