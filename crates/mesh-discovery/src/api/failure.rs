//! How the resource API says no: Kubernetes' `Status`, which kubectl and client-go read.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use mesh_policy::manifest::Problems;
use serde::Serialize;

use crate::caller::NotPermitted;
use crate::objects::{ObjectError, ObjectName};

/// Seconds after which a caller may come back when the store was not there.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// An answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Option<Box<Details>>,
    /// What the path allows, where the method was wrong.
    allow: Option<&'static str>,
}

/// Kubernetes' `StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
}

/// Kubernetes' `StatusCause`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

impl Failure {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            allow: None,
        }
    }

    /// The request itself makes no sense.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Nothing is served under that path.
    pub(super) fn unknown_path(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        let message = format!("nothing is served under {path:?}: check group, version and plural");
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// The path is served, but only with the methods in `allow`.
    pub(super) fn method(method: &http::Method, allow: &'static str) -> Self {
        let message = format!("{method} is not served under this path, only {allow}");
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
        }
    }

    /// The body is in a form that is not read here.
    pub(super) fn media_type(found: &str) -> Self {
        let found: String = found.chars().take(100).collect();
        let message = format!(
            "a body of type {found:?} is not read: use application/json or application/yaml"
        );
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    }

    /// The body is too long.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the body has more than {limit} bytes: send less at once");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            message,
        )
    }

    /// The body took too long.
    pub(super) fn too_slow() -> Self {
        let message = "the body did not arrive in time: send it again";
        Self::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message)
    }

    /// The object is not one.
    pub(super) fn invalid(kind: mesh_policy::manifest::Kind, problems: &Problems) -> Self {
        let causes: Vec<_> = problems
            .0
            .iter()
            .map(|problem| Cause {
                reason: "FieldValueInvalid",
                message: super::sentence(problem),
                field: problem.field.clone(),
            })
            .collect();
        let all: Vec<_> = causes
            .iter()
            .map(|c| format!("{}: {}", c.field, c.message))
            .collect();
        let message = format!("{} is invalid: {}", kind.kind(), all.join("; "));
        Self {
            details: Some(Box::new(Details {
                group: kind.group(),
                kind: kind.kind(),
                causes,
                ..Details::default()
            })),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
        }
    }

    fn about(self, name: ObjectName) -> Self {
        Self {
            details: Some(Box::new(Details {
                group: name.kind.group(),
                kind: name.kind.plural(),
                name: name.name,
                causes: Vec::new(),
            })),
            ..self
        }
    }
}

impl From<NotPermitted> for Failure {
    fn from(error: NotPermitted) -> Self {
        let reason = match error.status() {
            StatusCode::UNAUTHORIZED => "Unauthorized",
            _ => "Forbidden",
        };
        Self::new(error.status(), reason, error.to_string())
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        let message = error.to_string();
        match error {
            ObjectError::NotFound { name } => {
                Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(name)
            }
            ObjectError::AlreadyExists { name } => {
                Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(name)
            }
            ObjectError::Conflict { name, .. } => {
                Self::new(StatusCode::CONFLICT, "Conflict", message).about(name)
            }
            ObjectError::TooLarge { name, .. } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                message,
            )
            .about(name),
            ObjectError::Unavailable(source) => {
                tracing::warn!(
                    error = &source as &dyn std::error::Error,
                    "store unavailable"
                );
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "ServiceUnavailable",
                    message,
                )
            }
            ObjectError::Refused(_) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the resource API failed"
                );
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
        }
    }
}

impl Failure {
    /// The code, the stable word and the text, for paths that answer in another form.
    pub(super) fn into_parts(self) -> (StatusCode, &'static str, String) {
        (self.code, self.reason, self.message)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    kind: &'static str,
    api_version: &'static str,
    metadata: serde_json::Map<String, serde_json::Value>,
    status: &'static str,
    message: String,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<Details>>,
    code: u16,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = Status {
            kind: "Status",
            api_version: "v1",
            metadata: serde_json::Map::new(),
            status: "Failure",
            message: self.message,
            reason: self.reason,
            details: self.details,
            code: self.code.as_u16(),
        };
        let mut response = (self.code, Json(status)).into_response();
        if self.code == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if let Some(allow) = self.allow {
            let allow = HeaderValue::from_static(allow);
            response.headers_mut().insert(header::ALLOW, allow);
        }
        response
    }
}
