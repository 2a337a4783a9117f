//! The README's ten lines, run as a process of a real mesh.

use std::process::{Child, Command};

use http::{Request, Response};
use mesh_core::{Body, BoxError};
use mesh_test::TestMesh;

/// A child that ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself already, which is as well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_lines_serve_one_service_and_call_another() -> Result<(), BoxError> {
    let mesh = TestMesh::start().await?;
    let stock = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let _stock = mesh.serve("shop/stock", "stock.shop", stock).await?;
    let _hello = Running(
        Command::new(env!("CARGO_BIN_EXE_hello"))
            .env("MESH_DISCOVERY", mesh.url())
            .env("MESH_TOKEN", mesh.token("shop/hello").await?.reveal())
            .env("MESH_SERVICE", "hello.shop")
            .spawn()?,
    );
    let web = mesh.join("shop/web").await?;
    mesh.until("hello calls stock", async || {
        let request = Request::get("http://hello.shop/").body(Body::empty());
        let Ok(response) = web.client().send(request.expect("a valid request")).await;
        if response.status() != 200 {
            return false;
        }
        let text = mesh_test::text(response).await.expect("a whole body");
        text == "the stock service says 200 OK\n"
    })
    .await;
    Ok(())
}
