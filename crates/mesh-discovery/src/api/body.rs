//! Reading what a caller sent: how much, how long, in which form.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::failure::Failure;

/// How long a body may take to arrive, so that a slow caller holds no memory for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The forms in which objects are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MediaType {
    Json,
    Yaml,
}

impl MediaType {
    /// What the headers say; JSON if they say nothing, as in Kubernetes.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Ok(Self::Json);
        };
        let text = value.to_str().unwrap_or("(not text)");
        let essence = text.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => {
                Ok(Self::Yaml)
            }
            _ => Err(Failure::media_type(text)),
        }
    }
}

/// The whole body, of at most `limit` bytes.
pub(super) async fn read(request: Request, limit: usize) -> Result<Bytes, Failure> {
    let body: Body = request.into_body();
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::too_large(limit)),
        Ok(Err(error)) => Err(Failure::bad_request(format!("the body broke off: {error}"))),
        Err(_elapsed) => Err(Failure::too_slow()),
    }
}

/// The whole body as text.
pub(super) async fn read_text(request: Request, limit: usize) -> Result<String, Failure> {
    let bytes = read(request, limit).await?;
    String::from_utf8(bytes.into()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::bad_request(format!(
            "byte {at} of the body is not UTF-8: send it as UTF-8"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_body_is_what_its_header_says() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            MediaType::of(&headers).ok()
        };
        assert_eq!(MediaType::of(&HeaderMap::new()).ok(), Some(MediaType::Json));
        for (text, expected) in [
            ("application/json", Some(MediaType::Json)),
            ("Application/JSON; charset=utf-8", Some(MediaType::Json)),
            ("application/yaml", Some(MediaType::Yaml)),
            ("text/yaml;charset=utf-8", Some(MediaType::Yaml)),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/merge-patch+json", None),
            ("", None),
        ] {
            assert_eq!(of(text), expected, "{text:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let silent = Body::from_stream(tokio_stream::pending::<Result<Bytes, std::io::Error>>());
        let failure = read(Request::new(silent), 10).await.unwrap_err();
        assert_eq!(failure, Failure::too_slow());
    }

    #[tokio::test]
    async fn a_body_has_its_limit_to_the_byte() {
        let at = |bytes: usize| read(Request::new(Body::from(vec![0; bytes])), 10);
        assert_eq!(at(10).await.unwrap().len(), 10);
        assert_eq!(at(11).await.unwrap_err(), Failure::too_large(10));
    }
}
