//! What processes report of their traffic, and what is told of it.

use http::{Method, StatusCode};
use mesh_discovery::client::Client as Admin;
use mesh_discovery::wire::{CountedBy, ServiceStat, StatQuery};
use mesh_policy::plan::watch::Cursor;
use mesh_policy::report::Report;
use mesh_policy::report::traffic::{Direction, Flow, FlowKey, Traffic};

use crate::harness::{Discovery, HOLDS, Watch, calls, serves, status, watch_request};

/// What was sent or received for `service`, three of four with success.
fn flow(direction: Direction, service: &str) -> Flow {
    let mut flow = Flow::new(FlowKey {
        direction,
        service: service.parse().expect(HOLDS),
        backend: None,
        peer: None,
    });
    flow.success.count = 3;
    flow.failure.count = 1;
    let latency = std::time::Duration::from_millis(20);
    flow.success.latency.record(latency);
    flow
}

fn report(watch: &str, sequence: u64, flow: Flow) -> Report {
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

/// The row of `name`, as it is asked for.
async fn row(discovery: &Discovery, name: &str, query: StatQuery) -> ServiceStat {
    let text = std::fs::read_to_string(discovery.server.kubeconfig_path()).expect(HOLDS);
    let admin = Admin::from_kubeconfig(&text).expect(HOLDS);
    let name = Some(name.parse().expect(HOLDS));
    let stat = admin.stat(&StatQuery { name, ..query }).await;
    stat.expect(HOLDS).services.remove(0)
}

async fn counts(discovery: &Discovery, name: &str) -> (u64, u64) {
    let row = row(discovery, name, StatQuery::default()).await;
    (row.success, row.failure)
}

async fn dropped(discovery: &Discovery) -> u64 {
    let (_, metrics) = discovery.admin("metrics").await;
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix("mesh_discovery_flows_dropped_total "));
    line.expect(HOLDS).parse().expect(HOLDS)
}

/// A process of `account` that serves `service`, with its watch.
async fn server(discovery: &Discovery, account: &str, service: &str) -> (reqwest::Client, Watch) {
    let client = discovery.join(account).await;
    let asked = watch_request(serves(service), None);
    let watch = discovery.watch(&client, &asked).await;
    let id = account.replace('/', "-");
    let registered = discovery.register(&client, &watch.id, (&id, service));
    registered.await.expect(HOLDS);
    (client, watch)
}

/// A process of `account` that calls `services`, with its watch.
async fn caller(
    discovery: &Discovery,
    account: &str,
    services: &[&str],
) -> (reqwest::Client, Watch) {
    let client = discovery.join(account).await;
    let asked = watch_request(calls(services), None);
    let watch = discovery.watch(&client, &asked).await;
    (client, watch)
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
        let sent = flow(Direction::Outbound, "api.shop:80");
        send(&discovery, &web, &report(&web_watch.id, sequence, sent)).await;
    }
    // Not web's own: it serves nothing.
    let foreign = flow(Direction::Inbound, "api.shop:80");
    send(&discovery, &web, &report(&web_watch.id, 3, foreign)).await;
    assert_eq!(dropped(&discovery).await, 1);

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

/// Only `web` may call what carries the label `app: api`.
const ONLY_WEB: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {namespace: shop, name: api}
spec: {podSelector: {matchLabels: {app: api}}, port: 80, proxyProtocol: HTTP/1}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: api}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: api}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]
";

#[tokio::test]
async fn what_a_refused_identity_reports_never_enters() {
    let discovery = Discovery::start().await;
    discovery.server.apply(ONLY_WEB).await.expect(HOLDS);
    let _api = server(&discovery, "shop/api", "api.shop:80").await;
    let (web, web_watch) = caller(&discovery, "shop/web", &["api.shop"]).await;
    let sent = || flow(Direction::Outbound, "api.shop:80");
    send(&discovery, &web, &report(&web_watch.id, 1, sent())).await;

    let called = ["api.shop", "eve.other"];
    let (eve, eve_watch) = caller(&discovery, "other/eve", &called).await;
    let _own = server(&discovery, "other/own", "eve.other:80").await;
    let backends = [None, Some("api.shop:80"), Some("eve.other:80")];
    for (sequence, backend) in (1..).zip(backends) {
        let mut made_up = sent();
        made_up.failure.count = 900;
        made_up.key.backend = backend.map(|backend| backend.parse().expect(HOLDS));
        let made_up = report(&eve_watch.id, sequence, made_up);
        send(&discovery, &eve, &made_up).await;
    }
    assert_eq!(dropped(&discovery).await, 3);
    assert_eq!(counts(&discovery, "api").await, (3, 1));
    // What lets eve in counts eve.
    let own = flow(Direction::Outbound, "eve.other:80");
    send(&discovery, &eve, &report(&eve_watch.id, 9, own)).await;
    assert_eq!(counts(&discovery, "eve").await, (3, 1));
}

