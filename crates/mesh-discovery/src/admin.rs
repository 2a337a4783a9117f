//! The admin port: `/metrics`, `/v1/prometheus-targets`, `/ready` and `/live` in plain HTTP, and nothing that changes anything.

use std::net::IpAddr;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body::Body};
use http::uri::{Authority, Uri};
use http::{HeaderMap, StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mesh_tls::accept::descriptors;
use mesh_tls::accept::places::Places;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::server::Shared;
use crate::targets;

/// Connections at a time: a scraper, a prober and a person. The next one takes the place of the
/// oldest, of the source that has the most; of few files they take an eighth.
const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin port until the server ends.
pub(crate) async fn run(tcp: TcpListener, shared: Shared, mut ending: watch::Receiver<bool>) {
    let router = router(shared);
    let places = Places::new(MAX_CONNECTIONS.min(descriptors::limit() / 8));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = tcp.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => return,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let router = router.clone();
                let place = places.take(peer.ip());
                connections.spawn(async move {
                    tokio::select! {
                        () = connection(router, stream) => {}
                        () = place.evicted() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an admin connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(router: Router, stream: TcpStream) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = pin!(connection).await {
        tracing::debug!(%error, "an admin connection broke");
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/prometheus-targets", get(targets::for_anyone))
        .route("/ready", get(ready))
        .route("/live", get(|| async { "live\n" }))
        .layer(middleware::from_fn(check_host))
        .with_state(shared)
}

/// Whether every name that the request gives its target is one that cannot be rebound: a web
/// page can make any name of its own point here, but no address and not `localhost`.
fn is_for_us(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    is_own(host.host()) && uri.authority().is_none_or(|named| is_own(named.host()))
}

fn is_own(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost") || bare.unwrap_or(host).parse::<IpAddr>().is_ok()
}

async fn check_host(request: Request<Body>, next: Next) -> Response {
    if is_for_us(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let text = "the admin port answers to addresses and localhost alone\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let form = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    let own = shared.certificate.borrow().seconds_left();
    let expiry = &shared.metrics.expiry;
    expiry.set(&shared.issuer, own, SystemTime::now());
    (form, shared.metrics.render()).into_response()
}

async fn ready(State(shared): State<Shared>) -> Response {
    let ended = shared.failed.borrow().as_ref().map(ToString::to_string);
    let issuer = shared.issuer.check_clock(SystemTime::now()).err();
    let issuer = issuer.map(|error| format!("no certificates can be issued: {error}"));
    let own = shared.certificate.borrow().why_not_ready();
    let reasons = ended.into_iter().chain(issuer).chain(own);
    let lines: String = reasons
        .map(|reason| format!("not ready: {reason}\n"))
        .collect();
    if !lines.is_empty() {
        return (StatusCode::SERVICE_UNAVAILABLE, lines).into_response();
    }
    // Plans, watches and renewals go on while nothing can be written: others are no better off
    // without this server.
    match shared.store.trouble() {
        None => "ready\n".into_response(),
        Some(trouble) => format!("ready, but nothing can be written: {trouble}\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_hosts() {
        let own = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_for_us(&Uri::from_static("/live"), &headers)
        };
        for host in [
            "127.0.0.1:7801",
            "localhost:7801",
            "LOCALHOST",
            "[::1]:7801",
            "10.0.0.1",
        ] {
            assert!(own(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "",
            "127.0.0.1.evil.example",
            "127.0.0.1:1@evil.example",
        ] {
            assert!(!own(host), "{host}");
        }
        assert!(!is_for_us(&Uri::from_static("/live"), &HeaderMap::new()));
    }
}
