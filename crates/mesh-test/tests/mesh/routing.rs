//! Where requests go: routes, splits, and what happens when there is nobody.

use http::Request;
use mesh_core::Body;
use mesh_test::TestMesh;

use crate::{Handled, get, named, reason};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ port: 8080 }] }
";

fn route(rules: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: api, namespace: shop }}
spec:
  parentRefs: [{{ name: api, group: '', kind: Service }}]
  rules:
{rules}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p04_a_split_keeps_its_shares_and_weight_zero_gets_nothing() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let handled = [Handled::default(), Handled::default(), Handled::default()];
    let names = ["stable", "canary", "retired"];
    let mut served = Vec::new();
    for (name, handled) in names.into_iter().zip(&handled) {
        let service = format!("{name}.shop:8080");
        let app = named(name, handled);
        served.push(mesh.serve("shop/api", &service, app).await.expect(name));
    }
    mesh.apply(SERVICES).await.expect("services");
    mesh.apply(&route(
        "  - backendRefs:
    - { name: stable, port: 8080, weight: 80 }
    - { name: canary, port: 8080, weight: 20 }
    - { name: retired, port: 8080, weight: 0 }
",
    ))
    .await
    .expect("a route");
    let web = mesh.join("shop/web").await.expect("web joins");
    for _ in 0..2_000 {
        assert_eq!(get(&web.client(), "http://api.shop:8080/").await.0, 200);
    }
    let counts: Vec<_> = handled.iter().map(Handled::count).collect();
    assert_eq!(counts.iter().sum::<usize>(), 2_000);
    assert_eq!(counts[2], 0, "weight 0 gets nothing");
    // Five standard deviations of a binomial of 2,000 at 20 %.
    assert!(counts[1].abs_diff(400) < 90, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_match_by_path_method_and_header_and_else_answer_404() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let (v1, v2) = (Handled::default(), Handled::default());
    let _v1 = mesh
        .serve("shop/api", "v1.shop", named("v1", &v1))
        .await
        .expect("v1");
    let _v2 = mesh
        .serve("shop/api", "v2.shop", named("v2", &v2))
        .await
        .expect("v2");
    mesh.apply(SERVICES).await.expect("services");
    mesh.apply(&route(
        "  - matches:
    - path: { type: PathPrefix, value: /orders }
    backendRefs: [{ name: v1, port: 80 }]
  - matches:
    - path: { type: Exact, value: /orders/new }
      method: POST
    - path: { type: PathPrefix, value: /orders }
      headers: [{ name: X-Version, value: '2' }]
    backendRefs: [{ name: v2, port: 80 }]
",
    ))
    .await
    .expect("a route");
    let web = mesh.join("shop/web").await.expect("web joins");
    let ask = async |method: &str, path: &str, version: &str| {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://api.shop{path}"))
            .header("x-version", version)
            .body(Body::empty())
            .expect("a valid request");
        let Ok(response) = web.client().send(request).await;
        crate::read(response).await
    };
    let table = [
        ("GET", "/orders", "1", 200, "v1"),
        ("GET", "/orders/7?x=/orders/new", "1", 200, "v1"),
        ("GET", "/orders/7", "2", 200, "v2"),
        ("POST", "/orders/new", "1", 200, "v2"),
        ("GET", "/orders/new", "1", 200, "v1"),
        ("GET", "/ordersx", "2", 404, ""),
        ("GET", "/", "2", 404, ""),
    ];
    for (method, path, version, status, name) in table {
        let (found, text) = ask(method, path, version).await;
        assert_eq!(found, status, "{method} {path} {version}: {text}");
        if status == 200 {
            assert!(text.starts_with(name), "{method} {path} {version}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patterns_and_parameters_match_and_filters_change_what_passes() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let (v1, v2) = (Handled::default(), Handled::default());
    let mut served = Vec::new();
    for (name, handled) in [("v1", &v1), ("v2", &v2)] {
        let app = named(name, handled);
        let address = format!("{name}.shop");
        served.push(mesh.serve("shop/api", &address, app).await.expect(name));
    }
    mesh.apply(SERVICES).await.expect("services");
    mesh.apply(&route(
        "  - matches:
    - path: { type: RegularExpression, value: '/orders/[0-9]+' }
    backendRefs:
    - name: v1
      port: 80
      filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: X-Backend, value: v1 }] } }]
  - matches:
    - queryParams: [{ name: version, value: '2' }]
    backendRefs: [{ name: v2, port: 80 }]
  - matches:
    - path: { value: /old }
    filters:
    - type: RequestRedirect
      requestRedirect: { statusCode: 301, path: { type: ReplacePrefixMatch, replacePrefixMatch: /orders } }
",
    ))
    .await
    .expect("a route");
    let web = mesh.join("shop/web").await.expect("web joins");
    let ask = async |path: &str| {
        let request = Request::get(format!("http://api.shop{path}")).body(Body::empty());
        let Ok(response) = web.client().send(request.expect("a valid request")).await;
        let header = |name| {
            let value: Option<&http::HeaderValue> = response.headers().get(name);
            value.map(|value| value.to_str().expect("text").to_owned())
        };
        let said = [header("x-backend"), header("location")];
        (crate::read(response).await, said)
    };
    let v1 = Some("v1".to_owned());
    let ((status, text), said) = ask("/orders/7").await;
    assert!(status == 200 && text.starts_with("v1"), "{text}");
    assert_eq!(said, [v1, None]);
    let ((status, text), said) = ask("/orders/seven?a=b&version=2").await;
    assert!(status == 200 && text.starts_with("v2"), "{text}");
    assert_eq!(said, [None, None]);
    let ((status, _), said) = ask("/old/7?x=y").await;
    assert_eq!(status, 301);
    let location = Some("http://api.shop/orders/7?x=y".to_owned());
    assert_eq!(said, [None, location]);
    assert_eq!(ask("/orders/7/8").await.0.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traffic_split_divides_and_gives_way_to_a_route() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let (old, new) = (Handled::default(), Handled::default());
    let _old = mesh
        .serve("shop/api", "old.shop", named("old", &old))
        .await
        .expect("old");
    let _new = mesh
        .serve("shop/api", "new.shop", named("new", &new))
        .await
        .expect("new");
    mesh.apply(SERVICES).await.expect("services");
    mesh.apply(
        "
apiVersion: split.smi-spec.io/v1alpha1
kind: TrafficSplit
metadata: { name: api, namespace: shop }
spec:
  service: api
  backends:
  - { service: old, weight: 500m }
  - { service: new, weight: 500m }
",
    )
    .await
    .expect("a split");
    let web = mesh.join("shop/web").await.expect("web joins");
    for _ in 0..200 {
        assert_eq!(get(&web.client(), "http://api.shop/").await.0, 200);
    }
    assert!(old.count().abs_diff(100) < 40, "{}", old.count());

    mesh.apply(&route("  - backendRefs: [{ name: new, port: 80 }]\n"))
        .await
        .expect("a route");
    // The split sends half of all requests to the old one: twenty in a row that do not are the route.
    mesh.until("the route wins", async || {
        let mut all_new = true;
        for _ in 0..20 {
            all_new &= get(&web.client(), "http://api.shop/")
                .await
                .1
                .starts_with("new");
        }
        all_new
    })
    .await;
    let after_change = old.count();
    for _ in 0..50 {
        let (_, text) = get(&web.client(), "http://api.shop/").await;
        assert!(text.starts_with("new"), "{text}");
    }
    assert_eq!(old.count(), after_change);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_answered_at_once_with_its_reason() {
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(SERVICES).await.expect("services");
    mesh.apply(
        "
apiVersion: v1
kind: Service
metadata: { name: empty, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: api, namespace: shop }
spec:
  parentRefs: [{ name: api, group: '', kind: Service }]
  rules:
  - matches: [{ path: { type: Exact, value: /empty } }]
    backendRefs: [{ name: empty, port: 80 }]
  - matches: [{ path: { type: Exact, value: /nobody } }]
    backendRefs: [{ name: nobody-ever-served, port: 80 }]
  - matches: [{ path: { type: Exact, value: /zero } }]
    backendRefs: [{ name: empty, port: 80, weight: 0 }]
",
    )
    .await
    .expect("a route");
    let web = mesh.join("shop/web").await.expect("web joins");
    let table = [
        ("http://api.shop/empty", 503, "no-endpoints"),
        ("http://api.shop/nobody", 500, "backend-not-found"),
        ("http://api.shop/zero", 500, "no-backends"),
        ("http://api.shop/other", 404, "no-route"),
        ("http://api.shop:81/empty", 503, "unknown-port"),
        ("http://typo.shop/", 503, "unknown-service"),
        ("http://example.com/", 503, "unknown-service"),
    ];
    for (uri, status, expected) in table {
        let request = Request::get(uri).body(Body::empty()).expect("valid");
        let started = tokio::time::Instant::now();
        let Ok(response) = web.client().send(request).await;
        assert_eq!(response.status().as_u16(), status, "{uri}");
        assert_eq!(reason(&response), expected, "{uri}");
        assert!(started.elapsed().as_secs() < 3, "{uri} hung");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_a_plan_that_changes_under_load_fails_no_request() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let (old, new) = (Handled::default(), Handled::default());
    let _old = mesh
        .serve("shop/api", "old.shop", named("old", &old))
        .await
        .expect("old");
    let _new = mesh
        .serve("shop/api", "new.shop", named("new", &new))
        .await
        .expect("new");
    mesh.apply(SERVICES).await.expect("services");
    let weights = |old: u32| {
        route(&format!(
            "  - backendRefs:
    - {{ name: old, port: 80, weight: {old} }}
    - {{ name: new, port: 80, weight: {} }}
",
            100 - old
        ))
    };
    mesh.apply(&weights(50)).await.expect("a route");
    let web = mesh.join("shop/web").await.expect("web joins");
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let client = web.client();
            tokio::spawn(async move {
                for _ in 0..300 {
                    let (status, text) = get(&client, "http://api.shop/").await;
                    assert_eq!(status, 200, "{text}");
                }
            })
        })
        .collect();
    let mut changes = 0;
    while callers.iter().any(|caller| !caller.is_finished()) {
        mesh.apply(&weights(changes % 101)).await.expect("a change");
        changes += 1;
    }
    for caller in callers {
        caller.await.expect("no request failed");
    }
    assert!(changes > 5, "the plan hardly changed: {changes}");
    assert_eq!(old.count() + new.count(), 1_200);
}
