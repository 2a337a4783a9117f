//! What is tried again where a route asks for it, and how much that may add.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mesh_core::{Body, BoxError, Client};
use mesh_test::{Served, TestMesh};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Handled, read};

fn retried(annotations: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{ name: api, namespace: shop }}
spec: {{ ports: [{{ port: 80 }}] }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: api
  namespace: shop
  annotations: {{ {annotations} }}
spec:
  parentRefs: [{{ name: api, group: '', kind: Service }}]
  rules:
  - backendRefs: [{{ name: api, port: 80 }}]
    retry: {{ codes: [503], attempts: 3, backoff: 1ms }}
"
    )
}

/// Answers 503 and 200 in turn, the 200 with what it was sent.
async fn every_other_fails(mesh: &TestMesh, handled: &Handled) -> Served {
    let failing = Arc::new(AtomicBool::new(false));
    let handled = handled.clone();
    let app = tower::service_fn(move |request: Request<Body>| {
        handled.add();
        let fails = !failing.fetch_xor(true, Ordering::SeqCst);
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            let mut response = Response::new(Body::from(body));
            if fails {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok::<_, BoxError>(response)
        }
    });
    let served = mesh.serve("shop/api", "api.shop", app).await;
    served.expect("an endpoint")
}

async fn send(client: &Client, method: Method, body: Body) -> Response<Body> {
    let request = Request::builder().method(method).uri("http://api.shop/");
    let Ok(response) = client.send(request.body(body).expect("a request")).await;
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p08_only_what_may_arrive_twice_is_tried_again_and_byte_equal() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let handled = Handled::default();
    let _api = every_other_fails(&mesh, &handled).await;
    mesh.apply(&retried("")).await.expect("a route");
    let web = mesh.join("shop/web").await.expect("web joins");
    let client = web.client();
    let get = send(&client, Method::GET, Body::empty()).await;
    assert_eq!((get.status().as_u16(), handled.count()), (200, 2));
    let bytes: Vec<u8> = (0..60_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let pieces = bytes.chunks(999).map(Bytes::copy_from_slice);
    let pieces: Vec<_> = pieces.map(|p| Ok::<_, BoxError>(Frame::data(p))).collect();
    let streamed = Body::new(StreamBody::new(futures_util::stream::iter(pieces)));
    let put = send(&client, Method::PUT, streamed).await;
    assert_eq!((put.status().as_u16(), handled.count()), (200, 4));
    let back = put.into_body().collect().await.expect("whole").to_bytes();
    assert!(back == bytes, "another body");
    let post = send(&client, Method::POST, Body::from("order")).await;
    assert_eq!((post.status().as_u16(), handled.count()), (503, 5));
    assert_eq!(
        send(&client, Method::POST, Body::empty()).await.status(),
        200
    );

    mesh.apply(&retried("mesh.rs/retry-methods: all"))
        .await
        .expect("an opt-in");
    mesh.until("the opt-in has arrived", async || {
        let before = handled.count();
        let post = send(&client, Method::POST, Body::from("order")).await;
        let second = read(post).await == (200, "order".to_owned());
        second && handled.count() == before + 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p08_nothing_is_tried_again_once_the_caller_has_headers() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let handled = Handled::default();
    let (counted, caller_has_it) = (handled.clone(), Arc::new(Notify::new()));
    let told = Arc::clone(&caller_has_it);
    let app = tower::service_fn(move |_: Request<Body>| {
        counted.add();
        let told = Arc::clone(&told);
        let half = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"half")))]);
        let breaks = half.chain(futures_util::stream::once(async move {
            told.notified().await;
            Err::<_, BoxError>("the other half is lost".into())
        }));
        async { Ok::<_, BoxError>(Response::new(StreamBody::new(breaks))) }
    });
    let _api = mesh.serve("shop/api", "api.shop", app).await.expect("api");
    mesh.apply(&retried("")).await.expect("a route");
    let web = mesh.join("shop/web").await.expect("web joins");
    let response = send(&web.client(), Method::GET, Body::empty()).await;
    assert_eq!(response.status(), 200);
    caller_has_it.notify_one();
    response.into_body().collect().await.expect_err("it breaks");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(handled.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o01_over_the_wire_a_backend_that_always_fails_sees_little_more_than_the_requests() {
    const REQUESTS: usize = 5_000;
    const AT_ONCE: usize = 64;
    let mesh = TestMesh::start().await.expect("a mesh");
    let handled = Handled::default();
    let counted = handled.clone();
    let app = tower::service_fn(move |_: Request<Body>| {
        counted.add();
        let failed = Response::builder().status(503).body(Body::empty());
        async { Ok::<_, BoxError>(failed.expect("a response")) }
    });
    let _api = mesh.serve("shop/api", "api.shop", app).await.expect("api");
    mesh.apply(&retried("")).await.expect("a route");
    let web = mesh.join("shop/web").await.expect("web joins");
    let client = web.client();
    let begun = Instant::now();
    futures_util::stream::iter(0..REQUESTS)
        .for_each_concurrent(AT_ONCE, |_| async {
            let response = send(&client, Method::GET, Body::empty()).await;
            assert_eq!(response.status(), 503);
        })
        .await;
    let seconds = usize::try_from(begun.elapsed().as_secs()).expect("few") + 1;
    let most = REQUESTS + REQUESTS / 5 + 10 * (seconds + 10);
    let tries = handled.count();
    assert!((REQUESTS + 1..=most).contains(&tries), "{tries} > {most}");
}
