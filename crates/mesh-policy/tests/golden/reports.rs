//! What a process tells of its traffic.

use std::time::Duration;

use mesh_policy::report::Report;
use mesh_policy::report::latency::Latencies;
use mesh_policy::report::traffic::{Direction, Flow, FlowKey, Outcomes, Traffic};

use super::{agree, cursor, port, web};

#[test]
fn traffic_is_told_as_its_golden_document() {
    let mut latency = Latencies::default();
    latency.record(Duration::from_micros(7));
    latency.record(Duration::from_millis(20));
    latency.record(Duration::from_millis(20));
    let sent = Flow {
        key: FlowKey {
            direction: Direction::Outbound,
            service: port("api.shop:80"),
            backend: Some(port("api-canary.shop:80")),
            peer: Some(web()),
        },
        success: Outcomes { count: 3, latency },
        failure: Outcomes {
            count: 1,
            ..Outcomes::default()
        },
    };
    let received = Flow::new(FlowKey {
        direction: Direction::Inbound,
        service: port("api.shop:80"),
        backend: None,
        peer: None,
    });
    agree(
        &Report {
            watch: "w1".into(),
            library: "0.1.0".into(),
            applied: cursor(),
            rejections: Vec::new(),
            traffic: Some(Traffic {
                source: "5f".into(),
                sequence: 12,
                flows: vec![sent, received],
            }),
        },
        include_str!("report-traffic.json"),
    );
}
