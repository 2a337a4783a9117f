//! Policy that turns against a client while it is served.

use std::time::Duration;

use http_body::Frame;
use http_body_util::StreamBody;
use tokio::time::{Instant, sleep};

use super::*;

/// An answer that says a byte every second, for ever.
pub(super) fn ticking()
-> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send {
    tower::service_fn(|_: Request<Body>| async {
        let ticks = futures_util::stream::unfold((), |()| async {
            sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"."))), ()))
        });
        Ok(Response::new(Body::new(StreamBody::new(ticks))))
    })
}

/// How long the stream goes on from now.
async fn goes_on(mut stream: Response<hyper::body::Incoming>) -> Duration {
    let started = Instant::now();
    while let Some(Ok(_)) = stream.body_mut().frame().await {
        if started.elapsed() > Duration::from_secs(60) {
            break;
        }
    }
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn z03_a_stream_that_policy_turns_against_ends_in_five_seconds() {
    let house = House::serve(ticking());
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http2().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let stream = client.send_request(request).await.expect("an answer");
    assert_eq!(stream.status(), 200);
    house.govern(Vec::new());
    let went_on = goes_on(stream).await.as_millis();
    assert!(
        (4_000..=6_700).contains(&went_on),
        "it ended after {went_on} ms"
    );
    let text = house.recorder.render();
    let cut = text
        .lines()
        .find(|line| line.starts_with("mesh_inbound_connections_revoked_total{"));
    assert!(cut.expect("a series").ends_with(" 1"));
}

#[tokio::test(start_paused = true)]
async fn z03_a_stream_goes_on_while_policy_allows_it_again_in_time() {
    let house = House::serve(ticking());
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http1().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let stream = client.send_request(request).await.expect("an answer");
    house.govern(Vec::new());
    sleep(Duration::from_secs(3)).await;
    house.govern(vec![ClientPlan::Anyone]);
    assert!(goes_on(stream).await > Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn z03_a_stream_ends_too_when_its_policy_is_no_longer_understood() {
    let house = House::serve(ticking());
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http2().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let stream = client.send_request(request).await.expect("an answer");
    house.policy.store(Arc::new(Policy::Closed {
        why: "of tomorrow".into(),
    }));
    let went_on = goes_on(stream).await.as_millis();
    assert!(
        (4_000..=6_700).contains(&went_on),
        "it ended after {went_on} ms"
    );
}

#[tokio::test(start_paused = true)]
async fn a_listener_without_a_policy_counts_no_denials() {
    let house = House::serve(ticking());
    let mut client = house.http1().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let answer = client.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), 503);
    let text = house.recorder.render();
    assert!(!text.contains("inbound_http_authz_deny_total{"), "{text}");
}
