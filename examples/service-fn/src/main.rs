//! A service without a framework: a function from request to response.

use http::{Request, Response};
use mesh_core::{Body, BoxError, Config, Mesh, Peer};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let level = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(level);
    log.with_writer(std::io::stderr).init();

    let mesh = Mesh::join(Config::from_env()?).await?;
    let app = tower::service_fn(|request: Request<Body>| async move {
        let caller = request.extensions().get::<Peer>().and_then(Peer::identity);
        let name = caller.map_or("stranger".into(), ToString::to_string);
        Ok::<_, BoxError>(Response::new(Body::from(format!("hello, {name}\n"))))
    });
    mesh.serve(TcpListener::bind("0.0.0.0:0").await?, app)
        .await?;
    Ok(())
}
