//! What a process shows of itself, in plain HTTP: `/metrics`, `/ready`, `/live` and `/plan`.
//!
//! Everything is read-only. A web page in a browser on the same machine could
//! still read it through a name that it makes point here (DNS rebinding), so
//! the port answers only to names that no stranger chooses.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use metrics::Counter;
use tokio::net::TcpListener;
use tower::service_fn;

use crate::Body;
use crate::telemetry::Recorder;
use crate::transport::Limits;
use crate::transport::accept::{Accepted, accept};
use crate::transport::activity::Http;
use crate::transport::connections::Connections;
use crate::transport::serve::serve as serve_connection;

/// Connections at once: a scraper, a probe and a few people.
const MAX_CONNECTIONS: usize = 64;
/// How long one may be silent: those that are must not keep a probe out for long.
const IDLE: Duration = Duration::from_secs(10);
/// How long a request's head may take.
const HEADER: Duration = Duration::from_secs(5);

/// Why a process is not ready; empty when it is.
type Reasons = Arc<dyn Fn() -> Vec<String> + Send + Sync>;
type Plan = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the admin port shows.
#[derive(Clone)]
pub struct AdminState {
    /// What `/metrics` renders.
    pub recorder: Recorder,
    /// Names it answers to beside IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// What `/ready` asks: each reason is a line of the 503.
    pub reasons_not_ready: Reasons,
    /// What `/plan` shows: the applied plan, without secrets.
    pub plan: Plan,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// Serves for ever; dropping the future cuts its connections.
pub async fn serve(listener: &TcpListener, state: AdminState) {
    let limits = Limits {
        connections: MAX_CONNECTIONS,
        idle: IDLE,
        header: HEADER,
        ..Limits::default()
    };
    let connections = Arc::new(Connections::from_reserve(limits));
    let cut = connections.cut_on_drop();
    let state = Arc::new(state);
    let spawn = |accepted: Accepted<_>| {
        let id = accepted.ticket.id();
        let task = tokio::spawn(one(accepted, Arc::clone(&state)));
        connections.attach(id, task.abort_handle());
    };
    let uncounted = Counter::noop();
    tokio::select! {
        () = accept(listener, &connections, &uncounted, spawn) => {}
        () = connections.watch() => {}
    }
    drop(cut);
}

async fn one(accepted: Accepted<tokio::net::TcpStream>, state: Arc<AdminState>) {
    let Accepted {
        io,
        address,
        ticket,
    } = accepted;
    let service = service_fn(move |request: Request<Body>| answer(&state, &request));
    // Nobody proves anything here: whoever holds the most makes room for the next.
    let place = ticket.connections().half_open(address.ip());
    let ended = tokio::select! {
        ended = serve_connection(io, Http::One, service, ticket) => ended,
        () = place.evicted() => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "a connection of the admin port broke");
    }
}

fn answer(
    state: &AdminState,
    request: &Request<Body>,
) -> Ready<Result<Response<Body>, Infallible>> {
    ready(Ok(respond(state, request)))
}

fn respond(state: &AdminState, request: &Request<Body>) -> Response<Body> {
    if !is_for_us(&state.hosts, request) {
        let remedy = "this name is not served here: use an IP address or localhost, or list the name in MESH_ADMIN_HOSTS\n";
        return text(StatusCode::FORBIDDEN, remedy.to_owned());
    }
    let show: fn(&AdminState) -> Response<Body> = match request.uri().path() {
        "/metrics" => metrics,
        "/ready" => readiness,
        "/live" => |_| text(StatusCode::OK, "live\n".to_owned()),
        "/plan" => plan,
        _ => {
            let known = "nothing here: see /metrics, /ready, /live and /plan\n";
            return text(StatusCode::NOT_FOUND, known.to_owned());
        }
    };
    // Hyper leaves the body out of what answers a HEAD.
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let remedy = "this port only shows: use GET\n".to_owned();
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, remedy);
        let readers = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, readers);
        return response;
    }
    show(state)
}

fn metrics(state: &AdminState) -> Response<Body> {
    let mut response = text(StatusCode::OK, state.recorder.render());
    let exposition = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, exposition);
    response
}

fn readiness(state: &AdminState) -> Response<Body> {
    let reasons = (state.reasons_not_ready)();
    if reasons.is_empty() {
        return text(StatusCode::OK, "ready\n".to_owned());
    }
    let lines: String = reasons
        .iter()
        .map(|reason| format!("not ready: {reason}\n"))
        .collect();
    text(StatusCode::SERVICE_UNAVAILABLE, lines)
}

