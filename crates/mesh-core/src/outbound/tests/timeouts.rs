//! What ends a try, or a whole request, and when.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::time::Instant;

use super::*;
use crate::layers::timeout::{Limit, TimedOut};

/// Bytes of a dripping body.
const DROPS: usize = 20;

/// A body that sends a byte each `pause`.
pub(super) fn dripping(pause: Duration) -> Body {
    let drops = futures_util::stream::unfold(0, move |sent| async move {
        tokio::time::sleep(pause).await;
        let drop = Frame::data(Bytes::from_static(b"x"));
        (sent < DROPS).then_some((Ok::<_, BoxError>(drop), sent + 1))
    });
    Body::new(StreamBody::new(drops))
}

fn millis(millis: u64) -> Option<u64> {
    Some(millis)
}

/// One request to an endpoint that behaves so, whose rule has these limits.
struct Watched {
    world: World,
    begun: Instant,
    response: Result<Response<Body>, BoxError>,
}

async fn send(behaviour: Behaviour, limits: TimeoutsPlan, request: Request<Body>) -> Watched {
    let mut world = World::new();
    world.serve("api.shop:80", &[memory("api", behaviour)]);
    world.plan(vec![RulePlan {
        timeouts: limits,
        ..rule(vec![to("api.shop:80", 1)])
    }]);
    let begun = Instant::now();
    let response = world.stack().call(request).await;
    Watched {
        world,
        begun,
        response,
    }
}

fn get() -> Request<Body> {
    Request::get("http://api.shop/")
        .body(Body::empty())
        .unwrap()
}

/// Which limit broke the response off, and after how many milliseconds.
async fn broken(watched: Watched) -> (Limit, u128) {
    let body = watched.response.expect("headers").into_body();
    let error = body.collect().await.expect_err("it is broken off");
    let elapsed = watched.begun.elapsed().as_millis();
    let metrics = watched.world.outfit.recorder.render();
    assert!(metrics.contains("error=\"timeout\""), "{metrics}");
    (
        error.downcast_ref::<TimedOut>().expect("a limit").limit(),
        elapsed,
    )
}

#[tokio::test(start_paused = true)]
async fn p10_a_try_ends_with_its_limit_also_in_the_middle_of_the_body() {
    let limits = TimeoutsPlan {
        backend_request_ms: millis(100),
        ..TimeoutsPlan::default()
    };
    let watched = send(Behaviour::Drips(30), limits, get()).await;
    assert_eq!(broken(watched).await, (Limit::BackendRequest, 100));
    // It is fast enough: nothing ends it, though somebody watches.
    let watched = send(Behaviour::Drips(1), limits, get()).await;
    assert_eq!(text(watched.response.unwrap()).await.len(), DROPS);
}

#[tokio::test(start_paused = true)]
async fn p10_a_body_that_is_always_ready_ends_in_time_too() {
    let limits = TimeoutsPlan {
        backend_request_ms: millis(100),
        ..TimeoutsPlan::default()
    };
    let watched = send(Behaviour::Drips(1), limits, get()).await;
    // The caller reads nothing until the time is over, and then finds every frame.
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(broken(watched).await, (Limit::BackendRequest, 150));
}

#[tokio::test(start_paused = true)]
async fn p10_the_wait_for_discovery_lies_within_the_inherited_deadline() {
    let world = World::new();
    let left = Duration::from_millis(200);
    let begun = Instant::now();
    let inherited = crate::context::Context {
        deadline: Some(begun + left),
        ..crate::context::Context::default()
    };
    let call = crate::context::enter(inherited, || world.stack().call(get()));
    let error = call.await.expect_err("discovery never answers");
    assert_eq!(Cause::of(error.as_ref()), Cause::Timeout);
    assert_eq!(begun.elapsed(), left);
    assert_eq!(world.cause("http://api.shop/").await, Cause::UnknownService);
}

#[tokio::test(start_paused = true)]
async fn p10_the_whole_of_a_request_is_limited_to_the_end_of_its_body() {
    let limits = TimeoutsPlan {
        stream_ms: millis(70),
        ..TimeoutsPlan::default()
    };
    let watched = send(Behaviour::Drips(30), limits, get()).await;
    assert_eq!(broken(watched).await, (Limit::Stream, 70));
    let watched = send(Behaviour::IsSilent, limits, get()).await;
    let error = watched.response.expect_err("it is silent");
    assert!(
        error.to_string().contains("timeout.linkerd.io/request"),
        "{error}"
    );
    assert_eq!(watched.begun.elapsed().as_millis(), 70);
}

#[tokio::test(start_paused = true)]
async fn p10_silence_is_limited_and_any_frame_breaks_it() {
    let limits = TimeoutsPlan {
        idle_ms: millis(50),
        ..TimeoutsPlan::default()
    };
    let watched = send(Behaviour::Drips(80), limits, get()).await;
    assert_eq!(broken(watched).await.0, Limit::Idle);
    let watched = send(Behaviour::Drips(40), limits, get()).await;
    assert_eq!(text(watched.response.unwrap()).await.len(), DROPS);
    let watched = send(Behaviour::IsSilent, limits, get()).await;
    let error = watched.response.expect_err("it is silent");
    assert!(
        error.to_string().contains("timeout.linkerd.io/idle"),
        "{error}"
    );
    // What the caller sends is no silence either.
    let upload = Request::post("http://api.shop/").body(dripping(Duration::from_millis(40)));
    let watched = send(Behaviour::IsSilent, limits, upload.unwrap()).await;
    assert_eq!(Cause::of(&*watched.response.unwrap_err()), Cause::Timeout);
    assert!(watched.begun.elapsed() > Duration::from_millis(40 * 20));
}

