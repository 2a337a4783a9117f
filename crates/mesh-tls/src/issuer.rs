//! Signs leaves: who asks with which key becomes a certificate of one fixed form.
//!
//! Nothing of the form comes from the request but the key.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use mesh_policy::identity::{Identity, TrustDomain};
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::anchors::{self, InvalidAnchor, TrustBundle};
use crate::pem::{self, InvalidPem};
use crate::request::{InvalidKey, InvalidRequest, KeyPair, SigningRequest};
use crate::root::{set_validity, validity};
use crate::serial::{NoRandomNumbers, hex, serial};
use crate::validity::Validity;
use crate::verify::{self, Presented, RefusedCertificate, Role};

/// How long a workload's leaf counts, unless the issuer ends sooner.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What of a leaf is chosen by the issuer's owner; never by who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// How long it counts; default [`LEAF_LIFETIME`]. Shorter means more renewals, longer that a
    /// stolen key serves longer.
    pub ttl: Duration,
    /// DNS names beside the identity, for servers that ordinary HTTPS clients call; default none.
    pub dns_names: Vec<String>,
    /// IP addresses beside the identity, for the same use; default none.
    pub addresses: Vec<IpAddr>,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            ttl: LEAF_LIFETIME,
            dns_names: Vec::new(),
            addresses: Vec::new(),
        }
    }
}

/// A signed leaf.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf first, then its issuers below the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's serial in hexadecimal.
    pub serial: String,
    /// The last second in which the leaf counts.
    pub not_after: SystemTime,
}

/// An issuing certificate with its key, proven to lead to an anchor of its domain.
pub struct Issuer {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    bundle: TrustBundle,
    validity: Validity,
    /// When the last of its anchors ends.
    root_not_after: SystemTime,
}

impl Issuer {
    /// Takes an issuer that somebody else made, such as cert-manager: `tls.crt`, `tls.key`, and
    /// the anchors of its domain (`ca.crt`).
    ///
    /// # Errors
    ///
    /// [`InvalidIssuer`] when a part does not read, the key is another's, or a leaf that it signs
    /// at `now` would not be believed.
    pub fn from_pem(
        chain: &str,
        key: &str,
        bundle: TrustBundle,
        now: SystemTime,
    ) -> Result<Self, InvalidIssuer> {
        let mut chain = pem::read(chain)?;
        // Some write the root at the end. Peers have it, and it need not travel.
        chain.retain(|certificate| !bundle.certificates().contains(certificate));
        if chain.is_empty() {
            return Err(InvalidIssuer::OnlyRoot);
        }
        Self::new(chain, KeyPair::from_pem(key)?, bundle, now)
    }

    /// Proves an issuer by what it is for: it signs a leaf, which is then verified like any other.
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: KeyPair,
        bundle: TrustBundle,
        now: SystemTime,
    ) -> Result<Self, InvalidIssuer> {
        if anchors::root_hash(&chain[0])? != key.public_key_hash() {
            return Err(InvalidIssuer::ForeignKey);
        }
        let validity = own_validity(&chain)?;
        let root_not_after = last_end(&bundle)?;
        if root_not_after < now {
            return Err(InvalidIssuer::RootExpired {
                since: root_not_after,
            });
        }
        if validity.not_after < now {
            return Err(InvalidIssuer::Expired {
                since: validity.not_after,
            });
        }
        let mut issuer = Self {
            chain,
            key,
            bundle,
            validity,
            root_not_after,
        };
        issuer.validity = issuer.prove(now)?;
        Ok(issuer)
    }

    /// Signs a leaf for nobody and verifies it; gives the time in which the whole path counts.
    fn prove(&self, now: SystemTime) -> Result<Validity, InvalidIssuer> {
        let somebody = Identity::discovery(self.domain());
        let request = KeyPair::generate()?.signing_request()?;
        let issued = self
            .issue(&request, &somebody, &Template::default(), now)
            .map_err(|error| InvalidIssuer::Trial(Box::new(error)))?;
        let presented = Presented::from_chain(&issued.chain).expect("a leaf was issued");
        presented.check_size()?;
        verify::path(&presented, &self.bundle, Role::Client, now)?;
        Ok(verify::path(&presented, &self.bundle, Role::Server, now)?)
    }

    /// Signs a leaf that says `identity`, for the key of `request`.
    ///
    /// It ends at the issuer's own end when that comes first.
    ///
    /// # Errors
    ///
    /// [`IssuingRefused`] when the issuer does not count at `now`, `identity` is of another
    /// domain, or `template` holds what no certificate can.
    pub fn issue(
        &self,
        request: &SigningRequest,
        identity: &Identity,
        template: &Template,
        now: SystemTime,
    ) -> Result<Issued, IssuingRefused> {
        if identity.trust_domain() != self.domain().as_str() {
            return Err(IssuingRefused::ForeignDomain {
                identity: identity.clone(),
                domain: self.domain().clone(),
            });
        }
        self.check_clock(now)?;
        let mut asked = validity(now, template.ttl);
        asked.not_after = asked.not_after.min(self.validity.not_after);
        let serial = serial()?;
        let hexadecimal = hex(serial.as_ref());
        let mut params = leaf(identity, template)?;
        params.serial_number = Some(serial);
        set_validity(&mut params, asked);
        let signer = rcgen::Issuer::from_ca_cert_der(&self.chain[0], self.key.signer())
            .map_err(IssuingRefused::Signing)?;
        let leaf = params
            .signed_by(request.key(), &signer)
            .map_err(IssuingRefused::Signing)?;
        let mut chain = vec![leaf.into()];
        chain.extend_from_slice(&self.chain);
        Ok(Issued {
            chain,
            serial: hexadecimal,
            not_after: asked.not_after,
        })
    }

    /// Whether the issuer can sign at `now`: what a readiness check asks.
    ///
    /// # Errors
    ///
    /// [`IssuingRefused::RootExpired`], [`IssuingRefused::Expired`] or [`IssuingRefused::NotYetValid`].
    pub fn check_clock(&self, now: SystemTime) -> Result<(), IssuingRefused> {
        if now >= self.root_not_after {
            return Err(IssuingRefused::RootExpired {
                since: self.root_not_after,
            });
        }
        // A leaf that ends in the second in which it is made serves nobody.
        if now >= self.validity.not_after {
            return Err(IssuingRefused::Expired {
                since: self.validity.not_after,
            });
        }
        if now < self.validity.not_before {
            return Err(IssuingRefused::NotYetValid {
                until: self.validity.not_before,
            });
        }
        Ok(())
    }

    /// The domain whose identities it may sign.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        self.bundle.domain()
    }

    /// The anchors that its leaves lead to.
    #[must_use]
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// When the root ends: the last of them, where there are several.
    #[must_use]
    pub fn root_not_after(&self) -> SystemTime {
        self.root_not_after
    }

    /// The last second in which the issuer, all above it and its root count.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    /// The issuer's certificate and those between it and the root, as PEM text.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        pem::write(&self.chain)
    }

    /// The issuer's private key as PEM text, for a file that only its owner can read.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("domain", self.domain())
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

