//! Which endpoints a balancer takes for fast, and what teaches it better.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::time::{Instant, timeout};

use super::*;

/// A body of which nothing ever comes.
pub(super) fn silence() -> Body {
    Body::new(StreamBody::new(futures_util::stream::pending::<
        Result<Frame<Bytes>, BoxError>,
    >()))
}

/// No message, and a status in the trailers that says to come back later.
pub(super) fn refusal() -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("14"));
    let frames = [Ok::<_, BoxError>(Frame::trailers(trailers))];
    Body::new(StreamBody::new(futures_util::stream::iter(frames)))
}

/// A service with these endpoints and no limits of its own.
fn served_by(endpoints: &[Memory]) -> World {
    let mut world = World::new();
    world.serve("api.shop:80", endpoints);
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    world
}

/// One call with its answer read to the end, which its caller gives up after `limit`.
async fn is_given_up(world: &World, limit: Duration) -> bool {
    let whole = async {
        let response = world.get("http://api.shop/").await?;
        response.into_body().collect().await
    };
    timeout(limit, whole).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_fast_or_cannot_be_reached_attracts_nothing() {
    for behaviour in [Behaviour::Fails, Behaviour::CannotBeReached] {
        let mut world = World::new();
        let good = memory("good", Behaviour::Answers);
        let bad = memory("bad", behaviour);
        world.serve("api.shop:80", &[good.clone(), bad]);
        world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
        let mut failures = 0;
        for _ in 0..50 {
            match world.get("http://api.shop/").await {
                Ok(response) if response.status() == 200 => {}
                Ok(_) | Err(_) => failures += 1,
            }
        }
        assert!(failures <= 2, "{behaviour:?}: {failures}");
        assert!(good.seen.lock().unwrap().len() >= 48);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_endpoint_does_not_look_idle_to_callers_with_limits_of_their_own() {
    for behaviour in [Behaviour::IsSilent, Behaviour::HeadOnly] {
        let good = memory("good", Behaviour::Takes(100));
        let world = served_by(&[good, memory("silent", behaviour)]);
        let mut by_minute = Vec::new();
        for _minute in 0..3 {
            let (begun, mut given_up, mut all) = (Instant::now(), 0_u32, 0_u32);
            while begun.elapsed() < Duration::from_secs(60) {
                given_up += u32::from(is_given_up(&world, Duration::from_secs(1)).await);
                all += 1;
            }
            by_minute.push((given_up, all));
        }
        let (given_up, all) = by_minute[2];
        assert!(
            given_up * 50 < all,
            "{behaviour:?}: given up, of all, by the minute: {by_minute:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_endpoint_of_five_costs_little_of_the_throughput_under_load() {
    const SLOTS: usize = 4;
    let mut all: Vec<Memory> = ["a", "b", "c", "d"]
        .map(|name| memory(name, Behaviour::Takes(100)))
        .into();
    all.push(memory("silent", Behaviour::IsSilent));
    let world = served_by(&all);
    let begun = Instant::now();
    let slot = Duration::from_secs(30);
    let caller = || async {
        let mut counts = [(0_u32, 0_u32); SLOTS];
        for (place, (given_up, all)) in (0_u32..).zip(&mut counts) {
            while begun.elapsed() < slot * (place + 1) {
                *given_up += u32::from(is_given_up(&world, Duration::from_secs(1)).await);
                *all += 1;
            }
        }
        counts
    };
    let each = futures_util::future::join_all((0..16).map(|_| caller())).await;
    let sum = |place: usize| {
        let slots = each.iter().map(|counts| counts[place]);
        slots.fold((0, 0), |sum, (given_up, all)| {
            (sum.0 + given_up, sum.1 + all)
        })
    };
    let by_slot: Vec<_> = (0..SLOTS).map(sum).collect();
    // Sixteen callers who meet only good endpoints make 4,800 calls in half a minute.
    let (given_up, all) = by_slot[SLOTS - 1];
    assert!(
        given_up * 100 < all && all > 4_000,
        "given up, of all, by half minutes: {by_slot:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_own_body_breaks_off_does_not_make_a_silent_endpoint_look_fast() {
    let silent = memory("silent", Behaviour::IsSilent);
    let world = served_by(std::slice::from_ref(&silent));
    let endpoint = Arc::clone(&world.backends.values().next().unwrap().endpoints()[0]);
    let broken = futures_util::stream::once(async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Err::<Frame<Bytes>, _>(BoxError::from("the upload was given up"))
    });
    let request = Request::post("http://api.shop/").body(Body::new(StreamBody::new(broken)));
    let ended = world.stack().call(request.unwrap()).await;
    assert!(ended.is_err());
    let load = Duration::from_secs_f64(endpoint.load(Instant::now()) * 100.0 / 1e9);
    assert!(load >= Duration::from_secs(2), "{load:?}");
}

#[tokio::test(start_paused = true)]
async fn o10_an_endpoint_whose_grpc_calls_fail_in_their_trailers_attracts_nothing() {
    let good = memory("good", Behaviour::Takes(20));
    let refusing = memory("refusing", Behaviour::Refuses);
    let world = served_by(&[good.clone(), refusing.clone()]);
    for _ in 0..50 {
        let request = Request::post("http://api.shop/")
            .header("content-type", "application/grpc")
            .body(Body::empty());
        let response = world.stack().call(request.unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();
    }
    let refused = refusing.seen.lock().unwrap().len();
    assert!(refused <= 2, "{refused} of 50");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_answers_break_off_attracts_nothing() {
    let good = memory("good", Behaviour::Takes(20));
    let broken = memory("broken", Behaviour::HeadOnly);
    let mut world = World::new();
    world.serve("api.shop:80", &[good, broken.clone()]);
    let limited = RulePlan {
        timeouts: TimeoutsPlan {
            response_ms: Some(30),
            ..TimeoutsPlan::default()
        },
        ..rule(vec![to("api.shop:80", 1)])
    };
    world.plan(vec![limited]);
    for _ in 0..50 {
        assert!(!is_given_up(&world, Duration::from_secs(10)).await);
    }
    let seen = broken.seen.lock().unwrap().len();
    assert!(seen <= 2, "{seen} of 50");
}