#[tokio::test(start_paused = true)]
async fn p10_a_response_has_its_own_time_which_begins_when_the_request_is_sent() {
    let limits = TimeoutsPlan {
        response_ms: millis(100),
        ..TimeoutsPlan::default()
    };
    let watched = send(Behaviour::Drips(30), limits, get()).await;
    assert_eq!(broken(watched).await, (Limit::Response, 100));
    let upload = Request::post("http://api.shop/").body(dripping(Duration::from_millis(10)));
    let watched = send(Behaviour::IsSilent, limits, upload.unwrap()).await;
    let error = watched.response.expect_err("it is silent");
    assert!(
        error.to_string().contains("timeout.linkerd.io/response"),
        "{error}"
    );
    assert!((300..=320).contains(&watched.begun.elapsed().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn p10_a_grpc_call_that_runs_out_of_time_ends_with_its_status() {
    let request = Request::post("http://api.shop/")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "100m");
    let request = request.body(Body::empty()).unwrap();
    let watched = send(Behaviour::Drips(30), TimeoutsPlan::default(), request).await;
    let body = watched.response.expect("headers").into_body();
    let whole = body.collect().await.expect("trailers end it");
    assert_eq!(watched.begun.elapsed().as_millis(), 100);
    let trailers = whole.trailers().expect("a status");
    assert_eq!(trailers["grpc-status"], "4");
    assert_eq!(trailers["x-mesh-error"], "timeout");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_the_callers_own_that_breaks_is_not_held_against_the_endpoint() {
    let breaks = futures_util::stream::iter([
        Ok(Frame::data(Bytes::from_static(b"half"))),
        Err::<_, BoxError>("the other half is lost".into()),
    ]);
    let request = Request::put("http://api.shop/").body(Body::new(StreamBody::new(breaks)));
    let silent = Behaviour::IsSilent;
    let watched = send(silent, TimeoutsPlan::default(), request.unwrap()).await;
    let error = watched.response.expect_err("there is no answer");
    assert_eq!(Cause::of(error.as_ref()), Cause::InvalidRequest);
    let mut other = World::new();
    other.serve("api.shop:80", &[memory("api", silent)]);
    let [load, fresh] = [watched.world, other].map(|world| {
        let backend = &world.backends[&"api.shop:80".parse().unwrap()];
        backend.endpoints()[0].load(Instant::now())
    });
    assert!(load <= fresh, "{load} > {fresh}");
}

#[tokio::test(start_paused = true)]
async fn p10_only_a_try_that_can_be_followed_is_held_to_the_limit_of_its_headers() {
    let limits = TimeoutsPlan {
        response_headers_ms: millis(100),
        request_ms: millis(1_000),
        ..TimeoutsPlan::default()
    };
    let retry = mesh_policy::plan::outbound::RetryPlan {
        attempts: 1,
        ..mesh_policy::plan::outbound::RetryPlan::default()
    };
    let too_large = http_body_util::Full::new(Bytes::from(vec![0; (64 << 10) + 1]));
    for (method, body, tries) in [
        ("GET", Body::empty(), 2),
        ("POST", Body::from("order"), 1),
        ("PUT", Body::from(vec![0; 1 << 16]), 2),
        ("PUT", dripping(Duration::from_millis(1)), 2),
        ("PUT", Body::new(too_large), 1),
    ] {
        let mut world = World::new();
        let silent = memory("silent", Behaviour::IsSilent);
        world.serve("api.shop:80", std::slice::from_ref(&silent));
        world.plan(vec![RulePlan {
            timeouts: limits,
            retry: Some(retry.clone()),
            ..rule(vec![to("api.shop:80", 1)])
        }]);
        let begun = Instant::now();
        let request = Request::builder().method(method).uri("http://api.shop/");
        let error = world.stack().call(request.body(body).unwrap()).await;
        assert_eq!(Cause::of(&*error.unwrap_err()), Cause::Timeout);
        assert_eq!(begun.elapsed().as_millis(), 1_000, "{method}");
        assert_eq!(silent.seen.lock().unwrap().len(), tries, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn p10_a_requests_limit_runs_from_the_call_and_not_from_discoverys_first_answer() {
    let mut world = World::new();
    world.serve("api.shop:80", &[memory("silent", Behaviour::IsSilent)]);
    let begun = Instant::now();
    let mut call = tokio_test::task::spawn(world.stack().call(get()));
    assert!(call.poll().is_pending());
    tokio::time::advance(Duration::from_millis(900)).await;
    world.plan(vec![RulePlan {
        timeouts: TimeoutsPlan {
            request_ms: millis(1_000),
            ..TimeoutsPlan::default()
        },
        ..rule(vec![to("api.shop:80", 1)])
    }]);
    let error = call.await.expect_err("it is too late");
    assert_eq!(Cause::of(error.as_ref()), Cause::Timeout);
    assert_eq!(begun.elapsed(), Duration::from_millis(1_000));
}

#[tokio::test(start_paused = true)]
async fn the_latency_of_a_route_runs_from_the_call() {
    let mut world = World::new();
    world.serve("api.shop:80", &[memory("slow", Behaviour::Takes(100))]);
    let mut call = tokio_test::task::spawn(world.stack().call(get()));
    assert!(call.poll().is_pending());
    tokio::time::advance(Duration::from_millis(900)).await;
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    text(call.await.unwrap()).await;
    let metrics = world.outfit.recorder.render();
    let sum = |family: &str| {
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with(&format!("{family}_sum")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    assert_eq!(sum("route_response_latency_ms"), Some(1_000.0), "{metrics}");
    // The endpoint took no part in the wait.
    assert_eq!(sum("response_latency_ms"), Some(100.0), "{metrics}");
}
