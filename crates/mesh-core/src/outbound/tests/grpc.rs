//! gRPC statuses that come in trailers, and what is tried again for them.

use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderValue;
use http_body::Frame;
use http_body_util::StreamBody;
use mesh_policy::plan::outbound::RetryPlan;

use super::*;

/// What an endpoint sends after its head.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Trailers with the status.
    Status(u16),
    /// A message, and then trailers.
    MessageAnd(u16),
    /// A message after so many seconds.
    MessageAfter(u64),
}

/// Answers each request with the next of `answers`, the last one for ever.
#[derive(Clone, Debug)]
struct Scripted {
    answers: Arc<Mutex<Vec<Then>>>,
    seen: Arc<Mutex<usize>>,
}

impl Dial for Scripted {
    fn dial(&self) -> BoxFuture<'static, Result<Opened, ConnectFailed>> {
        let this = self.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let service = service_fn(move |_| {
                let this = this.clone();
                async move { Ok::<_, std::convert::Infallible>(this.answer()) }
            });
            tokio::spawn(async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                drop(
                    builder
                        .serve_connection(TokioIo::new(theirs), service)
                        .await,
                );
            });
            Ok(open(ours, Alpn::Http2)
                .await
                .expect("the other end is there"))
        })
    }

    fn version(&self) -> Alpn {
        Alpn::Http2
    }

    fn address(&self) -> std::net::SocketAddr {
        facts().address
    }
}

impl Scripted {
    fn answer(&self) -> Response<Body> {
        *self.seen.lock().unwrap() += 1;
        let mut answers = self.answers.lock().unwrap();
        let then = if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0]
        };
        let status = |code: u16| {
            let trailers = HeaderMap::from_iter([(crate::answer::GRPC_STATUS, code.into())]);
            Ok::<_, BoxError>(Frame::trailers(trailers))
        };
        let message = || Ok(Frame::data(Bytes::from_static(b"message")));
        let frames = match then {
            Then::Status(code) => futures_util::stream::iter(vec![status(code)]).boxed(),
            Then::MessageAnd(code) => {
                futures_util::stream::iter(vec![message(), status(code)]).boxed()
            }
            Then::MessageAfter(seconds) => futures_util::stream::once(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                message()
            })
            .boxed(),
        };
        let mut response = Response::new(Body::new(StreamBody::new(frames)));
        let grpc = HeaderValue::from_static("application/grpc");
        response
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, grpc);
        response
    }
}

/// A world whose one endpoint answers so, and what it was asked.
fn world(answers: &[Then], limits: TimeoutsPlan) -> (World, Scripted) {
    let mut world = World::new();
    let scripted = Scripted {
        answers: Arc::new(Mutex::new(answers.to_vec())),
        seen: Arc::default(),
    };
    let pool = Pool::new(scripted.clone(), PoolLimits::default(), Counter::noop());
    let backend = Backend::new("api.shop:80".parse().unwrap(), &world.outfit);
    let place = Place::reached_by("scripted", facts(), backend.origin(), pool);
    backend.replace(vec![Arc::new(place)]);
    let port = "api.shop:80".parse().unwrap();
    world.backends.insert(port, Arc::new(backend));
    world.plan(vec![RulePlan {
        timeouts: limits,
        retry: Some(RetryPlan {
            attempts: 2,
            grpc: vec![14],
            ..RetryPlan::default()
        }),
        ..rule(vec![to("api.shop:80", 1)])
    }]);
    (world, scripted)
}

async fn call(world: &World) -> Response<Body> {
    let request = Request::post("http://api.shop/shop.Api/Get")
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .body(Body::from("question"));
    world.stack().call(request.unwrap()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn p08_a_status_in_trailers_is_tried_again_as_long_as_no_message_came() {
    let (world, endpoint) = world(
        &[Then::Status(14), Then::MessageAnd(0)],
        TimeoutsPlan::default(),
    );
    let whole = call(&world).await.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(whole.to_bytes(), "message");
    assert_eq!(*endpoint.seen.lock().unwrap(), 2);
    for (then, seen, status) in [
        (Then::MessageAnd(14), 1, "14"),
        (Then::Status(5), 1, "5"),
        (Then::Status(14), 3, "14"),
    ] {
        let (world, endpoint) = self::world(&[then], TimeoutsPlan::default());
        let whole = call(&world).await.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["grpc-status"], status, "{then:?}");
        assert_eq!(*endpoint.seen.lock().unwrap(), seen, "{then:?}");
        let metrics = world.outfit.recorder.render();
        let counted = format!(r#"grpc_status="{status}",error=""}} {seen}"#);
        assert!(metrics.contains(&counted), "no {counted} in\n{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_caller_waits_for_the_head_before_it_goes_on_gets_the_head_at_once() {
    let (world, endpoint) = world(&[Then::MessageAfter(20)], TimeoutsPlan::default());
    let begun = tokio::time::Instant::now();
    let open = futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>();
    let request = Request::post("http://api.shop/shop.Api/Chat")
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .body(Body::new(StreamBody::new(open)));
    let response = world.stack().call(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(*endpoint.seen.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_head_is_not_kept_beyond_a_limit_on_it() {
    for (request, headers, seconds) in [(None, None, 10), (Some(3), None, 3), (None, Some(2), 2)] {
        let limits = TimeoutsPlan {
            request_ms: request.map(|seconds| seconds * 1_000),
            response_headers_ms: headers.map(|seconds| seconds * 1_000),
            ..TimeoutsPlan::default()
        };
        let (world, endpoint) = world(&[Then::MessageAfter(20)], limits);
        let begun = tokio::time::Instant::now();
        let response = call(&world).await;
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("x-mesh-error"));
        assert_eq!(begun.elapsed().as_secs(), seconds);
        assert_eq!(text(response).await, "message");
        assert_eq!(*endpoint.seen.lock().unwrap(), 1);
    }
}
