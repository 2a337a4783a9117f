//! A key, and the request to put it into a certificate.
//!
//! Of a request only the key counts, and the proof that the requester holds it. Whatever names,
//! usages or extensions it asks for are not even read: identity comes from attestation
//! (CVE-2022-40716 is what happens otherwise).

use std::fmt;

use mesh_policy::token::RootHash;
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData, SubjectPublicKeyInfo};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::pem;

/// Bytes of a request; one of ours has about 200.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;

/// A private key. It is never shown, and wiped when it goes.
pub struct KeyPair(Zeroizing<rcgen::KeyPair>);

impl KeyPair {
    /// Makes a fresh P-256 key.
    ///
    /// # Errors
    ///
    /// [`InvalidKey::NotMade`] when the system gives no random numbers.
    pub fn generate() -> Result<Self, InvalidKey> {
        let key = rcgen::KeyPair::generate().map_err(InvalidKey::NotMade)?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// Reads the first private key of `text`: PKCS#8, or the older SEC1 form of EC keys.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] when there is none, or it is of a kind the mesh does not use.
    pub fn from_pem(text: &str) -> Result<Self, InvalidKey> {
        let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(InvalidKey::Pem)?;
        let der = Zeroizing::new(der);
        let key = rcgen::KeyPair::try_from(&*der).map_err(InvalidKey::Unsupported)?;
        if !is_allowed(&key) {
            return Err(InvalidKey::Kind);
        }
        Ok(Self(Zeroizing::new(key)))
    }

    /// The key as PEM text, for a file that only its owner can read.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let label = match self.to_der() {
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            // Of the kinds we keep, all but SEC1 are PKCS#8.
            _ => "PRIVATE KEY",
        };
        pem::block(label, self.0.serialized_der())
    }

    /// Asks for a certificate for this key, under no name.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`] when the key does not sign, which a key of ours always does.
    pub fn signing_request(&self) -> Result<SigningRequest, InvalidRequest> {
        let mut nameless = CertificateParams::default();
        nameless.distinguished_name = DistinguishedName::new();
        let request = nameless
            .serialize_request(&*self.0)
            .map_err(InvalidRequest::NotMade)?;
        SigningRequest::from_der(request.der())
    }

    /// SHA-256 of its public key's `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn public_key_hash(&self) -> RootHash {
        hash(&self.0.subject_public_key_info())
    }

    pub(crate) fn to_der(&self) -> PrivateKeyDer<'_> {
        PrivateKeyDer::try_from(self.0.serialized_der()).expect("a key that was read reads again")
    }

    pub(crate) fn signer(&self) -> &rcgen::KeyPair {
        &self.0
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

/// P-256, P-384 and Ed25519: what both ends of a handshake accept.
fn is_allowed(key: &impl PublicKeyData) -> bool {
    [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ]
    .contains(&key.algorithm())
}

fn hash(spki: &[u8]) -> RootHash {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A certificate signing request (PKCS#10) whose sender has proved to hold its key.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    der: Vec<u8>,
    key: SubjectPublicKeyInfo,
}

impl SigningRequest {
    /// Reads a request and verifies its signature with its own key.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`] when it is too large, does not read, is not signed by its key, or the
    /// key is of a kind the mesh does not use.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidRequest> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(InvalidRequest::TooLarge { bytes: der.len() });
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(InvalidRequest::Unreadable);
        };
        let spki = request.certification_request_info.subject_pki.raw;
        let key = SubjectPublicKeyInfo::from_der(spki).map_err(|_| InvalidRequest::Kind)?;
        if !is_allowed(&key) {
            return Err(InvalidRequest::Kind);
        }
        request
            .verify_signature()
            .map_err(|_| InvalidRequest::Signature)?;
        let der = der.to_vec();
        Ok(Self { der, key })
    }

    /// The request as it travels.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of its public key's `SubjectPublicKeyInfo`: the same for the same key.
    #[must_use]
    pub fn public_key_hash(&self) -> RootHash {
        hash(&self.key.subject_public_key_info())
    }

    pub(crate) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}

/// A key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// No random numbers.
    #[error("no key can be made: the system gives no random numbers")]
    NotMade(#[source] rcgen::Error),
    /// The text holds no readable key.
    #[error("no private key in it: it holds a block that begins with -----BEGIN PRIVATE KEY-----")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The key does not read.
    #[error("the private key does not read: give an unencrypted PKCS#8 or SEC1 key")]
    Unsupported(#[source] rcgen::Error),
    /// RSA, or a curve that is not ours.
    #[error(
        "the private key is of a kind the mesh does not use: make one of P-256, P-384 or Ed25519"
    )]
    Kind,
}

/// A request that gets no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// Larger than any request for one key.
    #[error("the signing request has {bytes} bytes: at most 8192 are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not one PKCS#10 request.
    #[error("the signing request is no PKCS#10 in DER")]
    Unreadable,
    /// Its signature is not that of its key.
    #[error("the signing request is not signed by its own key")]
    Signature,
    /// RSA, or a curve that is not ours.
    #[error(
        "the requested key is of a kind the mesh does not use: make one of P-256, P-384 or Ed25519"
    )]
    Kind,
    /// Our own key did not sign.
    #[error("the signing request cannot be signed")]
    NotMade(#[source] rcgen::Error),
}
