//! Heads and trailers: whole up to one limit, and beyond it the fault of one message alone.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mesh_core::outbound::Trace;
use mesh_core::{Body, BoxError, Client};
use mesh_test::{Served, TestMesh};
use tokio::sync::Semaphore;

use crate::{Handled, metric, read, reason};

/// Endpoints that are spoken to in HTTP/1.1.
const HTTP1: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { name: api, namespace: shop }
spec: { podSelector: {}, port: 80, proxyProtocol: HTTP/1, accessPolicy: all-authenticated }
";

const ASKED: HeaderName = HeaderName::from_static("x-asked");
const ANSWER: HeaderName = HeaderName::from_static("x-answer");
const TRAILERS: HeaderName = HeaderName::from_static("x-trailers");
const VERSION: HeaderName = HeaderName::from_static("x-version");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// A value of `size` bytes. The longest code of HPACK is that of a byte that is no ASCII.
fn filled(size: usize, byte: u8) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(vec![byte; size])).expect("a value")
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<usize> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Answers with as much in head and trailers as it is asked for. A POST waits until it may end.
async fn serve(mesh: &TestMesh, handled: &Handled, may_end: &Arc<Semaphore>) -> Served {
    let (handled, may_end) = (handled.clone(), Arc::clone(may_end));
    let app = tower::service_fn(move |request: Request<Body>| {
        handled.add();
        let may_end = Arc::clone(&may_end);
        async move {
            if request.method() == http::Method::POST {
                drop(may_end.acquire().await?);
            }
            let headers = request.headers();
            let mut response = Response::new(Body::from("answered"));
            let version = HeaderValue::try_from(format!("{:?}", request.version()))?;
            response.headers_mut().insert(VERSION, version);
            if let Some(size) = number(headers, &ANSWER) {
                response.headers_mut().insert(ANSWER, filled(size, 0xff));
            }
            if let Some(size) = number(headers, &TRAILERS) {
                let mut trailers = HeaderMap::new();
                trailers.insert(DETAILS, filled(size, 0xff));
                trailers.insert("grpc-status", HeaderValue::from_static("5"));
                let frames = [
                    Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"one"))),
                    Ok(Frame::trailers(trailers)),
                ];
                *response.body_mut() =
                    Body::new(StreamBody::new(futures_util::stream::iter(frames)));
            }
            Ok::<_, BoxError>(response)
        }
    });
    let served = mesh.serve("shop/api", "api.shop", app).await;
    served.expect("an endpoint")
}

