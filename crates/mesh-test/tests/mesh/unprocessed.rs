//! What no server processed is sent again, whatever it is and whoever pays.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mesh_core::{Body, BoxError, Unprocessed};
use mesh_test::TestMesh;
use mesh_tls::config::{self, ClientCertificates};
use tokio::net::{TcpListener, TcpStream};

use crate::frames::{self, Stream};
use crate::{raw, read};

/// A budget that pays for nothing, so that what succeeds was free.
const PENNILESS: &str = "
apiVersion: v1
kind: Service
metadata:
  name: api
  namespace: shop
  annotations: { mesh.rs/retry-budget-ratio: '0', mesh.rs/retry-budget-min-per-second: '0' }
spec: { ports: [{ port: 80 }] }
";

/// What reached the application: the request's id and its body.
type Log = Arc<Mutex<Vec<(String, Bytes)>>>;

/// Another body for each round, from one piece or from several.
fn body(round: usize) -> (Vec<u8>, Body) {
    let whole: Vec<u8> = (0..round * 211)
        .map(|at| (at * 7 + round).to_le_bytes()[0])
        .collect();
    if round.is_multiple_of(2) {
        return (whole.clone(), Body::from(whole));
    }
    let pieces = whole
        .chunks(1_000)
        .map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::copy_from_slice(piece))));
    let pieces: Vec<_> = pieces.collect();
    let streamed = Body::new(StreamBody::new(futures_util::stream::iter(pieces)));
    (whole, streamed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p09_a_post_that_one_endpoint_refused_arrives_once_and_byte_equal() {
    const ROUNDS: usize = 60;
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(PENNILESS).await.expect("a service");
    let log = Log::default();
    let refused = Arc::new(AtomicUsize::new(0));
    let mut served = Vec::new();
    for refuses in [true, false] {
        let (log, refused) = (Arc::clone(&log), Arc::clone(&refused));
        let streams = Arc::new(AtomicUsize::new(0));
        let app = tower::service_fn(move |request: Request<Body>| {
            let nth = streams.fetch_add(1, Ordering::SeqCst);
            let (log, refused) = (Arc::clone(&log), Arc::clone(&refused));
            async move {
                if refuses && nth.is_multiple_of(3) {
                    refused.fetch_add(1, Ordering::SeqCst);
                    return Err::<_, BoxError>(Unprocessed.into());
                }
                let id = request.headers()["x-request-id"].to_str()?.to_owned();
                let body = request.into_body().collect().await?.to_bytes();
                log.lock().expect("no panic").push((id, body));
                Ok(Response::new(Body::from("done")))
            }
        });
        let api = mesh.serve("shop/api", "api.shop", app).await;
        served.push(api.expect("an endpoint"));
    }
    let web = mesh.join("shop/web").await.expect("web joins");
    let mut sent = Vec::new();
    for round in 0..ROUNDS {
        let (bytes, body) = body(round);
        let id = format!("{round:03}");
        let request = Request::post("http://api.shop/").header("x-request-id", &id);
        let Ok(response) = web
            .client()
            .send(request.body(body).expect("a request"))
            .await;
        assert_eq!(read(response).await, (200, "done".to_owned()), "{round}");
        sent.push((id, Bytes::from(bytes)));
    }
    assert!(refused.load(Ordering::SeqCst) > 0, "nothing was refused");
    assert!(*log.lock().expect("no panic") == sent, "another log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p09_a_stream_beyond_a_goaway_is_sent_again_on_a_new_connection() {
    const ROUNDS: usize = 5;
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(PENNILESS).await.expect("a service");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let seen = Seen::default();
    let server = tokio::spawn(leaves_every_other_time(
        raw::enrol(&mesh, "shop/api").await.expect("a certificate"),
        listener,
        seen.clone(),
    ));
    let _lease = lease(&mesh, address).await;
    let web = mesh.join("shop/web").await.expect("web joins");
    for round in 1..=ROUNDS {
        let (bytes, body) = body(round);
        let request = Request::post("http://api.shop/").body(body);
        let Ok(response) = web.client().send(request.expect("a request")).await;
        assert_eq!(read(response).await.0, 200, "{round}");
        let answered = || {
            let seen = seen.lock().expect("no panic");
            seen.last().is_some_and(|stream| stream.answered)
        };
        mesh.until("the server has told of it", async || answered())
            .await;
        let seen = seen.lock().expect("no panic").split_off(0);
        assert!(seen.iter().any(|stream| !stream.answered), "{round}");
        let answered: Vec<_> = seen.iter().filter(|stream| stream.answered).collect();
        assert_eq!(answered.len(), 1, "{round}");
        assert!(answered[0].body == bytes, "{round}: another body");
    }
    server.abort();
}

async fn lease(mesh: &TestMesh, address: SocketAddr) -> reqwest::Response {
    let lease = raw::register(mesh, "shop/api", "api.shop", address).await;
    lease.expect("a registration")
}

type Seen = Arc<Mutex<Vec<Stream>>>;

/// Each connection carries one request: in turn it is beyond a GOAWAY, and answered.
async fn leaves_every_other_time(
    credentials: mesh_tls::credentials::Credentials,
    listener: TcpListener,
    seen: Seen,
) -> Result<(), BoxError> {
    let tls = config::server(&credentials, ClientCertificates::Required);
    let mut answers = false;
    loop {
        let (socket, _): (TcpStream, _) = listener.accept().await?;
        let (stream, _) = mesh_tls::handshake::accept(socket, Arc::clone(&tls)).await?;
        let carried = frames::carry_one(stream, answers).await?;
        seen.lock().expect("no panic").push(carried);
        answers = !answers;
    }
}
