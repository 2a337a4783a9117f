//! A process's own proof of who it is, and whom it believes.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_policy::identity::Identity;
use mesh_policy::token::RootHash;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::anchors::{TrustBundles, key_hash};
use crate::leaf::NotAnSvid;
use crate::provider::provider;
use crate::request::KeyPair;
use crate::serial::hex;
use crate::verify::{self, Presented, RefusedCertificate, Role};

/// A key, its certificate chain and the bundles of the trusted domains, known to fit. Cheap to clone.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    identity: Identity,
    certified: Arc<CertifiedKey>,
    bundles: TrustBundles,
    not_after: SystemTime,
    serial: String,
    key_hash: RootHash,
}

impl Credentials {
    /// Puts together what an enrolment gave: `chain` begins with the leaf.
    ///
    /// Peers are sent exactly `chain`. Discovery's own ends with the root, so that a process which
    /// joins can find there the root that its token names.
    ///
    /// # Errors
    ///
    /// [`UnfitCredentials`] when the leaf is for another key, or peers with these same bundles
    /// would refuse it at `now`: better seen here than by every peer.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the key is wiped here, not kept by the caller"
    )]
    pub fn new(
        key: KeyPair,
        chain: Vec<CertificateDer<'static>>,
        bundles: TrustBundles,
        now: SystemTime,
    ) -> Result<Self, UnfitCredentials> {
        let presented = Presented::from_chain(&chain).ok_or(UnfitCredentials::NoCertificate)?;
        verify::verify(&presented, &bundles, Role::Client, now)?;
        let leaf = verify::verify(&presented, &bundles, Role::Server, now)?;
        let (_, certificate) =
            X509Certificate::from_der(presented.leaf).map_err(|_| NotAnSvid::Unreadable)?;
        let key_hash = key_hash(&certificate);
        if key_hash != key.public_key_hash() {
            return Err(UnfitCredentials::ForeignKey);
        }
        let serial = hex(certificate.raw_serial());
        // The copy is wiped by the provider once it is parsed.
        let certified = CertifiedKey::from_der(chain, key.to_der().clone_key(), &provider())
            .map_err(UnfitCredentials::Key)?;
        Ok(Self(Arc::new(Inner {
            identity: leaf.identity().clone(),
            certified: Arc::new(certified),
            bundles,
            not_after: leaf.not_after(),
            serial,
            key_hash,
        })))
    }

    /// Who this process is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// What it presents: the leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.certified.cert
    }

    /// Whom it believes.
    #[must_use]
    pub fn bundles(&self) -> &TrustBundles {
        &self.0.bundles
    }

    /// The last second in which the leaf counts.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.0.not_after
    }

    /// The leaf's serial in hexadecimal, for logs.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.0.serial
    }

    /// SHA-256 of the leaf's public key, for logs: it differs after every renewal.
    #[must_use]
    pub fn public_key_hash(&self) -> &RootHash {
        &self.0.key_hash
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.certified)
    }
}

/// Shows no key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("identity", &self.identity().as_str())
            .field("serial", &self.serial())
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

/// Parts that do not fit together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitCredentials {
    /// The chain is empty.
    #[error("no certificate was issued: a chain begins with the leaf")]
    NoCertificate,
    /// The leaf is for another key.
    #[error("the certificate is for another key: it answers another signing request")]
    ForeignKey,
    /// Peers would refuse it.
    #[error("peers would refuse the issued certificate")]
    Refused(#[from] RefusedCertificate),
    /// The key cannot be used for handshakes.
    #[error("the private key cannot be used for handshakes")]
    Key(#[source] rustls::Error),
}

impl From<NotAnSvid> for UnfitCredentials {
    fn from(leaf: NotAnSvid) -> Self {
        Self::Refused(leaf.into())
    }
}
