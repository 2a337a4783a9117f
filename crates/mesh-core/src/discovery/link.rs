//! Requests to one discovery server.

use std::time::Duration;

use http::{Method, Uri};
use mesh_policy::plan::enrol::Refusal;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::telemetry::control::Calls;
use crate::telemetry::errors::ended_by;

/// From the first packet to an agreed protocol.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// From a request to its whole answer; the watch alone is longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the connection is asked whether it lives, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read: a certificate chain with its anchors, or a refusal.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Speaks to one discovery server with one set of credentials.
///
/// New credentials need a new link: reqwest goes on using a connection that lives.
#[derive(Clone, Debug)]
pub(super) struct Link {
    client: Client,
    base: String,
    calls: Option<Calls>,
}

impl Link {
    /// A link to the server at `url`. Nothing is opened yet.
    pub(super) fn new(url: &Uri, tls: &rustls::ClientConfig) -> Result<Self, LinkFailed> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .https_only(true)
            // What the environment says of proxies and what a server says of other places
            // is not for a channel that certificates come by.
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .http2_adaptive_window(true)
            .build()
            .map_err(LinkFailed::Unreachable)?;
        let base = url.to_string();
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self {
            client,
            base,
            calls: None,
        })
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
    ) -> Result<Response, LinkFailed> {
        let body = serde_json::to_vec(body).map_err(LinkFailed::Malformed)?;
        self.count(Calls::asked);
        let begun = Instant::now();
        let response = self
            .client
            .request(method, format!("{}{path}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .inspect_err(|error| self.count(|calls| calls.failed(ended_by(error))))
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
}

async fn read(mut response: Response) -> Result<Vec<u8>, LinkFailed> {
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(LinkFailed::Unreachable)? {
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
    Unreachable(#[source] reqwest::Error),
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

    /// Whether the server could not prove that it is the discovery we were told to believe.
    pub(super) fn is_distrust(&self) -> bool {
        let mut link: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = link {
            if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
                return true;
            }
            // An I/O error gives the source of what it wraps, and what it wraps may be one more.
            link = match error.downcast_ref::<std::io::Error>() {
                Some(io) => io.get_ref().map(|wrapped| wrapped as _),
                None => error.source(),
            };
        }
        false
    }
}