#[tokio::test]
async fn a_process_reports_of_names_that_it_asks_for_and_no_more_than_it_can_carry() {
    let discovery = Discovery::start().await;
    let _api = server(&discovery, "shop/api", "api.shop:80").await;
    let (web, watch) = caller(&discovery, "shop/web", &["nobody.shop"]).await;
    let sent = || flow(Direction::Outbound, "api.shop:80");
    let not_asked_for = report(&watch.id, 1, sent());
    send(&discovery, &web, &not_asked_for).await;
    let unknown = flow(Direction::Outbound, "nobody.shop:80");
    send(&discovery, &web, &report(&watch.id, 2, unknown)).await;
    assert_eq!(dropped(&discovery).await, 2);

    let path = format!("/v1/watch/{}", watch.id);
    let put = discovery.put(&web, &path, &calls(&["api.shop"])).await;
    put.expect(HOLDS);
    let mut too_many = sent();
    too_many.failure.count = u64::MAX - 3;
    send(&discovery, &web, &report(&watch.id, 3, too_many)).await;
    assert_eq!(dropped(&discovery).await, 3);
    send(&discovery, &web, &report(&watch.id, 4, sent())).await;
    assert_eq!(counts(&discovery, "api").await, (3, 1));
}

#[tokio::test]
async fn a_last_report_counts_whole_when_the_watch_has_ended_and_the_caller_is_gone() {
    let discovery = Discovery::start().await;
    let _api = server(&discovery, "shop/api", "api.shop:80").await;
    for (account, requests) in [("shop/a", 2_000), ("shop/b", 300), ("shop/c", 40)] {
        let (client, watch) = caller(&discovery, account, &["api.shop"]).await;
        let mut last = flow(Direction::Outbound, "api.shop:80");
        (last.success.count, last.failure.count) = (requests, 0);
        let last = report(&watch.id, 1, last);
        drop(watch);
        let (open, limit) = (
            "mesh_discovery_watches 1",
            std::time::Duration::from_secs(5),
        );
        let ended = async { while !discovery.admin("metrics").await.1.contains(open) {} };
        tokio::time::timeout(limit, ended)
            .await
            .expect("the watch ends");
        send(&discovery, &client, &last).await;
        drop(client);
        let from = Some(account.parse().expect(HOLDS));
        let query = StatQuery {
            from,
            ..StatQuery::default()
        };
        let row = row(&discovery, "api", query).await;
        assert_eq!(row.success, requests, "{account}");
    }
    assert_eq!(counts(&discovery, "api").await, (2_340, 0));
}

const CANARY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {namespace: shop, name: api}
spec:
  parentRefs: [{kind: Service, group: '', name: api}]
  rules:
  - backendRefs:
    - {name: api-stable, port: 80, weight: 95}
    - {name: api-canary, port: 80, weight: 5}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: api}
spec: {ports: [{port: 80}]}
";

#[tokio::test]
async fn a_backend_that_nobody_names_is_judged_by_those_who_serve_it() {
    let discovery = Discovery::start().await;
    discovery.server.apply(CANARY).await.expect(HOLDS);
    discovery.server.apply(ONLY_WEB).await.expect(HOLDS);
    let (stable, stable_watch) = server(&discovery, "shop/stable", "api-stable.shop:80").await;
    let _canary = server(&discovery, "shop/canary", "api-canary.shop:80").await;
    let (web, web_watch) = caller(&discovery, "shop/web", &["api.shop"]).await;

    let mut sent = flow(Direction::Outbound, "api.shop:80");
    sent.key.backend = Some("api-stable.shop:80".parse().expect(HOLDS));
    sent.success.count = 90_000;
    send(&discovery, &web, &report(&web_watch.id, 1, sent)).await;
    let identity = |account: &str| format!("spiffe://mesh.local/ns/{account}").parse();
    let peers = [("shop/sa/web", 40), ("other/sa/eve", 500)];
    for (sequence, (peer, requests)) in (1..).zip(peers) {
        let mut received = flow(Direction::Inbound, "api-stable.shop:80");
        received.key.peer = Some(identity(peer).expect(HOLDS));
        (received.success.count, received.failure.count) = (requests, 2);
        let received = report(&stable_watch.id, sequence, received);
        send(&discovery, &stable, &received).await;
    }

    let api = row(&discovery, "api", StatQuery::default()).await;
    assert_eq!((api.meshed, api.endpoints), (2, 2), "its backends serve it");
    assert_eq!(api.counted_by, Some(CountedBy::Callers));
    assert_eq!((api.success, api.failure), (90_000, 1));
    // The called side counted less than half of what web says.
    let web = &api.callers[0];
    assert_eq!((web.success, web.received), (90_000, Some(42)));
    assert!(web.is_doubtful());

    let stable = row(&discovery, "api-stable", StatQuery::default()).await;
    assert_eq!(stable.counted_by, Some(CountedBy::Servers));
    assert_eq!((stable.success, stable.failure), (40, 2), "eve is refused");
    assert!(stable.latency_us_p50.is_some());
    let canary = row(&discovery, "api-canary", StatQuery::default()).await;
    assert_eq!((canary.counted_by, canary.success), (None, 0));
    assert_eq!(canary.latency_us_p50, None);
}
