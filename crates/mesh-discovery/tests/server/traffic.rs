//! What processes report of their traffic, and what is told of it.

use http::{Method, StatusCode};
use mesh_discovery::client::Client as Admin;
use mesh_discovery::wire::StatQuery;
use mesh_policy::plan::watch::Cursor;
use mesh_policy::report::Report;
use mesh_policy::report::traffic::{Direction, Flow, FlowKey, Traffic};

use crate::harness::{Discovery, HOLDS, calls, serves, status, watch_request};

fn report(watch: &str, direction: Direction, sequence: u64) -> Report {
    let mut flow = Flow::new(FlowKey {
        direction,
        service: "api.shop:80".parse().expect(HOLDS),
        backend: None,
        peer: None,
    });
    flow.success.count = 3;
    flow.failure.count = 1;
    let latency = std::time::Duration::from_millis(20);
    flow.success.latency.record(latency);
    Report {
        watch: watch.to_owned(),
        library: "test".into(),
        applied: Cursor {
            store: "s".into(),
            revision: 1,
        },
        rejections: Vec::new(),
        traffic: Some(Traffic {
            source: watch.to_owned(),
            sequence,
            flows: vec![flow],
        }),
    }
}

async fn send(discovery: &Discovery, client: &reqwest::Client, report: &Report) {
    let body = serde_json::to_string(report).expect(HOLDS);
    let sent = client.post(discovery.url("/v1/reports")).body(body).send();
    assert_eq!(sent.await.expect(HOLDS).status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_service_is_judged_by_its_callers_and_a_resend_counts_once() {
    let discovery = Discovery::start().await;
    let api = discovery.join("shop/api").await;
    let asked = watch_request(serves("api.shop"), None);
    let api_watch = discovery.watch(&api, &asked).await;
    let registered = discovery.register(&api, &api_watch.id, ("a", "api.shop"));
    registered.await.expect(HOLDS);
    let web = discovery.join("shop/web").await;
    let asked = watch_request(calls(&["api.shop"]), None);
    let web_watch = discovery.watch(&web, &asked).await;
    for sequence in [1, 1, 2, 1] {
        let sent = report(&web_watch.id, Direction::Outbound, sequence);
        send(&discovery, &web, &sent).await;
    }
    // Not web's own: it serves nothing.
    let foreign = report(&web_watch.id, Direction::Inbound, 3);
    send(&discovery, &web, &foreign).await;

    let metrics = format!("http://{}/metrics", discovery.server.admin_address());
    let metrics = discovery.nobody().get(metrics).send().await.expect(HOLDS);
    let metrics = metrics.text().await.expect(HOLDS);
    let dropped = "mesh_discovery_flows_dropped_total 1";
    assert!(metrics.contains(dropped), "{metrics}");

    let text = std::fs::read_to_string(discovery.server.kubeconfig_path()).expect(HOLDS);
    let admin = Admin::from_kubeconfig(&text).expect(HOLDS);
    let stat = admin.stat(&StatQuery::default()).await.expect(HOLDS);
    let row = &stat.services[0];
    assert_eq!((row.success, row.failure), (6, 2));
    assert_eq!((row.meshed, row.endpoints), (1, 1));
    let p50 = row.latency_us_p50.expect("there were answers");
    assert!(p50.abs_diff(20_000) <= 20_000 / 32, "{p50}");

    let from_api = StatQuery {
        from: Some("api.shop".parse().expect(HOLDS)),
        ..StatQuery::default()
    };
    let stat = admin.stat(&from_api).await.expect(HOLDS);
    assert_eq!(stat.services[0].success, 0);
    let url = discovery.url("/v1/stat");
    assert_eq!(status(&web, Method::GET, url).await, StatusCode::FORBIDDEN);
}
