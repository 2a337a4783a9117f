//! `POST /v1/apply`: YAML of many objects, checked whole and written in one commit.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use mesh_policy::manifest::{Problem, Problems};

use super::failure::Failure;
use super::{Statuses, body, query};
use crate::admission;
use crate::caller::{Caller, NotPermitted};
use crate::compile::Change;
use crate::objects::{ApplyError, MAX_APPLY_BYTES, Objects};
use crate::settle::{WrittenAt, written_at};
use crate::wire::{Applied, ApplyProblem, ApplyRefused};

/// Problems told of one file; who has more mends these first.
const MAX_PROBLEMS: usize = 200;

/// Objects without effect that are told of one file.
const MAX_INEFFECTIVE: usize = 200;

pub(super) async fn apply(
    State(objects): State<Objects>,
    State(statuses): State<Option<Statuses>>,
    caller: Caller,
    request: Request,
) -> Result<(Extension<WrittenAt>, Json<Applied>), Refused> {
    caller.require_admin()?;
    let mode = query::mode(request.uri().query())?;
    let text = body::read_text(request, MAX_APPLY_BYTES).await?;
    let parsed = admission::file("", &text, objects.domain())?;
    let ineffective = statuses.map_or_else(Vec::new, |statuses| {
        statuses.ineffective(&Change::writing(&parsed.manifests))
    });
    let mut applied = objects
        .apply_file(parsed, mode)
        .await
        .map_err(ApplyError::from)?;
    let ineffective = ineffective.iter().take(MAX_INEFFECTIVE);
    applied.ineffective = ineffective.map(ToString::to_string).collect();
    Ok((written_at(applied.revision), Json(applied)))
}

/// An apply that wrote nothing.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    refusal: ApplyRefused,
}

impl From<Problems> for Refused {
    fn from(problems: Problems) -> Self {
        let count = problems.0.len();
        let told = problems.0.iter().take(MAX_PROBLEMS).map(told).collect();
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            refusal: ApplyRefused {
                error: "invalid".to_owned(),
                message: format!(
                    "nothing was applied, since the file has problems ({count}): mend them and apply it again"
                ),
                problems: told,
            },
        }
    }
}

fn told(problem: &Problem) -> ApplyProblem {
    ApplyProblem {
        line: problem.line,
        column: problem.column,
        field: problem.field.clone(),
        message: super::sentence(problem),
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let (status, reason, message) = failure.into_parts();
        let error = match reason {
            "Conflict" => "conflict",
            "RequestEntityTooLarge" => "too-large",
            "ServiceUnavailable" => "unavailable",
            "Unauthorized" => "unauthorized",
            "Forbidden" => "forbidden",
            "Timeout" => "timeout",
            "InternalError" => "internal",
            _ => "bad-request",
        };
        Self {
            status,
            refusal: ApplyRefused {
                error: error.to_owned(),
                message,
                problems: Vec::new(),
            },
        }
    }
}

impl From<NotPermitted> for Refused {
    fn from(error: NotPermitted) -> Self {
        Failure::from(error).into()
    }
}

impl From<ApplyError> for Refused {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Invalid(problems) => problems.into(),
            ApplyError::Object(error) => Failure::from(error).into(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(self.refusal)).into_response()
    }
}
