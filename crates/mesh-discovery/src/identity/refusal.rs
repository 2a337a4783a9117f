//! Why nobody got a certificate, and how that is answered.

use std::time::Duration;

use http::StatusCode;
use mesh_policy::identity::Identity;
use mesh_tls::issuer::IssuingRefused;
use mesh_tls::request::InvalidRequest;

use super::token::UselessToken;
use crate::refused::Refused;
use crate::store::decode::{NotRead, Undecodable};
use crate::store::{CommitError, Unavailable};

/// Why nobody got a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    /// The one text for every useless token; its source is for the log alone.
    #[error(
        "the join token is refused: it may be mistyped, expired, used already, revoked, or made by another discovery; make a new one with `mesh token create`"
    )]
    Token(#[from] UselessToken),
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    #[error(
        "{0} is not known here (a memory store forgets when discovery restarts): join again with a token"
    )]
    UnknownIdentity(Identity),
    /// An address was refused too often.
    #[error(
        "too many tokens from this address let nobody in: try again in {} s, with a new token",
        wait.as_secs() + 1
    )]
    Address { wait: Duration },
    #[error(
        "{identity} takes certificates faster than all of its processes need: try again in {} s",
        wait.as_secs() + 1
    )]
    Certificates { identity: Identity, wait: Duration },
    #[error("no certificate can be issued: see the server's log")]
    Issuer(#[from] IssuingRefused),
    #[error("others joined with this token at the same time, again and again: try again")]
    Busy,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Unreadable(#[from] Undecodable),
    #[error("the store refused the commit: try again")]
    Refused(#[source] CommitError),
}

impl From<NotRead> for EnrolError {
    fn from(error: NotRead) -> Self {
        match error {
            NotRead::Unavailable(error) => Self::Unavailable(error),
            NotRead::Undecodable(error) => Self::Unreadable(error),
        }
    }
}

impl From<CommitError> for EnrolError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unavailable(error) => Self::Unavailable(error),
            error => Self::Refused(error),
        }
    }
}

impl From<EnrolError> for Refused {
    fn from(error: EnrolError) -> Self {
        let (status, word) = match &error {
            EnrolError::Token(_) => (StatusCode::FORBIDDEN, "join-refused"),
            EnrolError::Request(_) => (StatusCode::BAD_REQUEST, "bad-request"),
            EnrolError::UnknownIdentity(_) => (StatusCode::FORBIDDEN, "unknown-identity"),
            EnrolError::Address { wait } | EnrolError::Certificates { wait, .. } => {
                let message = error.to_string();
                let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-often", message);
                return refused.retry_after(*wait);
            }
            EnrolError::Unreadable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unreadable"),
            EnrolError::Issuer(_) => (StatusCode::SERVICE_UNAVAILABLE, "issuer"),
            EnrolError::Busy | EnrolError::Unavailable(_) | EnrolError::Refused(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        };
        Self::new(status, word, error.to_string())
    }
}
