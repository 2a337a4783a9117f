//! What flows down a chain of three services whose handlers know nothing of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use mesh_core::{Body, BoxError, Client, context};
use mesh_test::{Served, TestMesh};
use tokio::time::{Instant, sleep};

use crate::{Handled, named, raw};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// How long each hop works before it calls the next.
const WORK: Duration = Duration::from_millis(50);
const LIMITED: &str = "
apiVersion: v1
kind: Service
metadata: { name: a, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: a, namespace: shop }
spec:
  parentRefs: [{ name: a, group: '', kind: Service }]
  rules:
  - backendRefs: [{ name: a, port: 80 }]
    timeouts: { request: 5s }
";

/// What a hop saw of a request.
#[derive(Clone, Debug)]
struct Seen {
    left: Option<Duration>,
    headers: HeaderMap,
}

/// What all hops saw, and how many of their handlers are at work.
#[derive(Clone, Debug, Default)]
struct Witness {
    seen: Arc<Mutex<BTreeMap<&'static str, Seen>>>,
    working: Arc<AtomicUsize>,
}

/// Counts a handler for as long as its future lives.
struct Working(Arc<AtomicUsize>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Witness {
    fn note(&self, hop: &'static str, request: &Request<Body>) -> Working {
        self.working.fetch_add(1, Ordering::SeqCst);
        let until = context::current().deadline;
        let seen = Seen {
            left: until.map(|until| until - Instant::now()),
            headers: request.headers().clone(),
        };
        self.seen.lock().expect("no panic").insert(hop, seen);
        Working(Arc::clone(&self.working))
    }

    fn working(&self) -> usize {
        self.working.load(Ordering::SeqCst)
    }
}

/// A hop that works, then calls `next` and passes on what it says; the last one ends with `last`.
async fn hop(mesh: &TestMesh, hop: &'static str, next: Next, witness: &Witness) -> Served {
    let client = mesh.join("shop/caller").await.expect("it joins").client();
    let witness = witness.clone();
    let app = tower::service_fn(move |request: Request<Body>| {
        let (witness, client): (Witness, Client) = (witness.clone(), client.clone());
        async move {
            let _working = witness.note(hop, &request);
            sleep(WORK).await;
            match next {
                Next::Call(uri) => {
                    let request = Request::get(uri).body(Body::empty())?;
                    let Ok(response) = client.send(request).await;
                    Ok::<_, BoxError>(response)
                }
                Next::Answer => Ok(Response::new(Body::empty())),
                Next::Nothing => std::future::pending().await,
            }
        }
    });
    let identity = format!("shop/{hop}");
    let served = mesh.serve(&identity, &format!("{hop}.shop"), app).await;
    served.expect("a hop")
}

/// What a hop does when it has worked.
#[derive(Clone, Copy)]
enum Next {
    Call(&'static str),
    Answer,
    Nothing,
}

async fn chain(mesh: &TestMesh, last: Next, witness: &Witness) -> [Served; 3] {
    [
        hop(mesh, "c", last, witness).await,
        hop(mesh, "b", Next::Call("http://c.shop/"), witness).await,
        hop(mesh, "a", Next::Call("http://b.shop/"), witness).await,
    ]
}

fn call() -> Request<Body> {
    let request = Request::get("http://a.shop/").header("traceparent", TRACE);
    request.body(Body::empty()).expect("a request")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_shrinks_and_a_trace_goes_on_from_hop_to_hop() {
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(LIMITED).await.expect("a route");
    let witness = Witness::default();
    let _chain = chain(&mesh, Next::Answer, &witness).await;
    let web = mesh.join("shop/web").await.expect("web joins");
    let Ok(response) = web.client().send(call()).await;
    assert_eq!(response.status(), 200);
    let seen = witness.seen.lock().expect("no panic").clone();
    let left: Vec<_> = seen.values().map(|seen| seen.left).collect();
    let [Some(a), Some(b), Some(c)] = left[..] else {
        panic!("a hop without a deadline: {left:?}");
    };
    assert!(a <= Duration::from_secs(5), "{a:?}");
    assert!(b + WORK <= a && c + WORK <= b, "{a:?} {b:?} {c:?}");
    for (hop, seen) in &seen {
        assert_eq!(seen.headers["traceparent"], TRACE, "{hop}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_ends_the_work_of_every_hop() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let witness = Witness::default();
    let _chain = chain(&mesh, Next::Nothing, &witness).await;
    let web = mesh.join("shop/web").await.expect("web joins");
    let client = web.client();
    let calling = tokio::spawn(async move { client.send(call()).await });
    mesh.until("all hops work", async || witness.working() == 3)
        .await;
    calling.abort();
    mesh.until("no hop works", async || witness.working() == 0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_hop_ends_the_chain_at_the_deadline_of_the_first() {
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(&LIMITED.replace("5s", "400ms"))
        .await
        .expect("a route");
    let witness = Witness::default();
    let _chain = chain(&mesh, Next::Nothing, &witness).await;
    let web = mesh.join("shop/web").await.expect("web joins");
    let Ok(response) = web.client().send(call()).await;
    assert_eq!(response.status(), 504);
    mesh.until("no hop works", async || witness.working() == 0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_comes_late_is_refused_before_the_handler() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let handled = Handled::default();
    let api = mesh
        .serve("shop/api", "api.shop", named("api", &handled))
        .await
        .expect("api");
    let credentials = raw::enrol(&mesh, "shop/web").await.expect("a certificate");
    let speak = async |timeout: &str| {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: api.shop\r\nx-mesh-timeout: {timeout}\r\nconnection: close\r\n\r\n"
        );
        let expected = "spiffe://mesh.local/ns/shop/sa/api";
        let answer = raw::speak(&credentials, api.address(), expected, &request).await;
        answer.expect("an answer")
    };
    let late = speak("0s").await;
    assert!(late.starts_with("HTTP/1.1 504"), "{late}");
    assert!(late.contains("x-mesh-error: late"), "{late}");
    assert_eq!(handled.count(), 0);
    let in_time = speak("5s").await;
    assert!(in_time.starts_with("HTTP/1.1 200"), "{in_time}");
    assert_eq!(handled.count(), 1);
}
