//! What a request is answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use mesh_core::Peer;
use mesh_policy::address::{Destination, resolve};
use mesh_policy::duration;
use mesh_policy::name::{ServiceAddress, ServiceName};
use serde::Serialize;

const SET_HEADER: &str = "x-echo-set-header";
/// What frames an answer is the server's: another value would make a broken answer.
const FRAMING: [HeaderName; 3] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];
/// The longest that a request may ask to wait; more is a mistake in a unit.
const MAX_DELAY: Duration = Duration::from_secs(60 * 60);

/// What all answers share.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) services: Vec<ServiceAddress>,
    pub(crate) pod: String,
    /// The share of requests that are answered 500.
    pub(crate) fail_rate: f64,
    /// How long every answer takes.
    pub(crate) latency: Duration,
}

/// The answer: what was asked, who asked, and who answers.
#[derive(Debug, Serialize)]
struct Answer {
    path: String,
    host: String,
    method: String,
    proto: String,
    headers: BTreeMap<String, Vec<String>>,
    namespace: String,
    service: String,
    pod: String,
    /// The caller's SPIFFE ID; `null` of a caller without one.
    peer: Option<String>,
    /// `null` on plaintext.
    tls: Option<Tls>,
}

#[derive(Debug, Serialize)]
struct Tls {
    version: &'static str,
    suite: &'static str,
    group: &'static str,
}

/// Answers one request. A caller that leaves ends the wait, since it drops this future.
pub(crate) async fn answer(
    State(echo): State<Arc<Echo>>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let wish = match Wish::read(&head.uri, &head.headers) {
        Ok(wish) => wish,
        Err(message) => return (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response(),
    };
    // The whole request is taken first, as a real application would.
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            let message = "the request's body broke off\n";
            return (StatusCode::BAD_REQUEST, message).into_response();
        }
    }
    let wait = wish.delay + echo.latency;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let failed = fastrand::f64() < echo.fail_rate;
    let status = match failed {
        true => StatusCode::INTERNAL_SERVER_ERROR,
        false => wish.status,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = echo.describe(&head);
        let text = serde_json::to_vec(&answer).expect("text and lists are JSON");
        *response.body_mut() = text.into();
    }
    let headers = response.headers_mut();
    for (name, value) in wish.headers {
        headers.append(name, value);
    }
    response
}

impl Echo {
    fn describe(&self, head: &http::request::Parts) -> Answer {
        let host = match head.uri.authority() {
            Some(authority) => authority.as_str().to_owned(),
            None => head.headers.get(HOST).map(text).unwrap_or_default(),
        };
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &head.headers {
            let values = headers.entry(name.as_str().to_owned()).or_default();
            values.push(text(value));
        }
        let peer = head.extensions.get::<Peer>();
        let service = self.called(&host);
        Answer {
            path: head
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            host,
            method: head.method.to_string(),
            proto: format!("{:?}", head.version),
            headers,
            namespace: service.map(|s| s.namespace.to_string()).unwrap_or_default(),
            service: service.map(|s| s.name.to_string()).unwrap_or_default(),
            pod: self.pod.clone(),
            peer: peer.and_then(Peer::identity).map(ToString::to_string),
            tls: peer.and_then(Peer::tls).map(|tls| Tls {
                version: tls.version,
                suite: tls.suite,
                group: tls.group,
            }),
        }
    }

