//! What discovery hears of the last seconds of a process.

use http::{Request, Response};
use mesh_core::{Body, BoxError, Mesh};
use mesh_discovery::wire::StatQuery;
use mesh_test::{Served, TestMesh};

/// Requests that the callers of `api.shop` have reported.
async fn reported(mesh: &TestMesh) -> u64 {
    let query = StatQuery {
        name: Some("api".parse().expect("a name")),
        ..StatQuery::default()
    };
    let stat = mesh.admin().stat(&query).await.expect("statistics");
    stat.services.iter().map(|row| row.success).sum()
}

async fn start() -> (TestMesh, Served, Mesh) {
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, BoxError>(Response::new(Body::from("hello")))
    });
    let api = mesh.serve("shop/api", "api.shop", app).await;
    let web = mesh.join("shop/web").await.expect("it joins");
    (mesh, api.expect("it serves"), web)
}

async fn call(web: &Mesh, times: usize) {
    for _ in 0..times {
        let request = Request::get("http://api.shop/").body(Body::empty());
        let response = web.client().send(request.expect("a request")).await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), 200);
        mesh_test::text(response).await.expect("a body");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_calls_and_drains_is_counted_to_its_last_request() {
    let (mesh, _api, web) = start().await;
    // After a first report the next is due some seconds later.
    call(&web, 1).await;
    mesh.until("there was a report", async || reported(&mesh).await == 1)
        .await;
    call(&web, 39).await;
    web.drain().await;
    assert_eq!(reported(&mesh).await, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_requests_are_told_also_when_the_last_handle_is_dropped() {
    let (mesh, _api, web) = start().await;
    call(&web, 40).await;
    drop(web);
    mesh.until("all are told", async || reported(&mesh).await == 40)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_without_discovery_ends_within_its_limits() {
    let (mut mesh, _api, web) = start().await;
    call(&web, 1).await;
    mesh.stop_discovery().await;
    let limit = std::time::Duration::from_secs(10);
    let drained = tokio::time::timeout(limit, web.drain()).await;
    drained.expect("a drain waits a second for discovery, and no longer");
}
