//! The README's ten lines, run as a process of a real mesh.

use http::{Request, Response};
use mesh_core::{Body, BoxError};
use mesh_test::TestMesh;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_lines_serve_one_service_and_call_another() -> Result<(), BoxError> {
    let mesh = TestMesh::start().await?;
    let stock = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let _stock = mesh.serve("shop/stock", "stock.shop", stock).await?;
    let program = env!("CARGO_BIN_EXE_hello");
    let _running = mesh.spawn(program, "shop/hello", "hello.shop").await?;
    let web = mesh.join("shop/web").await?;
    mesh.until("hello calls stock", async || {
        let request = Request::get("http://hello.shop/").body(Body::empty());
        let Ok(response) = web.client().send(request.expect("a valid request")).await;
        let text = mesh_test::text(response).await.expect("a whole body");
        text == "the stock service says 200 OK\n"
    })
    .await;
    Ok(())
}
