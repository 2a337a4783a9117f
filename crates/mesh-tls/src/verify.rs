//! Whether a presented chain proves an identity, at a time, for a role.
//!
//! The order is that of cost: sizes, then the leaf's own form, then signatures up to an anchor of
//! the leaf's own trust domain. Sizes come first since path building over a hostile chain of a
//! hundred certificates takes a hundred milliseconds, and anybody may ask for it.

use std::fmt;
use std::time::{Duration, SystemTime};

use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::token::RootHash;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::anchors::{TrustBundle, TrustBundles, key_hash};
use crate::leaf::{Leaf, NotAnSvid};
use crate::provider::SIGNATURES;
use crate::validity::Validity;

/// Certificates in a presented chain, the leaf and a root included.
pub const MAX_CHAIN_CERTIFICATES: usize = 4;
/// Bytes of a presented chain: a leaf of ours has some 700.
pub const MAX_CHAIN_BYTES: usize = 16 * 1024;

/// Which end of a connection shows the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that accepted.
    Server,
    /// The end that connected.
    Client,
}

/// A chain as a peer presents it.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The certificate of the peer itself.
    pub leaf: &'a CertificateDer<'a>,
    /// Whatever else it sent.
    pub issuers: &'a [CertificateDer<'a>],
}

impl<'a> Presented<'a> {
    /// Splits a chain that begins with its leaf; `None` of nothing.
    #[must_use]
    pub fn from_chain(chain: &'a [CertificateDer<'a>]) -> Option<Self> {
        let (leaf, issuers) = chain.split_first()?;
        Some(Self { leaf, issuers })
    }

    pub(crate) fn check_size(&self) -> Result<(), RefusedCertificate> {
        let certificates = 1 + self.issuers.len();
        let issuers: usize = self.issuers.iter().map(|issuer| issuer.len()).sum();
        let bytes = self.leaf.len() + issuers;
        if certificates > MAX_CHAIN_CERTIFICATES || bytes > MAX_CHAIN_BYTES {
            return Err(RefusedCertificate::TooLarge {
                certificates,
                bytes,
            });
        }
        Ok(())
    }
}

/// Proves who presents a chain: its identity is believed exactly when this returns it.
///
/// # Errors
///
/// [`RefusedCertificate`] says which rule the chain breaks.
pub fn verify(
    presented: &Presented<'_>,
    bundles: &TrustBundles,
    role: Role,
    now: SystemTime,
) -> Result<Leaf, RefusedCertificate> {
    presented.check_size()?;
    let leaf = Leaf::read(presented.leaf)?;
    if !leaf.fits(role) {
        return Err(RefusedCertificate::WrongRole { role });
    }
    let domain = leaf.identity().trust_domain();
    let Some(bundle) = bundles.of(domain) else {
        return Err(RefusedCertificate::UnknownDomain {
            domain: domain.to_owned(),
        });
    };
    path(presented, bundle, role, now)?;
    Ok(leaf)
}

/// Like [`verify`], for a peer that must be `expected`.
pub(crate) fn verify_expected(
    presented: &Presented<'_>,
    bundles: &TrustBundles,
    expected: &Identity,
    now: SystemTime,
) -> Result<Leaf, RefusedCertificate> {
    let leaf = verify(presented, bundles, Role::Server, now)?;
    if leaf.identity() != expected {
        return Err(RefusedCertificate::Unexpected {
            expected: expected.clone(),
            presented: leaf.identity().clone(),
        });
    }
    Ok(leaf)
}

/// Proves discovery at the first contact, by a root that the chain shows and `root` pins.
pub(crate) fn verify_discovery(
    presented: &Presented<'_>,
    root: &RootHash,
    now: SystemTime,
) -> Result<Leaf, RefusedCertificate> {
    presented.check_size()?;
    let leaf = Leaf::read(presented.leaf)?;
    if *leaf.identity() != discovery_of(leaf.identity()) {
        return Err(RefusedCertificate::NotDiscovery {
            presented: leaf.identity().clone(),
        });
    }
    let pinned = |issuer: &&CertificateDer<'_>| is_pinned(issuer, root);
    let anchor = presented.issuers.iter().find(pinned);
    let anchor = anchor.ok_or(RefusedCertificate::RootNotPinned)?;
    let domain = domain_of(leaf.identity());
    let bundle = TrustBundle::new(domain, vec![anchor.clone().into_owned()])
        .map_err(|_| RefusedCertificate::RootNotPinned)?;
    path(presented, &bundle, Role::Server, now)?;
    Ok(leaf)
}

/// Whether a certificate holds the pinned key, and says so itself: anybody can write another
/// certificate around a public key, with other dates.
fn is_pinned(certificate: &CertificateDer<'_>, root: &RootHash) -> bool {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => key_hash(&parsed) == *root && parsed.verify_signature(None).is_ok(),
        Ok(_) | Err(_) => false,
    }
}

