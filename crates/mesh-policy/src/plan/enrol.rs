//! How a process gets an identity: `POST /v1/identity`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::identity::Identity;

/// A request for a certificate. Only the key of the CSR counts: identity comes from attestation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// [`super::PROTOCOL_VERSION`].
    pub version: u32,
    /// The certificate signing request, PKCS#10 DER in base64.
    pub csr: String,
    /// Why the caller deserves an identity.
    pub attestation: Attestation,
}

/// Why a caller deserves an identity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attestation {
    /// A join token in full.
    JoinToken(String),
    /// The certificate of the connection, at renewal.
    Certificate,
}

impl fmt::Debug for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JoinToken(_) => "JoinToken(..)",
            Self::Certificate => "Certificate",
        })
    }
}

/// A certificate, and whom to trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// Who the caller now is.
    pub identity: Identity,
    /// Leaf first, then its issuers below the root; DER in base64.
    pub chain: Vec<String>,
    /// The trust anchors of the caller's domain; DER in base64.
    pub anchors: Vec<String>,
    /// When the leaf ends, in seconds since the Unix epoch.
    pub not_after: u64,
    /// Discovery's clock, in seconds since the Unix epoch.
    pub now: u64,
}

/// Why discovery refused a request, on every path under `/v1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A stable word, such as `unknown-watch`.
    pub error: String,
    /// What was refused, why, and what to do.
    pub message: String,
}
