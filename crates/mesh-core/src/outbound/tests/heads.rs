//! Endpoints whose answers are larger than those of the mesh, or end their connection for a request.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::HeaderValue;
use tokio::io::DuplexStream;

use super::*;

/// An endpoint that is written by hand.
#[derive(Clone)]
struct Foreign {
    serve: fn(DuplexStream) -> BoxFuture<'static, ()>,
    version: Alpn,
    dialled: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Foreign").finish_non_exhaustive()
    }
}

impl Dial for Foreign {
    fn dial(&self) -> BoxFuture<'static, Result<Opened, ConnectFailed>> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn((self.serve)(theirs));
        let version = self.version;
        Box::pin(async move { Ok(open(ours, version).await.expect("the other end is there")) })
    }

    fn version(&self) -> Alpn {
        self.version
    }

    fn address(&self) -> std::net::SocketAddr {
        facts().address
    }
}

/// A world with `endpoints` of one kind, and how often they were dialled.
fn world(
    serve: fn(DuplexStream) -> BoxFuture<'static, ()>,
    version: Alpn,
    endpoints: u16,
) -> (World, Arc<AtomicUsize>) {
    let mut world = World::new();
    let dialled = Arc::<AtomicUsize>::default();
    let backend = Backend::new("api.shop:80".parse().unwrap(), &world.outfit);
    let places = (1..=endpoints).map(|port| {
        let foreign = Foreign {
            serve,
            version,
            dialled: Arc::clone(&dialled),
        };
        let pool = Pool::new(foreign, PoolLimits::default(), Counter::noop());
        let mut facts = facts();
        facts.address = ([127, 0, 0, 1], port).into();
        let place = Place::reached_by("foreign", facts, backend.origin(), pool);
        Arc::new(place)
    });
    backend.replace(places.collect());
    let port = "api.shop:80".parse().unwrap();
    world.backends.insert(port, Arc::new(backend));
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    (world, dialled)
}

type Written = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// Answers `GET /N` with a head, and `POST /N` with trailers, of `N` bytes.
async fn answer(
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Written>, std::convert::Infallible> {
    let size = request.uri().path()[1..].parse().unwrap();
    let value = HeaderValue::from_maybe_shared(Bytes::from(vec![b'x'; size])).unwrap();
    let fields = HeaderMap::from_iter([(http::header::ETAG, value)]);
    let (head, trailers) = match *request.method() {
        http::Method::POST => (HeaderMap::new(), fields),
        _ => (fields, HeaderMap::new()),
    };
    let frames = [Ok::<_, BoxError>(http_body::Frame::trailers(trailers))];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let mut response = Response::new(body.boxed_unsync());
    *response.headers_mut() = head;
    Ok(response)
}

fn http1(io: DuplexStream) -> BoxFuture<'static, ()> {
    let builder = hyper::server::conn::http1::Builder::new();
    let served = builder.serve_connection(TokioIo::new(io), service_fn(answer));
    Box::pin(async { drop(served.await) })
}

fn http2(io: DuplexStream) -> BoxFuture<'static, ()> {
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(io), service_fn(answer));
    Box::pin(async { drop(served.await) })
}

#[tokio::test(start_paused = true)]
async fn h06_a_large_head_of_an_endpoint_fails_its_response_alone() {
    for (serve, version) in [(http1 as fn(_) -> _, Alpn::Http1), (http2, Alpn::Http2)] {
        let (world, dialled) = world(serve, version, 1);
        assert!(world.get("http://api.shop/65000").await.is_ok());
        let too_large = Cause::ResponseHeadTooLarge;
        assert_eq!(world.cause("http://api.shop/66000").await, too_large);
        assert_eq!(world.cause("http://api.shop/150000").await, too_large);
        let unreadable = world.cause("http://api.shop/300000").await;
        assert_eq!(unreadable, Cause::InvalidResponse, "{version:?}");
        assert!(world.get("http://api.shop/1").await.is_ok());
        if version == Alpn::Http2 {
            assert_eq!(
                dialled.load(Ordering::Relaxed),
                1,
                "one connection carried all"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn h06_large_trailers_of_an_endpoint_break_their_response_alone() {
    let (world, dialled) = world(http2, Alpn::Http2, 1);
    for (size, whole) in [(65_000, true), (66_000, false), (150_000, false), (1, true)] {
        let request = Request::post(format!("http://api.shop/{size}"));
        let request = request.body(Body::empty()).unwrap();
        let response = world.stack().call(request).await.unwrap();
        let read = response.into_body().collect().await;
        let cause = read.as_ref().err().map(|error| Cause::of(error.as_ref()));
        assert_eq!(cause, (!whole).then_some(Cause::TrailersTooLarge), "{size}");
    }
    assert_eq!(
        dialled.load(Ordering::Relaxed),
        1,
        "one connection carried all"
    );
}

/// Reads one request, and leaves by a GOAWAY with `code` that knows no stream.
fn leaves(mut io: DuplexStream, code: u8) -> BoxFuture<'static, ()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const HEADERS: u8 = 1;
    let work = async move {
        io.read_exact(&mut [0; 24]).await?;
        io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
        let mut kind = 0;
        while kind != HEADERS {
            let mut frame = [0; 9];
            io.read_exact(&mut frame).await?;
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
            io.read_exact(&mut vec![0; length as usize]).await?;
            kind = frame[3];
        }
        let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, code];
        io.write_all(&goaway).await?;
        io.shutdown().await
    };
    Box::pin(async { drop::<std::io::Result<()>>(work.await) })
}

#[tokio::test(start_paused = true)]
async fn p09_a_request_that_ends_its_connection_by_an_error_is_sent_elsewhere_once_and_charged() {
    const NO_ERROR: u8 = 0;
    const ENHANCE_YOUR_CALM: u8 = 11;
    let calm = |io| leaves(io, ENHANCE_YOUR_CALM);
    let (world, dialled) = world(calm, Alpn::Http2, 6);
    assert_eq!(world.cause("http://api.shop/").await, Cause::ConnectFailed);
    assert_eq!(dialled.load(Ordering::Relaxed), 2);
    let metrics = world.outfit.recorder.render();
    assert!(metrics.contains("reason=\"limit\"} 1"), "{metrics}");
    let (world, dialled) = self::world(|io| leaves(io, NO_ERROR), Alpn::Http2, 6);
    assert_eq!(world.cause("http://api.shop/").await, Cause::ConnectFailed);
    assert_eq!(
        dialled.load(Ordering::Relaxed),
        4,
        "whoever only leaves is no risk"
    );
}
