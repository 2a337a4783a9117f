//! What a SPIFFE leaf must look like (X509-SVID, 2 to 5).
//!
//! X.509 path building answers "who signed this"; it takes a CA certificate's key usage, a missing
//! one, or two names in one certificate without complaint. Each of these has been a way around
//! authorization somewhere, so a leaf that is not exactly of our form is nobody.

use std::time::SystemTime;

use mesh_policy::identity::{Identity, InvalidIdentity};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::validity::Validity;
use crate::verify::Role;

/// A leaf of the right form. It says who signed it claims it is: only [`crate::verify`] believes it.
#[derive(Clone, Debug)]
pub struct Leaf {
    identity: Identity,
    validity: Validity,
    serves: bool,
    calls: bool,
}

impl Leaf {
    /// Reads a leaf and checks its form, not its signature and not its dates.
    ///
    /// # Errors
    ///
    /// [`NotAnSvid`] names the rule that it breaks.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, NotAnSvid> {
        let Ok(([], certificate)) = X509Certificate::from_der(der) else {
            return Err(NotAnSvid::Unreadable);
        };
        let identity = identity(&certificate)?;
        check_authority(&certificate)?;
        let usages = certificate.extended_key_usage();
        let Some(usages) = usages.map_err(|_| NotAnSvid::Unreadable)? else {
            return Err(NotAnSvid::NoExtendedKeyUsage);
        };
        Ok(Self {
            identity,
            validity: Validity::of(&certificate),
            serves: usages.value.server_auth,
            calls: usages.value.client_auth,
        })
    }

    /// The one identity it carries.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The last second in which it counts.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    /// Whether its extended key usage names what `role` does.
    pub(crate) fn fits(&self, role: Role) -> bool {
        match role {
            Role::Server => self.serves,
            Role::Client => self.calls,
        }
    }
}

/// X509-SVID 2: exactly one URI. Other kinds of names may stand beside it and mean nothing.
fn identity(certificate: &X509Certificate<'_>) -> Result<Identity, NotAnSvid> {
    // An error here is a second extension of the kind, or one that does not read.
    let names = certificate.subject_alternative_name();
    let Some(names) = names.map_err(|_| NotAnSvid::Unreadable)? else {
        return Err(NotAnSvid::NoUri);
    };
    let mut uris = names.value.general_names.iter().filter_map(uri);
    match (uris.next(), uris.next()) {
        (None, _) => Err(NotAnSvid::NoUri),
        (Some(Err(refused)), _) | (_, Some(Err(refused))) => Err(refused),
        (Some(Ok(uri)), None) => Ok(uri.parse()?),
        (Some(Ok(_)), Some(Ok(_))) => Err(NotAnSvid::SeveralUris),
    }
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<Result<&'a str, NotAnSvid>> {
    match name {
        GeneralName::URI(uri) => Some(Ok(uri)),
        // It could be a URI of a spelling that is no text: not to be passed over.
        GeneralName::Invalid(..) => Some(Err(NotAnSvid::Unreadable)),
        _ => None,
    }
}

/// X509-SVID 4.1 and 4.3: no CA, and a key for signatures of the handshake, not of certificates.
fn check_authority(certificate: &X509Certificate<'_>) -> Result<(), NotAnSvid> {
    let constraints = certificate.basic_constraints();
    if let Some(constraints) = constraints.map_err(|_| NotAnSvid::Unreadable)?
        && constraints.value.ca
    {
        return Err(NotAnSvid::Authority);
    }
    let usage = certificate.key_usage();
    let Some(usage) = usage.map_err(|_| NotAnSvid::Unreadable)? else {
        return Err(NotAnSvid::NoKeyUsage);
    };
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(NotAnSvid::Signer);
    }
    if !usage.value.digital_signature() {
        return Err(NotAnSvid::NoDigitalSignature);
    }
    Ok(())
}

/// Why a certificate gives no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnSvid {
    /// It is not one X.509 certificate, or an extension of it does not read or comes twice.
    #[error("it is no well-formed X.509 certificate")]
    Unreadable,
    /// No URI among its alternative names; the subject and DNS names do not count.
    #[error("it carries no SPIFFE ID: exactly one URI is needed among its alternative names")]
    NoUri,
    /// Two URIs: which one would be meant?
    #[error("it carries several URIs: exactly one is allowed")]
    SeveralUris,
    /// Its URI is no identity.
    #[error("its URI is refused")]
    Identity(#[from] InvalidIdentity),
    /// It is a CA certificate.
    #[error("it is a CA certificate, which names no workload")]
    Authority,
    /// Its key may sign certificates or revocation lists.
    #[error("its key may sign certificates or revocation lists, which a workload's must not")]
    Signer,
    /// It does not say what its key is for.
    #[error("it has no key usage: digitalSignature is needed")]
    NoKeyUsage,
    /// Its key is not for handshakes.
    #[error("its key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// It does not say whether it serves or calls.
    #[error("it has no extended key usage: serverAuth and clientAuth are needed")]
    NoExtendedKeyUsage,
}