/// Asks with `headers`; a trace of it comes along.
async fn ask(
    client: &Client,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> (Response<Body>, Trace) {
    let trace = Trace::default();
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = http::Uri::from_static("http://api.shop/");
    request.headers_mut().extend(headers);
    request.extensions_mut().insert(trace.clone());
    let Ok(response) = client.send(request).await;
    (response, trace)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h06_a_request_with_a_large_head_is_431_and_touches_nobody_else() {
    const OTHERS: usize = 12;
    let mesh = TestMesh::start().await.expect("a mesh");
    let (handled, may_end) = (Handled::default(), Arc::new(Semaphore::new(0)));
    let mut endpoints = Vec::new();
    for _ in 0..3 {
        endpoints.push(serve(&mesh, &handled, &may_end).await);
    }
    let web = mesh.join("shop/web").await.expect("web joins");
    let client = web.client();
    let others: Vec<_> = (0..OTHERS)
        .map(|_| {
            let request = Request::post("http://api.shop/").body(Body::from("slow"));
            let sent = client.send(request.expect("a request"));
            tokio::spawn(async { read(sent.await.unwrap_or_else(|never| match never {})).await })
        })
        .collect();
    mesh.until("all are in flight", async || handled.count() == OTHERS)
        .await;
    for size in [66_000, 100_000, 300_000] {
        let (response, trace) = ask(&client, [(ASKED, filled(size, b'x'))]).await;
        assert_eq!(response.status(), 431, "{size}");
        assert_eq!(reason(&response), "request-head-too-large");
        assert_eq!(trace.decided().attempts, 1, "{size}");
    }
    let fields = (0..1_001).map(|at| {
        let name = HeaderName::try_from(format!("x-{at}")).expect("a name");
        (name, HeaderValue::from_static("1"))
    });
    assert_eq!(ask(&client, fields).await.0.status(), 431);
    may_end.add_permits(OTHERS);
    for other in others {
        assert_eq!(other.await.expect("no panic"), (200, "answered".to_owned()));
    }
    assert_eq!(handled.count(), OTHERS, "none of them was sent");
    assert!(metric(&web, "tcp_close_total").abs() < f64::EPSILON);
    let errors = web.recorder().render();
    let counted = errors.lines().find(|line| {
        line.starts_with("outbound_http_errors_total") && line.contains(r#"error="unexpected""#)
    });
    assert!(
        counted.is_some_and(|line| line.ends_with(" 4")),
        "{counted:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h06_what_is_within_the_limit_passes_whole_both_ways_and_by_both_protocols() {
    const SIZE: usize = 64_000;
    for (policy, version) in [("", "HTTP/2.0"), (HTTP1, "HTTP/1.1")] {
        let mesh = TestMesh::start().await.expect("a mesh");
        if !policy.is_empty() {
            mesh.apply(policy).await.expect("a server");
        }
        let (handled, may_end) = (Handled::default(), Arc::new(Semaphore::new(0)));
        let _api = serve(&mesh, &handled, &may_end).await;
        let web = mesh.join("shop/web").await.expect("web joins");
        let client = web.client();
        for byte in [b'x', b'\\', 0xff] {
            let (response, _) = ask(&client, [(ASKED, filled(SIZE, byte))]).await;
            assert_eq!(response.status(), 200, "{byte} {version}");
            assert_eq!(response.headers()[VERSION], version);
        }
        let (response, _) = ask(&client, [(ANSWER, SIZE.into())]).await;
        assert_eq!(response.headers()[ANSWER].len(), SIZE, "{version}");
        let fields = (0..980).map(|at| {
            let name = HeaderName::try_from(format!("x-{at}")).expect("a name");
            (name, HeaderValue::from_static("1"))
        });
        assert_eq!(ask(&client, fields).await.0.status(), 200, "{version}");
        if !policy.is_empty() {
            continue;
        }
        let (response, _) = ask(&client, [(TRAILERS, SIZE.into())]).await;
        let whole = response.into_body().collect().await.expect("whole");
        let trailers = whole.trailers().expect("trailers");
        assert_eq!(trailers[DETAILS].len(), SIZE);
        assert_eq!(trailers["grpc-status"], "5");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h06_a_response_with_a_large_head_is_500_and_large_trailers_end_their_call_with_13() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let (handled, may_end) = (Handled::default(), Arc::new(Semaphore::new(0)));
    let api = serve(&mesh, &handled, &may_end).await;
    let web = mesh.join("shop/web").await.expect("web joins");
    let client = web.client();
    for size in [66_000, 100_000, 900_000_usize] {
        let (response, trace) = ask(&client, [(ANSWER, size.into())]).await;
        assert_eq!(response.status(), 500, "{size}");
        assert_eq!(reason(&response), "response-head-too-large");
        assert_eq!(trace.decided().attempts, 1, "{size}");
        let grpc = HeaderValue::from_static("application/grpc");
        let headers = [(TRAILERS, size.into()), (http::header::CONTENT_TYPE, grpc)];
        let (response, _) = ask(&client, headers).await;
        let whole = response.into_body().collect().await.expect("whole");
        let trailers = whole.trailers().expect("trailers");
        assert_eq!(trailers["grpc-status"], "13", "{size}");
        assert_eq!(trailers["x-mesh-error"], "trailers-too-large");
    }
    assert!(metric(&web, "tcp_close_total").abs() < f64::EPSILON);
    for (mesh, labels) in [(api.mesh(), "inbound"), (&web, "outbound")] {
        let text = mesh.recorder().render();
        let counted = text.lines().find(|line| {
            line.starts_with("response_total")
                && line.contains(&format!(r#"direction="{labels}""#))
                && line.contains(r#"grpc_status="13""#)
        });
        assert!(counted.is_some_and(|line| line.ends_with(" 3")), "{text}");
    }
    let text = api.mesh().recorder().render();
    let counted = text.lines().find(|line| {
        line.starts_with("inbound_http_errors_total") && line.contains(r#"error="unexpected""#)
    });
    assert!(
        counted.is_some_and(|line| line.ends_with(" 6")),
        "{counted:?}"
    );
}