fn plan(state: &AdminState) -> Response<Body> {
    let mut response = text(StatusCode::OK, format!("{:#}\n", (state.plan)()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Whether every name that the request gives its target is one of ours.
fn is_for_us(hosts: &[String], request: &Request<Body>) -> bool {
    let mut named = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (named.next(), named.next()) else {
        return false;
    };
    let host = Authority::try_from(host.as_bytes());
    let Ok(host) = host else { return false };
    is_ours(hosts, host.host())
        && request
            .uri()
            .authority()
            .is_none_or(|authority| is_ours(hosts, authority.host()))
}

fn is_ours(hosts: &[String], host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::telemetry::Metrics;

    fn state(reasons: &'static [&'static str]) -> AdminState {
        AdminState {
            recorder: Recorder::new(Metrics::Own).expect("an own recorder is always there"),
            hosts: vec!["admin.example".into()],
            reasons_not_ready: Arc::new(|| reasons.iter().map(|&reason| reason.into()).collect()),
            plan: Arc::new(|| serde_json::json!({"services": []})),
        }
    }

    async fn ask(state: &AdminState, method: &str, target: &str, host: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, host);
        let response = respond(state, &request.body(Body::empty()).expect("a request"));
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("in memory");
        (status, String::from_utf8_lossy(&body.to_bytes()).into())
    }

    #[tokio::test]
    async fn each_page_shows_its_part() {
        let ready = state(&[]);
        ready
            .recorder
            .counter("request_total", Vec::new())
            .increment(7);
        let metrics = ask(&ready, "GET", "/metrics", "localhost").await;
        assert!(metrics.1.contains("request_total 7"), "{metrics:?}");
        assert_eq!(
            ask(&ready, "GET", "/ready", "localhost").await,
            (200, "ready\n".into())
        );
        assert_eq!(ask(&ready, "GET", "/live", "localhost").await.0, 200);
        assert!(
            ask(&ready, "GET", "/plan", "localhost")
                .await
                .1
                .contains("services")
        );
        assert_eq!(ask(&ready, "GET", "/", "localhost").await.0, 404);
        let waiting = state(&["api.shop has no policy yet"]);
        let (status, text) = ask(&waiting, "GET", "/ready", "localhost").await;
        assert_eq!(
            (status, text.as_str()),
            (503, "not ready: api.shop has no policy yet\n")
        );
    }

    #[tokio::test]
    async fn nothing_can_be_changed() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "X"] {
            assert_eq!(
                ask(&state(&[]), method, "/ready", "localhost").await.0,
                405,
                "{method}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_that_a_stranger_may_choose_is_refused() {
        let state = state(&[]);
        for host in [
            "127.0.0.1:9",
            "[::1]:9",
            "LocalHost",
            "10.1.2.3",
            "admin.example:80",
        ] {
            assert_eq!(ask(&state, "GET", "/live", host).await.0, 200, "{host}");
        }
        for host in [
            "evil.example",
            "",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "a b",
        ] {
            assert_eq!(ask(&state, "GET", "/live", host).await.0, 403, "{host}");
        }
        let two = "http://evil.example/live";
        assert_eq!(ask(&state, "GET", two, "localhost").await.0, 403);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_do_not_keep_a_probe_out_for_long() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let serving = tokio::spawn(async move { serve(&listener, state(&[])).await });
        let connect = || tokio::net::TcpStream::connect(address);
        let mut silent = connect().await.expect("it listens");
        let mut halfway = connect().await.expect("it listens");
        halfway.write_all(b"GET /li").await.expect("it is open");
        for (socket, limit) in [(&mut halfway, HEADER), (&mut silent, IDLE)] {
            let started = tokio::time::Instant::now();
            assert!(!matches!(socket.read(&mut [0; 8]).await, Ok(1..)));
            assert!(started.elapsed() <= limit + HEADER, "{limit:?}");
        }
        serving.abort();
    }

    #[tokio::test]
    async fn it_listens_on_a_socket_and_closes_it_when_dropped() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let serving = tokio::spawn(async move { serve(&listener, state(&[])).await });
        let mut socket = tokio::net::TcpStream::connect(address)
            .await
            .expect("it listens");
        let ask = format!("GET /live HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        socket.write_all(ask.as_bytes()).await.expect("it is open");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("text");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("live\n"),
            "{answer}"
        );
        let mut idle = tokio::net::TcpStream::connect(address)
            .await
            .expect("it listens");
        idle.write_all(&ask.as_bytes()[..5])
            .await
            .expect("it is open");
        tokio::task::yield_now().await;
        serving.abort();
        assert!(serving.await.expect_err("it was dropped").is_cancelled());
        assert!(
            !matches!(idle.read(&mut [0; 8]).await, Ok(1..)),
            "its connections are cut"
        );
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
