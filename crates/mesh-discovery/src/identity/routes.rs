//! `POST /v1/identity`, and the admin's `/v1/tokens`.

use std::error::Error;
use std::net::IpAddr;
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

use super::enrol::{Enrolled, Enroller};
use super::limit::TooOften;
use super::refusal::EnrolError;
use super::token::TokenError;
use crate::caller::Caller;
use crate::refused::{Refused, read_json};
use crate::server::Shared;
use crate::targets::ConnectedFrom;
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
    let from = request.extensions().get::<ConnectedFrom>();
    let from = from.map(|from| from.0);
    let request: EnrolRequest = read_json(request, MAX_ENROL_BYTES).await?;
    if request.version != PROTOCOL_VERSION {
        return Err(unknown_version(request.version));
    }
    let csr = STANDARD.decode(&request.csr);
    let csr = csr.map_err(|_| Refused::bad_request("the signing request is no base64"))?;
    let enroller = &shared.enroller;
    let now = SystemTime::now();
    let enrolled = match &request.attestation {
        Attestation::JoinToken(token) => match check_address(enroller, from) {
            Ok(()) => enroller.join(token, &csr, now).await,
            Err(error) => Err(error),
        },
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
            if let (Some(from), EnrolError::Token(_) | EnrolError::Request(_)) = (from, &error) {
                enroller.limits().refused(from);
            }
            log(enroller, &error, from);
            Err(error.into())
        }
    }
}

/// Refuses an address that was refused too often, before anything is looked at.
fn check_address(enroller: &Enroller, from: Option<IpAddr>) -> Result<(), EnrolError> {
    let checked = from.map_or(Ok(()), |from| enroller.limits().check(from));
    checked.map_err(|TooOften { wait }| EnrolError::Address { wait })
}

/// Logs a refusal, and a number of them where they come too fast.
fn log(enroller: &Enroller, error: &EnrolError, from: Option<IpAddr>) {
    let Some(missed) = enroller.limits().log() else {
        return;
    };
    if missed > 0 {
        tracing::warn!(missed, "more enrolments were refused than are logged");
    }
    // The cause is for the log alone: see `UselessToken`.
    tracing::warn!(
        %error,
        cause = error.source().map(tracing::field::display),
        from = from.map(tracing::field::display),
        "an enrolment was refused"
    );
}

/// The wire has moved on.
pub(crate) fn unknown_version(asked: u32) -> Refused {
    let message = format!(
        "protocol version {asked} is not spoken here, but {PROTOCOL_VERSION} is: update the older side"
    );
    Refused::new(StatusCode::BAD_REQUEST, "unknown-version", message)
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
