//! Certificates that are renewed under load, and processes that live on without discovery.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mesh_core::{Body, BoxError};
use mesh_test::TestMesh;

use crate::forge::{self, Leaf};
use crate::load::Load;
use crate::openssl;

const WEB: &str = "spiffe://mesh.local/ns/shop/sa/web";
/// The shortest that discovery issues.
const LEAF: Duration = Duration::from_secs(10);

/// Answers at once; at `/stream` with a byte every 100 ms, for ever.
async fn app(request: Request<Body>) -> Result<Response<Body>, BoxError> {
    if request.uri().path() != "/stream" {
        return Ok(Response::new(Body::from("ok")));
    }
    let ticks = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"."))), ()))
    });
    Ok(Response::new(Body::new(StreamBody::new(ticks.boxed()))))
}

fn renewals(mesh: &mesh_core::Mesh) -> u64 {
    let text = mesh.recorder().render();
    let line = text.lines().find(|line| {
        line.starts_with("control_identity_cert_refreshes_total{") && line.contains("result=\"ok\"")
    });
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t20_renewals_lose_no_request_and_break_no_stream() {
    let mesh = TestMesh::start_with(|config| config.leaf_ttl = LEAF)
        .await
        .expect("a mesh");
    let api = mesh
        .serve("shop/api", "api.shop", tower::service_fn(app))
        .await
        .expect("api");
    let web = mesh.join("shop/web").await.expect("web joins");
    let load = Load::start(&web.client(), "http://api.shop/", Duration::from_millis(5));
    let request = Request::get("http://api.shop/stream").body(Body::empty());
    let Ok(mut stream) = web.client().send(request.expect("a request")).await;
    let long = tokio::spawn(async move {
        let mut bytes = 0;
        while let Some(frame) = stream.body_mut().frame().await {
            bytes += frame
                .expect("the stream does not break")
                .into_data()
                .map_or(0, |d| d.len());
            if bytes == 120 {
                break;
            }
        }
        bytes
    });
    let folder = tempfile::tempdir().expect("a folder");
    let mut shown = Vec::new();
    for _ in 0..3 {
        if !openssl::is_missing().await {
            forge::under_the_mesh(&mesh, &Leaf::of(WEB), folder.path());
            let flags = openssl::certificate(folder.path());
            let flags: Vec<_> = flags.iter().map(String::as_str).collect();
            let printed = openssl::get(api.address(), &flags).await;
            assert!(printed.served(), "{}", printed.0);
            shown.push(openssl::public_key(&printed).await);
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    // Of a leaf of 10 s the next one comes after 4 to 5 s.
    assert_eq!(
        long.await.expect("no panic"),
        120,
        "a stream of 12 s is whole"
    );
    let tally = load.stop().await;
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    assert!(tally.requests > 1_000, "only {}", tally.requests);
    for process in [&web, api.mesh()] {
        assert!(renewals(process) >= 2, "{}", renewals(process));
    }
    assert_eq!(api.mesh().not_ready(), Vec::<String>::new());
    shown.dedup();
    assert!(shown.len() != 1, "new connections see new keys: {shown:?}");
}
