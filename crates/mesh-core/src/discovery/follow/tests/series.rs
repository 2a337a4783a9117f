//! How long what was told keeps its series.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::plans::Endpoint as Placed;
use crate::telemetry::GRACE;

impl World {
    fn recorder(&self) -> &Recorder {
        &self.follower.outfit.recorder
    }

    /// The samples of a family whose labels hold `label`.
    fn samples(&self, family: &str, label: &str) -> Vec<String> {
        let text = self.recorder().render();
        let lines = text.lines().filter(|line| line.starts_with(family));
        lines
            .filter(|line| line.contains(label))
            .map(str::to_owned)
            .collect()
    }

    async fn pass(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            tokio::time::advance(Duration::from_secs(5)).await;
            self.recorder().upkeep();
        }
    }

    /// Tells that `api` has these endpoints.
    fn serve(&mut self, before: &[u16], now: &[u16]) {
        let delta = set(before).delta(&set(now));
        self.then(endpoints("api.shop:80", delta));
    }

    fn placed(&self) -> Arc<Placed> {
        let backend = &self.follower.sets[&"api.shop:80".parse().unwrap()].backend;
        Arc::clone(&backend.endpoints()[0])
    }

    fn request(&self) {
        let port = "api.shop:80".parse().unwrap();
        self.placed().metrics(&port).count_request();
    }
}

const TARGET: &str = r#"target_port="4001""#;

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_left_for_good_takes_its_series_with_it() {
    let mut world = World::new();
    world.serve(&[], &[4001]);
    world.request();
    world.serve(&[4001], &[]);
    world.pass(GRACE - Duration::from_secs(10)).await;
    assert_eq!(world.samples("request_total", TARGET).len(), 1);
    assert_eq!(world.samples("tcp_open_total", TARGET).len(), 1);
    world.pass(Duration::from_secs(20)).await;
    assert_eq!(world.samples("", TARGET), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_comes_back_in_time_goes_on_counting() {
    let mut world = World::new();
    world.serve(&[], &[4001]);
    world.request();
    world.serve(&[4001], &[]);
    world.pass(GRACE / 2).await;
    world.serve(&[], &[4001]);
    world.request();
    world.pass(3 * GRACE).await;
    let counted = world.samples("request_total", TARGET);
    assert!(counted[0].ends_with(" 2"), "{counted:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_still_carries_a_request_keeps_its_series() {
    let mut world = World::new();
    world.serve(&[], &[4001]);
    let port = "api.shop:80".parse().unwrap();
    let in_flight = world.placed().metrics(&port);
    in_flight.count_request();
    world.serve(&[4001], &[]);
    world.pass(3 * GRACE).await;
    in_flight.count_request();
    let counted = world.samples("request_total", TARGET);
    assert!(counted[0].ends_with(" 2"), "{counted:?}");
}

#[tokio::test(start_paused = true)]
async fn o11_ten_thousand_endpoints_that_come_and_go_leave_what_there_was() {
    let mut world = World::new();
    world.serve(&[], &[1]);
    world.request();
    let lines = |world: &World| world.recorder().render().lines().count();
    let before = lines(&world);
    for port in 1..10_001 {
        world.serve(&[port], &[port + 1]);
        world.request();
        if port % 1_000 == 0 {
            world.pass(GRACE + Duration::from_secs(10)).await;
            assert_eq!(lines(&world), before, "after {port}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_is_not_used_keeps_its_counts_when_the_plan_changes() {
    let mut world = World::new();
    world.serve(&[], &[4001]);
    let _asked = world.plans.find("api").unwrap();
    world.then(plan(&["api.shop:80"]));
    let (entry, _) = world.plans.find("api").unwrap();
    let routes = |entry: &crate::plans::Entry| match Answer::clone(&entry.now()) {
        Answer::Known(service) => Arc::clone(service.port(80).unwrap()),
        other => panic!("{other:?}"),
    };
    let port = routes(&entry);
    let place = port.routes.as_ref().unwrap().metrics(0).unwrap();
    let outfit = &world.follower.outfit;
    let named = crate::telemetry::Route {
        port: &port.address,
        source: &ObjectRef::builtin("test"),
        index: 0,
        name: None,
    };
    let registered = place.get_or_init(|| named.register(&outfit.recorder, &outfit.workload));
    registered.asked.count_request();
    drop(port);
    world.then(plan(&["api.shop:80", "api.shop:80"]));
    world.pass(3 * GRACE).await;
    let counted = world.samples("route_request_total", "rt_route=\"default\"");
    assert!(counted[0].ends_with(" 1"), "{counted:?}");
    // Nor do series go that have never counted.
    let silent = world.samples("outbound_http_route_retry_requests_total", "api.shop");
    assert_eq!(silent.len(), 1);
}
