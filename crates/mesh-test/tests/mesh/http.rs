//! What passes unchanged, and what a handler's fault may break.

use http::{Request, Response};
use http_body_util::BodyExt;
use mesh_core::{Body, BoxError};
use mesh_test::TestMesh;

use crate::get;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_trailers_pass_both_ways_whole() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = tower::service_fn(|request: Request<Body>| async move {
        Ok::<_, BoxError>(Response::new(request.into_body()))
    });
    let _echo = mesh
        .serve("shop/echo", "echo.shop", app)
        .await
        .expect("echo");
    let web = mesh.join("shop/web").await.expect("web joins");
    for size in [0, 1, 65_535, 65_537, 3_000_000] {
        let sent: Vec<u8> = (0..size).map(|index: u32| index.to_le_bytes()[0]).collect();
        let request = Request::post("http://echo.shop/")
            .body(Body::from(sent.clone()))
            .expect("valid");
        let Ok(answer) = web.client().send(request).await;
        assert_eq!(answer.status(), 200);
        let back = answer
            .into_body()
            .collect()
            .await
            .expect("whole")
            .to_bytes();
        assert_eq!(back, sent, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p16_a_panic_answers_500_for_its_request_alone() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = tower::service_fn(|request: Request<Body>| async move {
        assert!(request.uri().path() != "/panic", "as asked");
        Ok::<_, BoxError>(Response::new(Body::from("fine")))
    });
    let _api = mesh.serve("shop/api", "api.shop", app).await.expect("api");
    let web = mesh.join("shop/web").await.expect("web joins");
    let client = web.client();
    let others = tokio::spawn(async move {
        for _ in 0..100 {
            assert_eq!(get(&client, "http://api.shop/").await.0, 200);
        }
    });
    for _ in 0..10 {
        assert_eq!(get(&web.client(), "http://api.shop/panic").await.0, 500);
    }
    others.await.expect("no other request was touched");
}
