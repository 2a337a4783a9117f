//! The root of a trust domain: it signs issuers, and is best kept off the machine that runs one.

use std::fmt;
use std::time::{Duration, SystemTime};

use mesh_policy::identity::TrustDomain;
use mesh_policy::token::RootHash;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;

use crate::anchors::{self, TrustBundle};
use crate::issuer::{InvalidIssuer, Issuer};
use crate::request::KeyPair;
use crate::serial::serial;
use crate::validity::{Validity, whole_seconds};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a root counts.
pub const ROOT_LIFETIME: Duration = DAY.saturating_mul(3650);
/// How long an issuer counts, unless its root ends sooner.
pub const ISSUER_LIFETIME: Duration = DAY.saturating_mul(365);
/// How far certificates are backdated, for peers whose clock is behind.
pub const BACKDATE: Duration = Duration::from_secs(60);

/// A root certificate and its key.
pub struct Root {
    key: KeyPair,
    bundle: TrustBundle,
    hash: RootHash,
}

impl Root {
    /// Makes the root of `domain`: P-256, 10 years.
    ///
    /// # Errors
    ///
    /// [`InvalidIssuer`] when the system gives no random numbers.
    pub fn create(domain: &TrustDomain, now: SystemTime) -> Result<Self, InvalidIssuer> {
        let key = KeyPair::generate()?;
        let mut params = authority(domain, "root", 1)?;
        set_validity(&mut params, validity(now, ROOT_LIFETIME));
        let certificate = params
            .self_signed(key.signer())
            .map_err(InvalidIssuer::Signing)?;
        let bundle = TrustBundle::new(domain.clone(), vec![certificate.into()])?;
        Self::new(key, bundle)
    }

    /// Reads a root's certificate and key.
    ///
    /// # Errors
    ///
    /// [`InvalidIssuer`] when they do not read or do not belong together.
    pub fn from_pem(
        domain: &TrustDomain,
        certificate: &str,
        key: &str,
    ) -> Result<Self, InvalidIssuer> {
        let key = KeyPair::from_pem(key)?;
        let bundle = TrustBundle::from_pem(domain.clone(), certificate)?;
        Self::new(key, bundle)
    }

    fn new(key: KeyPair, bundle: TrustBundle) -> Result<Self, InvalidIssuer> {
        let hash = anchors::root_hash(&bundle.certificates()[0])?;
        if hash != key.public_key_hash() {
            return Err(InvalidIssuer::ForeignKey);
        }
        Ok(Self { key, bundle, hash })
    }

    /// Makes an issuer under this root: P-256, one year, signing leaves only.
    ///
    /// No name constraint is set: rustls-webpki refuses every chain with one on URIs.
    ///
    /// # Errors
    ///
    /// [`InvalidIssuer`] when the root itself does not count at `now`.
    pub fn sign_issuer(&self, now: SystemTime) -> Result<Issuer, InvalidIssuer> {
        let key = KeyPair::generate()?;
        let mut params = authority(self.bundle.domain(), "issuer", 0)?;
        let own = anchors::validity(self.certificate())?;
        let mut asked = validity(now, ISSUER_LIFETIME);
        asked.not_after = asked.not_after.min(own.not_after);
        set_validity(&mut params, asked);
        params.use_authority_key_identifier_extension = true;
        let signer = rcgen::Issuer::from_ca_cert_der(self.certificate(), self.key.signer())
            .map_err(InvalidIssuer::Signing)?;
        let certificate = params
            .signed_by(key.signer(), &signer)
            .map_err(InvalidIssuer::Signing)?;
        Issuer::new(vec![certificate.into()], key, self.bundle.clone(), now)
    }

    /// The root's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.bundle.certificates()[0]
    }

    /// The bundle that trusts this root alone.
    #[must_use]
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// What join tokens pin.
    #[must_use]
    pub fn hash(&self) -> RootHash {
        self.hash
    }

    /// The root's private key, whose text is its PEM form.
    #[must_use]
    pub fn key(&self) -> &KeyPair {
        &self.key
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("domain", self.bundle.domain())
            .finish_non_exhaustive()
    }
}

/// What root and issuer share. Their URI is the domain's own ID, which has no path (X509-SVID 3.2).
fn authority(
    domain: &TrustDomain,
    role: &str,
    issuers_below: u8,
) -> Result<CertificateParams, InvalidIssuer> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{role}.{domain}"));
    let id = format!("spiffe://{domain}")
        .try_into()
        .map_err(InvalidIssuer::Signing)?;
    params.subject_alt_names = vec![SanType::URI(id)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(issuers_below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// From shortly before `now` for `lifetime`.
pub(crate) fn validity(now: SystemTime, lifetime: Duration) -> Validity {
    let now = whole_seconds(now);
    Validity {
        not_before: now.checked_sub(BACKDATE).unwrap_or(SystemTime::UNIX_EPOCH),
        not_after: now.checked_add(lifetime).unwrap_or(now),
    }
}

pub(crate) fn set_validity(params: &mut CertificateParams, validity: Validity) {
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
}
