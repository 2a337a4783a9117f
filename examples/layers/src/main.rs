//! The mesh's layers alone: a hyper server with deadlines, authorization and answers, and no mesh around it.
//!
//! It serves itself one request that policy allows and one that it does not, prints both answers, and ends.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use mesh_core::inbound::Policy;
use mesh_core::layers::answer::AnswerLayer;
use mesh_core::layers::authorize::AuthorizeLayer;
use mesh_core::layers::deadline::DeadlineLayer;
use mesh_core::layers::inbound_context::InboundContextLayer;
use mesh_core::layers::peer::PeerLayer;
use mesh_core::layers::timeout::TimeoutLayer;
use mesh_core::{Body, BoxError, Peer};
use mesh_policy::plan::inbound::InboundPlan;
use mesh_policy::plan::part::Part;
use tower::{Service, ServiceBuilder, ServiceExt};

/// A policy by hand: the network of loopback may call, whoever is there.
const LOOPBACK: &str = r#"{
  "port": "api.shop:80",
  "server": {"group": "", "kind": "default", "namespace": "", "name": "loopback"},
  "authorizations": [{"requires": ["authorization/1"], "body": {
    "source": {"group": "", "kind": "default", "namespace": "", "name": "loopback"},
    "networks": [{"cidr": "127.0.0.0/8"}],
    "client": "anyone"
  }}]
}"#;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let plan: InboundPlan = serde_json::from_str(LOOPBACK)?;
    let policy = Arc::new(Policy::compile(&Part::new("inbound/1", plan)));
    let allowed = serve_one(policy.clone(), Peer::plaintext(([127, 0, 0, 1], 1).into())).await?;
    let refused = serve_one(policy, Peer::plaintext(([192, 0, 2, 1], 1).into())).await?;
    println!("from loopback: {allowed}\nfrom elsewhere: {refused}");
    Ok(())
}

/// Serves one connection of `peer` over an in-memory pipe, and calls through it.
async fn serve_one(policy: Arc<Policy>, peer: Peer) -> Result<String, BoxError> {
    let app = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, BoxError>(Response::new(Body::from("hello")))
    });
    let service = ServiceBuilder::new()
        .map_request(|request: Request<hyper::body::Incoming>| request.map(Body::from))
        .layer(PeerLayer::new(peer))
        .layer(InboundContextLayer)
        .layer(AnswerLayer)
        .layer(DeadlineLayer)
        .layer(AuthorizeLayer::new(policy))
        .layer(TimeoutLayer::new(Some(Duration::from_secs(1))))
        .service(app);
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(theirs), TowerToHyperService::new(service));
    let serving = tokio::spawn(server);

    let (sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(ours)).await?;
    tokio::spawn(driver);
    let mut client = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Some(Duration::from_secs(2))))
        .service(tower::service_fn(move |request: Request<Body>| {
            let mut sender = sender.clone();
            async move { Ok::<_, BoxError>(sender.send_request(request).await?.map(Body::from)) }
        }));
    let request = Request::get("http://api.shop/").body(Body::empty())?;
    let response = client.ready().await?.call(request).await?;
    let status = response.status();
    let text = response.into_body().collect().await?.to_bytes();
    drop(client);
    serving.await??;
    Ok(format!("{status} {}", String::from_utf8_lossy(&text)))
}
