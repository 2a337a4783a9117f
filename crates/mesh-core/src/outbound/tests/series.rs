//! What a caller can make the process count.

use super::*;

/// Lines of the text that are samples.
fn samples(world: &World) -> usize {
    let text = world.outfit.recorder.render();
    let samples = text.lines().filter(|line| !line.is_empty());
    samples.filter(|line| !line.starts_with('#')).count()
}

#[tokio::test(start_paused = true)]
async fn o11_authorities_that_a_caller_makes_up_make_no_series() {
    let mut world = World::new();
    world.serve("api.shop:80", &[memory("one", Behaviour::Answers)]);
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    let mut before = None;
    for _ in 0..10_000 {
        let made_up = fastrand::u64(..);
        let response = world.get(&format!("http://api.shop/{made_up:x}")).await;
        text(response.unwrap()).await;
        let stranger = format!("http://{made_up:x}.example.com:{}/", made_up % 60_000);
        assert!(world.get(&stranger).await.is_err());
        before.get_or_insert_with(|| samples(&world));
    }
    assert_eq!(Some(samples(&world)), before);
}

#[tokio::test]
async fn a_route_counts_what_was_asked_and_what_was_tried() {
    let mut world = World::new();
    world.serve("api.shop:80", &[memory("one", Behaviour::Answers)]);
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    for _ in 0..3 {
        let response = world.get("http://api.shop/").await.unwrap();
        text(response).await;
    }
    world.serve("api.shop:80", &[memory("two", Behaviour::CannotBeReached)]);
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    assert!(world.get("http://api.shop/").await.is_err());
    let metrics = world.outfit.recorder.render();
    let labels = r#"namespace="shop",deployment="web",pod="web-1",direction="outbound",dst="api.shop.svc.cluster.local:80",rt_route="default",rt_kind="default",rt_name="test""#;
    let good = r#"status_code="200",classification="success",grpc_status="",error="""#;
    let bad = r#"status_code="",classification="failure",grpc_status="",error="unclassified""#;
    for line in [
        format!("route_request_total{{{labels}}} 4"),
        format!("route_response_total{{{labels},{good}}} 3"),
        format!("route_response_total{{{labels},{bad}}} 1"),
        format!("route_actual_response_total{{{labels},{good}}} 3"),
        format!("route_response_latency_ms_count{{{labels},status_code=\"200\"}} 3"),
    ] {
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
    assert!(!metrics.contains("route_actual_response_latency_ms"));
}

#[tokio::test(start_paused = true)]
async fn o11_the_series_of_a_port_go_with_its_plan() {
    let mut world = World::new();
    world.serve("api.shop:80", &[]);
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    let stack = world.stack();
    let request = Request::get("http://api.shop/").body(Body::empty());
    assert!(stack.clone().call(request.unwrap()).await.is_err());
    let shows = |what: &str| world.outfit.recorder.render().contains(what);
    assert!(shows("mesh_outbound_not_retried_total{"));
    let name = "api.shop".parse().unwrap();
    world.plans.answer(&name, Answer::Unknown);
    let swept = tokio::time::Instant::now() + crate::telemetry::GRACE * 2;
    while tokio::time::Instant::now() < swept {
        tokio::time::advance(Duration::from_secs(5)).await;
        world.outfit.recorder.upkeep();
    }
    for series in ["mesh_outbound_not_retried_total{", "route_request_total{"] {
        assert!(!shows(series), "{series}: held, and by whom?");
    }
    drop(stack);
}
