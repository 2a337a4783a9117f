//! The README's tower service, run as a process of a real mesh.

use std::process::{Child, Command};

use http::Request;
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
async fn a_plain_tower_service_knows_its_caller() -> Result<(), BoxError> {
    let mesh = TestMesh::start().await?;
    let _app = Running(
        Command::new(env!("CARGO_BIN_EXE_service-fn"))
            .env("MESH_DISCOVERY", mesh.url())
            .env("MESH_TOKEN", mesh.token("shop/app").await?.reveal())
            .env("MESH_SERVICE", "app.shop")
            .spawn()?,
    );
    let web = mesh.join("shop/web").await?;
    mesh.until("the service greets web", async || {
        let request = Request::get("http://app.shop/").body(Body::empty());
        let Ok(response) = web.client().send(request.expect("a valid request")).await;
        if response.status() != 200 {
            return false;
        }
        let text = mesh_test::text(response).await.expect("a whole body");
        text == "hello, spiffe://mesh.local/ns/shop/sa/web\n"
    })
    .await;
    Ok(())
}
