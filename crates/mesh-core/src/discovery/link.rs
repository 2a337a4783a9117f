//! Requests to one discovery server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use mesh_policy::plan::enrol::Refusal;
use mesh_tls::handshake::HandshakeRefused;
use mesh_tls::verify::RefusedCertificate;
use rustls::ClientConfig;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::dial::{Requests, dial};
use crate::BoxError;
use crate::telemetry::control::Calls;
use crate::telemetry::errors::ended_by;

/// From a request to its whole answer; the watch alone is longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read: a certificate chain with its anchors, or a refusal.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// The port of an `https` URL that names none.
const HTTPS_PORT: u16 = 443;

/// Speaks to one discovery server with one set of credentials.
///
/// New credentials need a new link: a connection that lives goes on with the ones it began with.
#[derive(Debug)]
pub(super) struct Link {
    host: String,
    port: u16,
    base: String,
    tls: Arc<ClientConfig>,
    /// The connection. Locked while one is opened, so that callers share it; a dial is limited.
    requests: Mutex<Option<Requests>>,
    calls: Option<Calls>,
}

impl Link {
    /// A link to the server at `url`. Nothing is opened yet.
    pub(super) fn new(url: &Uri, tls: Arc<ClientConfig>) -> Self {
        let host = url.host().unwrap_or_default();
        Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_u16().unwrap_or(HTTPS_PORT),
            base: url.to_string().trim_end_matches('/').to_owned(),
            tls,
            requests: Mutex::new(None),
            calls: None,
        }
    }

    /// The same with its calls counted.
    pub(super) fn counted(self, calls: Calls) -> Self {
        Self {
            calls: Some(calls),
            ..self
        }
    }

    /// Which server this is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Sends `body` and reads the whole answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Vec<u8>, LinkFailed> {
        let limit = Instant::now() + ANSWER_TIMEOUT;
        let Ok(response) = timeout_at(limit, self.open(method, path, body)).await else {
            self.count(|calls| calls.failed("timeout"));
            return Err(LinkFailed::Silent);
        };
        let answer = timeout_at(limit, read(response?)).await;
        answer.unwrap_or(Err(LinkFailed::Silent))
    }

    fn count(&self, count: impl FnOnce(&Calls)) {
        if let Some(calls) = &self.calls {
            count(calls);
        }
    }

    /// Sends `body` and gives the answer as soon as it begins.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response<Incoming>, LinkFailed> {
        let body = serde_json::to_vec(body).map_err(LinkFailed::Malformed)?;
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| LinkFailed::Unreachable(error.into()))?;
        self.count(Calls::asked);
        let begun = Instant::now();
        let response = self
            .send(request)
            .await
            .inspect_err(|error| self.count(|calls| calls.failed(ended_by(&**error))))
            .map_err(LinkFailed::Unreachable)?;
        let status = response.status();
        self.count(|calls| calls.answered(status.as_u16(), begun.elapsed()));
        if status.is_success() {
            return Ok(response);
        }
        let answer = read(response).await.unwrap_or_default();
        let refusal = serde_json::from_slice(&answer).unwrap_or_else(|_| Refusal {
            error: "unexpected".to_owned(),
            message: String::from_utf8_lossy(&answer).chars().take(200).collect(),
        });
        Err(LinkFailed::Refused { status, refusal })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, BoxError> {
        let mut requests = self.requests().await?;
        requests.ready().await?;
        Ok(requests.send_request(request).await?)
    }

    async fn requests(&self) -> Result<Requests, BoxError> {
        let mut open = self.requests.lock().await;
        if let Some(requests) = open.as_ref().filter(|requests| !requests.is_closed()) {
            return Ok(requests.clone());
        }
        let requests = dial(&self.host, self.port, Arc::clone(&self.tls)).await?;
        *open = Some(requests.clone());
        Ok(requests)
    }
}

async fn read(response: Response<Incoming>) -> Result<Vec<u8>, LinkFailed> {
    let mut body = response.into_body();
    let mut answer = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| LinkFailed::Unreachable(error.into()))?;
        let chunk = frame.into_data().unwrap_or_default();
        if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(LinkFailed::TooLong);
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer)
}

/// Discovery could not be spoken to, or said no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkFailed {
    /// It said no.
    #[error("discovery answered {status}, {}: {}", refusal.error, refusal.message)]
    Refused {
        /// The status of its answer.
        status: StatusCode,
        /// What it said.
        refusal: Refusal,
    },
    /// There is no connection.
    #[error("discovery cannot be reached")]
    Unreachable(#[source] BoxError),
    /// It takes too long.
    #[error("discovery gave no answer within 10 s")]
    Silent,
    /// It answers what no discovery does.
    #[error("discovery's answer is longer than 1 MiB")]
    TooLong,
    /// Its answer makes no sense.
    #[error("discovery's answer cannot be read")]
    Malformed(#[source] serde_json::Error),
}

impl LinkFailed {
    /// Whether asking again would only be told the same.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Refused { status, .. } => {
                let later = [
                    StatusCode::REQUEST_TIMEOUT,
                    StatusCode::TOO_EARLY,
                    StatusCode::TOO_MANY_REQUESTS,
                ];
                status.is_client_error() && !later.contains(status)
            }
            Self::Unreachable(_) | Self::Silent | Self::TooLong | Self::Malformed(_) => false,
        }
    }

    /// Whether this is the answer of a server that does not hold what was named.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// Whether the server could not prove that it is the discovery we were told to believe. One
    /// whose certificate does not count at this hour may have another in a moment: clocks leap.
    pub(super) fn is_distrust(&self) -> bool {
        let mut link: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = link {
            match error.downcast_ref() {
                Some(HandshakeRefused::Certificate(refused)) => {
                    let by_hour = [RefusedCertificate::Expired, RefusedCertificate::NotYetValid];
                    return !by_hour.contains(refused);
                }
                Some(HandshakeRefused::Tls(rustls::Error::InvalidCertificate(_))) => return true,
                _ => link = error.source(),
            }
        }
        false
    }
}
