//! What a caller can learn of how its request was decided.

use http::Request;
use mesh_core::outbound::{Decided, Trace};
use mesh_core::{Body, Client};
use mesh_test::TestMesh;

use crate::{Handled, named};

const ROUTE: &str = "
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: empty, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: api-routing, namespace: shop }
spec:
  parentRefs: [{ name: api, group: '', kind: Service }]
  rules:
  - matches: [{ path: { type: PathPrefix, value: /empty } }]
    backendRefs: [{ name: empty, port: 80 }]
  - name: rest
    backendRefs: [{ name: stable, port: 80 }]
";

async fn trace(client: &Client, uri: &str) -> (u16, Decided) {
    let trace = Trace::default();
    let request = Request::get(uri).extension(trace.clone());
    let request = request.body(Body::empty()).expect("a valid request");
    let Ok(response) = client.send(request).await;
    (response.status().as_u16(), trace.decided())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_asks_learns_what_was_decided() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = named("stable", &Handled::default());
    let served = mesh.serve("shop/api", "stable.shop", app).await;
    let served = served.expect("it serves");
    mesh.apply(ROUTE).await.expect("a route");
    let web = mesh.join("shop/web").await.expect("web joins");

    let (status, decided) = trace(&web.client(), "http://api.shop/").await;
    assert_eq!(status, 200);
    let route = decided.route.expect("a route");
    assert_eq!(route.name, "api-routing");
    let rule = decided.rule.expect("a rule");
    assert_eq!((rule.index, rule.name.as_deref()), (1, Some("rest")));
    assert_eq!(decided.port.expect("a port").to_string(), "api.shop:80");
    let backend = decided.backend.expect("a backend");
    assert_eq!(backend.to_string(), "stable.shop:80");
    assert_eq!(decided.endpoint, Some(served.address()));
    let tls = decided.tls.expect("mutual TLS");
    let peer = tls.peer.expect("a peer").to_string();
    assert_eq!(peer, "spiffe://mesh.local/ns/shop/sa/api");
    assert_eq!(decided.attempts, 1);

    let (status, decided) = trace(&web.client(), "http://api.shop/empty").await;
    assert_eq!(status, 503);
    let backend = decided.backend.expect("the backend that has nobody");
    assert_eq!(backend.to_string(), "empty.shop:80");
    assert_eq!((decided.endpoint, decided.attempts), (None, 0));

    let (status, decided) = trace(&web.client(), "http://nobody.shop/").await;
    assert_eq!((status, decided), (503, Decided::default()));
}