    /// Which of the services was called: the host says so, unless a split led here; then it
    /// is the first.
    fn called(&self, host: &str) -> Option<&ServiceName> {
        let first = &self.services.first()?.service;
        let called = match resolve(host, &first.namespace) {
            Ok(Destination::Service(called)) => self.services.iter().find(|served| {
                let port = called.port.is_none() || served.port.is_none();
                served.service == called.service && (port || served.port == called.port)
            }),
            Ok(Destination::External(_)) | Err(_) => None,
        };
        Some(called.map_or(first, |served| &served.service))
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// What a request asks for beyond an answer.
#[derive(Debug, PartialEq)]
struct Wish {
    delay: Duration,
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Wish {
    fn read(uri: &Uri, headers: &HeaderMap) -> Result<Self, String> {
        let mut wish = Self {
            delay: Duration::ZERO,
            status: StatusCode::OK,
            headers: Vec::new(),
        };
        for pair in uri.query().unwrap_or_default().split('&') {
            match pair.split_once('=') {
                Some(("delay", delay)) => wish.delay = read_delay(delay)?,
                Some(("status", status)) => wish.status = read_status(status)?,
                _ => {}
            }
        }
        for value in headers.get_all(SET_HEADER) {
            for pair in text(value).split(',') {
                wish.headers.push(read_header(pair)?);
            }
        }
        Ok(wish)
    }
}

fn read_delay(text: &str) -> Result<Duration, String> {
    let delay = duration::parse(text).map_err(|error| format!("delay: {error}"))?;
    match delay > MAX_DELAY {
        true => Err(format!("delay: {text} is too long: ask for at most 1h")),
        false => Ok(delay),
    }
}

fn read_status(text: &str) -> Result<StatusCode, String> {
    let status = text.parse().ok().filter(|code| (200..=599).contains(code));
    status
        .and_then(|code: u16| StatusCode::from_u16(code).ok())
        .ok_or_else(|| format!("status: {text} cannot be answered: ask for 200 to 599"))
}

fn read_header(pair: &str) -> Result<(HeaderName, HeaderValue), String> {
    let header = || {
        let (name, value) = pair.split_once(':')?;
        Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
    };
    let (name, value): (HeaderName, HeaderValue) = header()
        .ok_or_else(|| format!("X-Echo-Set-Header: {pair:?} is no header: write name:value"))?;
    match FRAMING.contains(&name) {
        true => Err(format!(
            "X-Echo-Set-Header: {name} frames the answer and cannot be set"
        )),
        false => Ok((name, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(uri: &str, set: &[&'static str]) -> Result<Wish, String> {
        let set = set.iter().map(|value| HeaderValue::from_static(value));
        let name = HeaderName::from_static(SET_HEADER);
        let headers = set.map(|value| (name.clone(), value)).collect();
        Wish::read(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn a_request_asks_for_a_delay_a_status_and_headers() {
        let asked = wish("/?x&delay=1m30s&status=503", &["a:1, b: x:y", "a:2"]).unwrap();
        assert_eq!(asked.delay, Duration::from_secs(90));
        assert_eq!(asked.status, StatusCode::SERVICE_UNAVAILABLE);
        let headers: Vec<_> = asked
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={}", text(value)))
            .collect();
        assert_eq!(headers, ["a=1", "b=x:y", "a=2"]);
        let plain = wish("/delay=1s", &[]).unwrap();
        assert_eq!(
            (plain.delay, plain.status),
            (Duration::ZERO, StatusCode::OK)
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_the_remedy() {
        for (uri, set, said) in [
            ("/?delay=5", "a:1", "delay: "),
            ("/?delay=2h", "a:1", "at most 1h"),
            ("/?status=100", "a:1", "200 to 599"),
            ("/?status=x", "a:1", "200 to 599"),
            ("/", "a", "write name:value"),
            ("/", "a b:1", "write name:value"),
            ("/", "Content-Length:1", "frames the answer"),
            ("/", "transfer-encoding:chunked", "frames the answer"),
        ] {
            let refused = wish(uri, &[set]).unwrap_err();
            assert!(refused.contains(said), "{uri} {set}: {refused}");
        }
    }

    #[test]
    fn the_host_chooses_among_services_and_a_split_means_the_first() {
        let services = ["stable.shop:8080", "api.shop", "stable.shop:9090"];
        let echo = Echo {
            services: services.map(|service| service.parse().unwrap()).into(),
            pod: String::new(),
            fail_rate: 0.0,
            latency: Duration::ZERO,
        };
        for (host, expected) in [
            ("api.shop", "api.shop"),
            ("api", "api.shop"),
            ("api.shop.svc.cluster.local:80", "api.shop"),
            ("stable.shop:9090", "stable.shop"),
            ("front.shop", "stable.shop"),
            ("127.0.0.1:1", "stable.shop"),
        ] {
            assert_eq!(echo.called(host).unwrap().to_string(), expected, "{host}");
        }
    }
}
