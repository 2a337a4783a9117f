//! The README's tower service, run as a process of a real mesh.

use http::Request;
use mesh_core::{Body, BoxError};
use mesh_test::TestMesh;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_tower_service_knows_its_caller() -> Result<(), BoxError> {
    let mesh = TestMesh::start().await?;
    let program = env!("CARGO_BIN_EXE_service-fn");
    let _running = mesh.spawn(program, "shop/app", "app.shop").await?;
    let web = mesh.join("shop/web").await?;
    mesh.until("the service greets web", async || {
        let request = Request::get("http://app.shop/").body(Body::empty());
        let Ok(response) = web.client().send(request.expect("a valid request")).await;
        let text = mesh_test::text(response).await.expect("a whole body");
        text == "hello, spiffe://mesh.local/ns/shop/sa/web\n"
    })
    .await;
    Ok(())
}
