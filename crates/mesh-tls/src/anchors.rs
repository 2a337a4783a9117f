//! Whom to believe, for each trust domain apart.
//!
//! Bundles of several domains are kept side by side and never merged: the CA of one domain must
//! not vouch for identities of another (SPIFFE Federation, 4.3). An anchor that is past its own
//! end vouches for nobody; path building does not look at that, so it is done here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use mesh_policy::identity::TrustDomain;
use mesh_policy::token::RootHash;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::pem::{self, InvalidPem};
use crate::validity::Validity;

/// SHA-256 of a certificate's `SubjectPublicKeyInfo`, the whole DER element.
///
/// It survives a renewal of the root with the same key, which is why tokens pin it and not the
/// certificate.
///
/// # Errors
///
/// [`InvalidAnchor::Unreadable`] when `certificate` is not one X.509 certificate.
pub fn root_hash(certificate: &CertificateDer<'_>) -> Result<RootHash, InvalidAnchor> {
    Ok(key_hash(&parse(certificate)?))
}

/// When a certificate counts.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, InvalidAnchor> {
    Ok(Validity::of(&parse(certificate)?))
}

pub(crate) fn key_hash(certificate: &X509Certificate<'_>) -> RootHash {
    let hash = digest(&SHA256, certificate.public_key().raw);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, InvalidAnchor> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(InvalidAnchor::Unreadable),
    }
}

/// The trust anchors of one domain, parsed once. Cheap to clone.
#[derive(Clone)]
pub struct TrustBundle(Arc<Bundle>);

struct Bundle {
    domain: TrustDomain,
    certificates: Vec<CertificateDer<'static>>,
    /// One for each certificate, in the same order, as are `validities`.
    anchors: Vec<TrustAnchor<'static>>,
    validities: Vec<Validity>,
}

impl TrustBundle {
    /// Takes the anchors of `domain`; an expired one is kept, and vouches for nobody.
    ///
    /// # Errors
    ///
    /// [`InvalidAnchor`] when there is none, or one is unreadable or no CA certificate.
    pub fn new(
        domain: TrustDomain,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Self, InvalidAnchor> {
        if certificates.is_empty() {
            return Err(InvalidAnchor::None { domain });
        }
        let mut anchors = Vec::with_capacity(certificates.len());
        let mut validities = Vec::with_capacity(certificates.len());
        for certificate in &certificates {
            let parsed = parse(certificate)?;
            if !parsed.is_ca() {
                return Err(InvalidAnchor::NotAnAuthority {
                    subject: parsed.subject().to_string(),
                });
            }
            let anchor = webpki::anchor_from_trusted_cert(certificate)
                .map_err(|_| InvalidAnchor::Unreadable)?;
            anchors.push(anchor.to_owned());
            validities.push(Validity::of(&parsed));
        }
        Ok(Self(Arc::new(Bundle {
            domain,
            certificates,
            anchors,
            validities,
        })))
    }

    /// Reads the anchors of `domain` from PEM text, such as a `ca.crt`.
    ///
    /// # Errors
    ///
    /// Those of [`TrustBundle::new`], and [`InvalidAnchor::Pem`].
    pub fn from_pem(domain: TrustDomain, text: &str) -> Result<Self, InvalidAnchor> {
        Self::new(domain, pem::read(text)?)
    }

    /// The anchors as PEM text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::write(self.certificates())
    }

    /// The domain whose identities these anchors vouch for.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.0.domain
    }

    /// The anchors' certificates, in the order given.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.certificates
    }

    /// The anchors that count at `now`: without a copy when that is all of them.
    pub(crate) fn live(&self, now: SystemTime) -> Cow<'_, [TrustAnchor<'static>]> {
        let Bundle {
            anchors,
            validities,
            ..
        } = &*self.0;
        if validities.iter().all(|v| v.contains(now)) {
            return Cow::Borrowed(anchors);
        }
        let pairs = anchors.iter().zip(validities);
        let live = pairs.filter(|(_, validity)| validity.contains(now));
        live.map(|(anchor, _)| anchor.clone()).collect()
    }

    /// When the anchor equal to `trusted` counts; the longest, when a renewal left several.
    pub(crate) fn validity_of(&self, trusted: &TrustAnchor<'_>) -> Option<Validity> {
        let pairs = self.0.anchors.iter().zip(&self.0.validities);
        let same = pairs.filter(|(anchor, _)| *anchor == trusted);
        same.map(|(_, validity)| *validity)
            .max_by_key(|validity| validity.not_after)
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustBundle")
            .field("domain", self.domain())
            .field("anchors", &self.certificates().len())
            .finish()
    }
}

/// The bundles of all domains that are trusted, each for its own identities. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TrustBundles(Arc<BTreeMap<Box<str>, TrustBundle>>);

impl TrustBundles {
    /// Looks for the one bundle that may vouch for identities of `domain`.
    #[must_use]
    pub fn of(&self, domain: &str) -> Option<&TrustBundle> {
        self.0.get(domain)
    }
}

impl From<TrustBundle> for TrustBundles {
    fn from(bundle: TrustBundle) -> Self {
        Self::from_iter([bundle])
    }
}

/// Of two bundles of one domain the later replaces the earlier: they are never merged.
impl FromIterator<TrustBundle> for TrustBundles {
    fn from_iter<I: IntoIterator<Item = TrustBundle>>(bundles: I) -> Self {
        let by_domain = |bundle: TrustBundle| (bundle.domain().as_str().into(), bundle);
        Self(Arc::new(bundles.into_iter().map(by_domain).collect()))
    }
}

/// A certificate that cannot be an anchor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAnchor {
    /// A bundle without anchors trusts nobody.
    #[error("no trust anchor for {domain}: give at least one root certificate")]
    None {
        /// The domain.
        domain: TrustDomain,
    },
    /// It is not one X.509 certificate.
    #[error("a trust anchor is no X.509 certificate: give the root as DER or PEM")]
    Unreadable,
    /// It may not sign certificates.
    #[error("{subject:?} is no CA certificate: give the root, not a leaf")]
    NotAnAuthority {
        /// The subject it names.
        subject: String,
    },
    /// The text around it does not read.
    #[error(transparent)]
    Pem(#[from] InvalidPem),
}