/// When every certificate of `chain` counts.
fn own_validity(chain: &[CertificateDer<'_>]) -> Result<Validity, InvalidAnchor> {
    let mut whole = anchors::validity(&chain[0])?;
    for certificate in &chain[1..] {
        whole = whole.intersect(anchors::validity(certificate)?);
    }
    Ok(whole)
}

/// When the last anchor of `bundle` ends.
fn last_end(bundle: &TrustBundle) -> Result<SystemTime, InvalidAnchor> {
    let mut last = SystemTime::UNIX_EPOCH;
    for anchor in bundle.certificates() {
        last = last.max(anchors::validity(anchor)?.not_after);
    }
    Ok(last)
}

/// The form of every leaf: no subject, so that its names are critical (RFC 5280, 4.1.2.6).
fn leaf(identity: &Identity, template: &Template) -> Result<CertificateParams, IssuingRefused> {
    let name = |text: &str| {
        text.try_into()
            .map_err(|_| IssuingRefused::Name { name: text.into() })
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(name(identity.as_str())?)];
    for dns in &template.dns_names {
        params.subject_alt_names.push(SanType::DnsName(name(dns)?));
    }
    let addresses = template.addresses.iter().copied();
    params
        .subject_alt_names
        .extend(addresses.map(SanType::IpAddress));
    // Writes `CA:FALSE` and the subject key identifier, where the plain form writes neither.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Why a root or an issuer cannot be made or taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidIssuer {
    /// The key does not read.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// A certificate does not read.
    #[error(transparent)]
    Certificate(#[from] InvalidAnchor),
    /// The chain's text does not read.
    #[error(transparent)]
    Pem(#[from] InvalidPem),
    /// Leaves are signed by an issuer, never by the root.
    #[error("the chain holds the root alone: sign an issuer with it and give that")]
    OnlyRoot,
    /// Key and certificate do not belong together.
    #[error("the private key is not that of the certificate: give both of one issuer")]
    ForeignKey,
    /// It is past its end.
    #[error("the issuer has expired: sign a new one with its root")]
    Expired {
        /// Its last second.
        since: SystemTime,
    },
    /// Its root is past its end: nothing that it could sign would be believed.
    #[error(
        "the root has expired: make a new CA, and let every process join again with a token of it"
    )]
    RootExpired {
        /// Its last second.
        since: SystemTime,
    },
    /// What it signs leads to no anchor.
    #[error("what this issuer signs would not be believed")]
    Disbelieved(#[from] RefusedCertificate),
    /// It could not sign a leaf.
    #[error("the issuer cannot sign a leaf")]
    Trial(#[source] Box<IssuingRefused>),
    /// The request for the trial leaf could not be made.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] NoRandomNumbers),
    /// The certificate could not be put together or signed.
    #[error("the certificate cannot be signed")]
    Signing(#[source] rcgen::Error),
}

/// Why no leaf is signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuingRefused {
    /// An issuer speaks for its own domain alone.
    #[error("{identity} is not of the issuer's domain {domain}")]
    ForeignDomain {
        /// Who was to be named.
        identity: Identity,
        /// Whom the issuer may name.
        domain: TrustDomain,
    },
    /// The issuer, or something between it and its root, is past its end.
    #[error("the issuer has expired and signs nothing: sign a new one with its root")]
    Expired {
        /// Its last second.
        since: SystemTime,
    },
    /// The root is past its end.
    #[error(
        "the root has expired and vouches for nothing: make a new CA, and let every process join again with a token of it"
    )]
    RootExpired {
        /// Its last second.
        since: SystemTime,
    },
    /// The clock stands before the issuer's beginning.
    #[error("the issuer is not valid yet: look at the clock of this machine")]
    NotYetValid {
        /// Its first second.
        until: SystemTime,
    },
    /// A DNS name that no certificate can carry.
    #[error("{name:?} cannot stand in a certificate: names are ASCII")]
    Name {
        /// The name.
        name: String,
    },
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] NoRandomNumbers),
    /// The certificate could not be put together or signed.
    #[error("the certificate cannot be signed")]
    Signing(#[source] rcgen::Error),
}
