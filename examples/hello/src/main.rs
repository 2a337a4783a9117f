//! An axum service in the mesh that calls another service of the mesh.

use axum::{Router, routing::get};
use mesh_core::{Body, Config, Mesh};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let level = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(level);
    log.with_writer(std::io::stderr).init();

    let mesh = Mesh::join(Config::from_env()?).await?;
    let client = mesh.client();
    let greet = || async move {
        let request = axum::http::Request::get("http://stock.shop/").body(Body::empty());
        let Ok(answer) = client.send(request.expect("a valid request")).await;
        format!("the stock service says {}\n", answer.status())
    };
    let app = Router::new().route("/", get(greet));
    mesh.serve(TcpListener::bind("0.0.0.0:0").await?, app)
        .await?;
    Ok(())
}
