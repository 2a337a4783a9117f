//! A mesh inside a test: discovery, a CA and processes that join it, in one program.
//!
//! ```
//! use http::{Request, Response};
//! use mesh_core::{Body, BoxError};
//! use mesh_test::TestMesh;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), BoxError> {
//! let mesh = TestMesh::start().await?;
//! let app = tower::service_fn(|_: Request<Body>| async {
//!     Ok::<_, BoxError>(Response::new(Body::from("hello")))
//! });
//! let _api = mesh.serve("shop/api", "api.shop", app).await?;
//! let web = mesh.join("shop/web").await?;
//! let request = Request::get("http://api.shop/").body(Body::empty())?;
//! let response = web.client().send(request).await?;
//! assert_eq!(response.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is mocked: sockets are real and on loopback, ports are free ones,
//! certificates come from a CA that lives as long as the [`TestMesh`].

mod mesh;
mod program;
mod served;

use http::Response;
use http_body_util::BodyExt;
use mesh_core::{Body, BoxError};

pub use mesh::TestMesh;
pub use program::Program;
pub use served::Served;

/// The whole body of a response as text.
///
/// # Errors
///
/// A body that ends early, or is no UTF-8.
pub async fn text(response: Response<Body>) -> Result<String, BoxError> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec())?)
}
