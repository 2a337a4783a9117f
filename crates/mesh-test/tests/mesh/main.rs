//! Promises of the whole mesh: real sockets, a real CA, discovery over its own protocol.

mod admin;
mod authorization;
mod beside;
mod clock;
mod discovery;
mod disk;
mod echo;
mod explain;
mod families;
mod forge;
mod frames;
mod heads;
mod hops;
mod http;
mod identity;
mod leaps;
mod load;
mod openssl;
mod operations;
mod prometheus;
mod raw;
mod renewals;
mod reports;
mod retries;
mod rotation;
mod routing;
mod secrets;
mod start;
mod strangers;
mod trace;
mod unprocessed;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::{Request, Response};
use mesh_core::{Body, BoxError, Client, Mesh, Peer};

/// Counts the requests that reached the application.
#[derive(Clone, Debug, Default)]
struct Handled(Arc<AtomicUsize>);

impl Handled {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A service that answers with `name` and who called, as `name caller`.
fn named(
    name: &'static str,
    handled: &Handled,
) -> impl tower::Service<
    Request<Body>,
    Response = Response<Body>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<Body>, BoxError>> + Send + 'static,
> + Clone
+ Send
+ 'static {
    let handled = handled.clone();
    tower::service_fn(move |request: Request<Body>| {
        handled.add();
        let caller = request
            .extensions()
            .get::<Peer>()
            .and_then(|peer| peer.identity())
            .map_or_else(|| "nobody".to_owned(), ToString::to_string);
        let text = format!("{name} {caller}");
        async move { Ok(Response::new(Body::from(text))) }
    })
}

/// The first series of `family` among the process's metrics; 0 where there is none.
fn metric(mesh: &Mesh, family: &str) -> f64 {
    let text = mesh.recorder().render();
    let line = text
        .lines()
        .find(|line| line.starts_with(family) && !line.starts_with('#'));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_default()
}

/// Sends `GET uri` and gives status and text.
async fn get(client: &Client, uri: &str) -> (u16, String) {
    let request = Request::get(uri)
        .body(Body::empty())
        .expect("a valid request");
    let Ok(response) = client.send(request).await;
    read(response).await
}

/// Status and text of a response.
async fn read(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    (
        status,
        mesh_test::text(response).await.expect("a whole body"),
    )
}

/// The reason that the mesh gives for an answer of its own.
fn reason(response: &Response<Body>) -> &str {
    response
        .headers()
        .get("x-mesh-error")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("none")
}