/// The discovery server in the domain of `identity`.
pub(crate) fn discovery_of(identity: &Identity) -> Identity {
    Identity::discovery(&domain_of(identity))
}

fn domain_of(identity: &Identity) -> TrustDomain {
    let domain = identity.trust_domain().parse();
    domain.expect("an identity's domain was parsed with it")
}

/// Builds the path from the leaf to an anchor of `bundle` that counts, and tells when all that
/// stands above the leaf counts.
pub(crate) fn path(
    presented: &Presented<'_>,
    bundle: &TrustBundle,
    role: Role,
    now: SystemTime,
) -> Result<Validity, RefusedCertificate> {
    let leaf = EndEntityCert::try_from(presented.leaf)?;
    let anchors = bundle.live(now);
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let usage = match role {
        Role::Server => KeyUsage::server_auth(),
        Role::Client => KeyUsage::client_auth(),
    };
    let path = leaf.verify_for_usage(
        SIGNATURES.all,
        &anchors,
        presented.issuers,
        UnixTime::since_unix_epoch(since),
        usage,
        None,
        None,
    )?;
    let anchor = bundle.validity_of(path.anchor());
    let mut validity = anchor.ok_or(RefusedCertificate::UnknownAuthority)?;
    for issuer in path.intermediate_certificates() {
        validity = validity.intersect(issuer_validity(&issuer.der())?);
    }
    Ok(validity)
}

/// X509-SVID 4.3: who signs certificates must be allowed to; path building looks only at `CA:true`.
fn issuer_validity(der: &CertificateDer<'_>) -> Result<Validity, RefusedCertificate> {
    let Ok(([], issuer)) = X509Certificate::from_der(der) else {
        return Err(webpki::Error::BadDer.into());
    };
    match issuer.key_usage() {
        Ok(Some(usage)) if usage.value.key_cert_sign() => Ok(Validity::of(&issuer)),
        Ok(_) | Err(_) => Err(RefusedCertificate::IssuerMayNotSign {
            subject: issuer.subject().to_string(),
        }),
    }
}

/// The system's form of the time that rustls gives.
pub(crate) fn system_time(now: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs())
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// Why a presented chain proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedCertificate {
    /// The chain is longer or larger than any honest one.
    #[error(
        "the peer presents {certificates} certificates of {bytes} bytes: at most 4 and 16384 are read"
    )]
    TooLarge {
        /// How many there are.
        certificates: usize,
        /// How large they are together.
        bytes: usize,
    },
    /// The leaf is of a form that gives no identity.
    #[error("the peer's certificate gives no identity")]
    Leaf(#[from] NotAnSvid),
    /// The leaf is not for this end of a connection.
    #[error("the peer's certificate is not for a {role}: its extended key usage does not say so")]
    WrongRole {
        /// What the peer is here.
        role: Role,
    },
    /// No bundle for the leaf's own domain.
    #[error("no trust anchors for the peer's domain {domain:?}")]
    UnknownDomain {
        /// The domain of the identity that was claimed.
        domain: String,
    },
    /// No anchor of the domain vouches for it.
    #[error("no trust anchor of its domain vouches for the peer's certificate")]
    UnknownAuthority,
    /// The leaf or an issuer is past its end.
    #[error(
        "the peer's certificate or an issuer of it has expired: compare the clocks of both ends"
    )]
    Expired,
    /// The leaf or an issuer does not count yet.
    #[error(
        "the peer's certificate or an issuer of it is not valid yet: compare the clocks of both ends"
    )]
    NotYetValid,
    /// An issuer in the path has no right to sign certificates.
    #[error("the issuer {subject:?} of the peer's certificate lacks keyCertSign")]
    IssuerMayNotSign {
        /// The issuer's subject.
        subject: String,
    },
    /// The path breaks another rule of RFC 5280.
    #[error("the peer's chain does not hold")]
    Path(#[source] webpki::Error),
    /// A valid certificate, of somebody else.
    #[error("expected {expected}, but the peer is {presented}")]
    Unexpected {
        /// Who should be there.
        expected: Identity,
        /// Who is there.
        presented: Identity,
    },
    /// At the first contact: no certificate of the chain is the pinned root.
    #[error("the peer does not show the root that the token names: is this the token's own mesh?")]
    RootNotPinned,
    /// At the first contact: the peer is not discovery.
    #[error("expected discovery, but the peer is {presented}")]
    NotDiscovery {
        /// Who is there.
        presented: Identity,
    },
}

impl From<webpki::Error> for RefusedCertificate {
    fn from(error: webpki::Error) -> Self {
        match error {
            webpki::Error::CertExpired { .. } => Self::Expired,
            webpki::Error::CertNotValidYet { .. } => Self::NotYetValid,
            // The second is an issuer of the right name with another key.
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                Self::UnknownAuthority
            }
            other => Self::Path(other),
        }
    }
}
