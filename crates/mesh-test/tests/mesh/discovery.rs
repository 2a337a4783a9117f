//! What holds when discovery is away, processes vanish, or somebody asks for too much.

use std::time::Duration;

use mesh_discovery::objects::ObjectName;
use mesh_policy::manifest::Kind;
use mesh_test::TestMesh;

use crate::{Handled, get, named, raw};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c01_traffic_and_policy_go_on_with_discovery_gone() {
    let mut mesh = TestMesh::start().await.expect("a mesh");
    let handled = Handled::default();
    let _api = mesh
        .serve("shop/api", "api.shop", named("api", &handled))
        .await
        .expect("api");
    let web = mesh.join("shop/web").await.expect("web joins");
    assert_eq!(get(&web.client(), "http://api.shop/").await.0, 200);
    mesh.stop_discovery().await;
    for _ in 0..50 {
        assert_eq!(get(&web.client(), "http://api.shop/").await.0, 200);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(handled.count(), 51);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_drain_leave_at_once_and_without_a_failed_request() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let (first, second) = (Handled::default(), Handled::default());
    let one = mesh
        .serve("shop/api", "api.shop", named("one", &first))
        .await
        .expect("one");
    let _two = mesh
        .serve("shop/api", "api.shop", named("two", &second))
        .await
        .expect("two");
    let web = mesh.join("shop/web").await.expect("web joins");
    let client = web.client();
    let load = tokio::spawn(async move {
        for _ in 0..400 {
            let (status, text) = get(&client, "http://api.shop/").await;
            assert_eq!(status, 200, "{text}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    one.drain().await;
    load.await.expect("no request failed");
    assert!(first.count() > 0, "both took traffic");
    assert!(second.count() > first.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_appears_later_is_found_without_a_retry_timer() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let web = mesh.join("shop/web").await.expect("web joins");
    assert_eq!(get(&web.client(), "http://late.shop/").await.0, 503);
    let handled = Handled::default();
    let _late = mesh
        .serve("shop/late", "late.shop", named("late", &handled))
        .await
        .expect("late");
    mesh.until("the service is found", async || {
        get(&web.client(), "http://late.shop/").await.0 == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c20_a_workload_cannot_register_as_a_service_it_may_not_serve() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let address = "127.0.0.1:9".parse().expect("an address");
    let refused = raw::register(&mesh, "shop/web", "payments.bank", address).await;
    let text = refused.expect_err("refused").to_string();
    assert!(
        text.contains("403") || text.contains("payments.bank"),
        "{text}"
    );
    raw::register(&mesh, "shop/web", "web.shop", address)
        .await
        .expect("its own namespace is allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_says_how_it_stands_and_since_when() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let route = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r, namespace: shop }
spec:
  parentRefs: [{ group: '', kind: Service, name: api }]
  rules: [{ backendRefs: [{ name: api, port: 80 }] }]
";
    mesh.apply(route).await.expect("a route");
    let conditions = async || {
        let name = ObjectName {
            kind: Kind::HttpRoute,
            namespace: "shop".to_owned(),
            name: "r".to_owned(),
        };
        let shown = mesh.admin().get(&name).await;
        let shown = shown.expect("it is there");
        let parent = shown["status"]["parents"][0].clone();
        assert_eq!(parent["parentRef"]["name"], "api");
        parent["conditions"].clone()
    };
    let before = conditions().await;
    assert_eq!(before[0]["type"], "Accepted");
    assert_eq!(before[0]["status"], "False");
    assert_eq!(before[0]["reason"], "NoMatchingParent");
    assert_eq!(before[0]["observedGeneration"], 1);
    assert_eq!(before, conditions().await, "nothing has changed since");
    let service = "
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ port: 80 }] }
";
    mesh.apply(service).await.expect("a Service");
    let after = conditions().await;
    assert_eq!(after[0]["status"], "True");
    assert_eq!(after[1]["type"], "ResolvedRefs");
    assert_eq!(after[1]["status"], "True");
}
