//! What holds when discovery is away, processes vanish, or somebody asks for too much.

use std::time::Duration;

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
