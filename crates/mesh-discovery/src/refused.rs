//! What every path under `/v1` answers when the answer is no, and how it reads what is sent.
//!
//! A body is read with a bound on its size and on its time, after the caller has
//! been checked: an anonymous caller makes discovery hold as little as possible.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use mesh_policy::plan::enrol::Refusal;
use serde::de::DeserializeOwned;

use crate::caller::NotPermitted;
use crate::quota::OverQuota;
use crate::rate::{Allowance, TooOften};
use crate::store::Unavailable;
use crate::store::decode::{NotRead, Undecodable};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that was refused, as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    status: StatusCode,
    refusal: Refusal,
    /// When the caller may come back, where that is known.
    retry_after: Option<Duration>,
}

impl Refused {
    /// `word` is stable and for programs, `message` says what, why and what to do.
    pub(crate) fn new(status: StatusCode, word: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            refusal: Refusal {
                error: word.to_owned(),
                message: message.into(),
            },
            retry_after: None,
        }
    }

    /// The same, with the time after which the caller may come back.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        let retry_after = Some(wait);
        Self {
            retry_after,
            ..self
        }
    }

    /// The request makes no sense.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    /// Nothing is there, for a caller that may know so.
    pub(crate) fn not_found(path: &str) -> Self {
        let message = format!("there is nothing at {path:?}");
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// The server holds as much of this as it is meant to.
    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", message)
    }
}

impl From<NotPermitted> for Refused {
    fn from(error: NotPermitted) -> Self {
        Self::new(error.status(), error.word(), error.to_string())
    }
}

impl From<OverQuota> for Refused {
    fn from(error: OverQuota) -> Self {
        Self::too_many(error.to_string())
    }
}

impl From<TooOften> for Refused {
    fn from(error: TooOften) -> Self {
        Self::too_many(error.to_string())
    }
}

impl From<Unavailable> for Refused {
    fn from(error: Unavailable) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            error.to_string(),
        )
    }
}

impl From<Undecodable> for Refused {
    fn from(error: Undecodable) -> Self {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a stored record cannot be read by this version"
        );
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unreadable", error.to_string())
    }
}

impl From<NotRead> for Refused {
    fn from(error: NotRead) -> Self {
        match error {
            NotRead::Unavailable(error) => error.into(),
            NotRead::Undecodable(error) => error.into(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        // Whole seconds, and never too early.
        let wait = self.retry_after.map(|wait| wait.as_millis().div_ceil(1000));
        let wait = wait.map(|seconds| [(header::RETRY_AFTER, seconds.max(1).to_string())]);
        let answer = (self.status, Json(self.refusal));
        match wait {
            Some(wait) => (wait, answer).into_response(),
            None => answer.into_response(),
        }
    }
}

/// The JSON body of `request`, of at most `limit` bytes.
///
/// # Errors
///
/// 413 when it is larger, 408 when it is slow, 400 when it does not read, 429 when its sender
/// has sent too much lately.
pub(crate) async fn read_json<T: DeserializeOwned>(
    request: Request,
    limit: usize,
) -> Result<T, Refused> {
    let allowance = request.extensions().get::<Allowance>().cloned();
    let body: Body = request.into_body();
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect());
    let bytes = match collected.await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {limit} bytes");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Refused::new(status, "too-large", message));
        }
        Ok(Err(error)) => {
            let message = format!("the body broke off: {error}");
            return Err(Refused::bad_request(message));
        }
        Err(_) => {
            let message = format!("the body did not arrive within {BODY_TIMEOUT:?}");
            let status = StatusCode::REQUEST_TIMEOUT;
            return Err(Refused::new(status, "timeout", message));
        }
    };
    if let Some(allowance) = allowance {
        allowance.take_body(bytes.len())?;
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Refused::bad_request(format!("the body does not read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: impl Into<Body>) -> Request {
        Request::new(body.into())
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let read = read_json::<Vec<u32>>(request("[1,2]"), 5).await;
        assert_eq!(read, Ok(vec![1, 2]));

        let refused = read_json::<Vec<u32>>(request("[1,23]"), 5).await;
        assert_eq!(refused.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);

        let refused = read_json::<Vec<u32>>(request("[1,"), 5).await;
        assert_eq!(refused.unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_given_up() {
        let silent = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
        let refused = read_json::<u32>(request(Body::from_stream(silent)), 5).await;
        assert_eq!(refused.unwrap_err().status, StatusCode::REQUEST_TIMEOUT);
    }
}
