//! `POST /v1/identity`, and the admin's `/v1/tokens`.

use std::error::Error;
use std::time::SystemTime;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use mesh_policy::plan::PROTOCOL_VERSION;
use mesh_policy::plan::enrol::{Attestation, EnrolRequest, EnrolResponse};

use super::enrol::{EnrolError, Enrolled};
use super::token::TokenError;
use crate::caller::Caller;
use crate::refused::{Refused, read_json};
use crate::server::Shared;
use crate::wire::{TokenCreated, TokenList, TokenRequest};

/// A signing request and a token have less than 4 KiB.
const MAX_ENROL_BYTES: usize = 16 * 1024;
const MAX_TOKEN_REQUEST_BYTES: usize = 16 * 1024;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/identity", post(identity))
        .route("/v1/tokens", get(list).post(create))
        .route("/v1/tokens/{id}", delete(revoke))
}

async fn identity(
    State(shared): State<Shared>,
    caller: Caller,
    request: Request,
) -> Result<Json<EnrolResponse>, Refused> {
    let request: EnrolRequest = read_json(request, MAX_ENROL_BYTES).await?;
    if request.version != PROTOCOL_VERSION {
        return Err(unknown_version(request.version));
    }
    let csr = STANDARD.decode(&request.csr);
    let csr = csr.map_err(|_| Refused::bad_request("the signing request is no base64"))?;
    let enroller = &shared.enroller;
    let now = SystemTime::now();
    let enrolled = match &request.attestation {
        Attestation::JoinToken(token) => enroller.join(token, &csr, now).await,
        Attestation::Certificate => {
            let identity = caller.require_workload()?;
            enroller.renew(identity, &csr, now).await
        }
    };
    match enrolled {
        Ok(Enrolled::Issued(response)) => {
            shared.metrics.certificates_issued.increment(1);
            Ok(Json(response))
        }
        Ok(Enrolled::Repeated(response)) => Ok(Json(response)),
        Err(error) => {
            shared.metrics.enrolments_refused.increment(1);
            Err(error.into())
        }
    }
}

/// The wire has moved on.
pub(crate) fn unknown_version(asked: u32) -> Refused {
    let message = format!(
        "protocol version {asked} is not spoken here, but {PROTOCOL_VERSION} is: update the older side"
    );
    Refused::new(StatusCode::BAD_REQUEST, "unknown-version", message)
}

impl From<EnrolError> for Refused {
    fn from(error: EnrolError) -> Self {
        // The cause is for the log alone: see `UselessToken`.
        tracing::warn!(
            error = %error,
            cause = error.source().map(tracing::field::display),
            "an enrolment was refused"
        );
        let (status, word) = match &error {
            EnrolError::Token(_) => (StatusCode::FORBIDDEN, "join-refused"),
            EnrolError::Request(_) => (StatusCode::BAD_REQUEST, "bad-request"),
            EnrolError::UnknownIdentity(_) => (StatusCode::FORBIDDEN, "unknown-identity"),
            EnrolError::Unreadable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unreadable"),
            EnrolError::Issuer(_) => (StatusCode::SERVICE_UNAVAILABLE, "issuer"),
            EnrolError::Busy | EnrolError::Unavailable(_) | EnrolError::Refused(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        };
        Self::new(status, word, error.to_string())
    }
}

async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    request: Request,
) -> Result<(StatusCode, Json<TokenCreated>), Refused> {
    caller.require_admin()?;
    let request: TokenRequest = read_json(request, MAX_TOKEN_REQUEST_BYTES).await?;
    let (token, expires) = shared.tokens.create(&request, SystemTime::now()).await?;
    let created = TokenCreated {
        token: token.reveal(),
        expires,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

async fn list(State(shared): State<Shared>, caller: Caller) -> Result<Json<TokenList>, Refused> {
    caller.require_admin()?;
    Ok(Json(shared.tokens.list(SystemTime::now()).await?))
}

async fn revoke(
    State(shared): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    caller.require_admin()?;
    if shared.tokens.revoke(&id).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        let message = "there is no such token: it was never made, was revoked, or has expired";
        let status = StatusCode::NOT_FOUND;
        Err(Refused::new(status, "unknown-token", message))
    }
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        let message = error.to_string();
        match error {
            TokenError::Unavailable(error) => error.into(),
            TokenError::TooMany => Self::too_many(message),
            TokenError::NoRandomNumbers | TokenError::Refused(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            }
            TokenError::Reserved
            | TokenError::Ttl { .. }
            | TokenError::Uses { .. }
            | TokenError::Serves { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
            }
        }
    }
}
