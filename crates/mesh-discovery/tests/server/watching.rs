//! What processes are told, and what they register.

use std::time::Duration;

use http::{Method, StatusCode};
use mesh_policy::plan::watch::{Change, Subscriptions};
use tokio::time::Instant;

use crate::harness::{Discovery, HOLDS, calls, serves, status, watch_request};

#[tokio::test]
async fn a_service_is_known_once_it_is_served_and_its_endpoints_come_with_it() {
    let discovery = Discovery::start().await;
    let web = discovery.join("shop/web").await;
    let mut seen = discovery
        .watch(&web, &watch_request(calls(&["api.shop"]), None))
        .await;
    assert!(seen.reset);
    let Change::Service { plan: None, .. } = seen.news().await.change else {
        panic!("nobody serves api.shop yet");
    };

    let api = discovery.join("shop/api").await;
    let open = discovery
        .watch(&api, &watch_request(serves("api.shop"), None))
        .await;
    discovery
        .register(&api, &open.id, ("a", "api.shop"))
        .await
        .unwrap();
    let Change::Service {
        plan: Some(plan), ..
    } = seen.news().await.change
    else {
        panic!("api.shop is served now");
    };
    assert_eq!(plan.ports[0].port, 80);
    let event = seen.news().await;
    let Change::Endpoints { port, delta } = event.change else {
        panic!("its endpoints come");
    };
    assert_eq!(port.to_string(), "api.shop:80");
    let endpoint = &delta.put.0["shop/api/a"];
    let identity = endpoint.identity.as_ref().unwrap();
    assert_eq!(identity.as_str(), "spiffe://mesh.local/ns/shop/sa/api");

    let path = discovery.url("/v1/endpoints/a");
    let gone = status(&api, Method::DELETE, path.clone()).await;
    assert_eq!(gone, StatusCode::NO_CONTENT);
    assert_eq!(seen.endpoints().await.1, ["shop/api/a"]);
    let gone = status(&api, Method::DELETE, path).await;
    assert_eq!(gone, StatusCode::NOT_FOUND);
    discovery.server.shutdown().await;
}

#[tokio::test]
async fn c16_the_endpoints_of_a_dead_process_leave_within_fifteen_seconds() {
    let discovery = Discovery::start().await;
    let web = discovery.join("shop/web").await;
    let mut seen = discovery
        .watch(&web, &watch_request(calls(&["api.shop"]), None))
        .await;
    let api = discovery.join("shop/api").await;
    let open = discovery
        .watch(&api, &watch_request(serves("api.shop"), None))
        .await;
    discovery
        .register(&api, &open.id, ("a", "api.shop"))
        .await
        .unwrap();
    assert_eq!(seen.endpoints().await.0, ["shop/api/a"]);

    let died = Instant::now();
    drop((open, api));
    assert_eq!(seen.endpoints().await.1, ["shop/api/a"]);
    assert!(died.elapsed() > Duration::from_secs(4), "there is a grace");
    assert!(died.elapsed() < Duration::from_secs(15));
    // It stays known: a backend that is scaled to zero is no backend that never was.
    let late = discovery
        .watch(&web, &watch_request(calls(&["api.shop"]), None))
        .await
        .news()
        .await;
    assert!(matches!(late.change, Change::Service { plan: Some(_), .. }));
}

#[tokio::test]
async fn a_process_that_comes_back_within_the_grace_leaves_no_gap() {
    let discovery = Discovery::start().await;
    let web = discovery.join("shop/web").await;
    let mut seen = discovery
        .watch(&web, &watch_request(calls(&["api.shop"]), None))
        .await;
    let api = discovery.join("shop/api").await;
    let request = watch_request(serves("api.shop"), None);
    let open = discovery.watch(&api, &request).await;
    discovery
        .register(&api, &open.id, ("a", "api.shop"))
        .await
        .unwrap();
    assert_eq!(seen.endpoints().await.0, ["shop/api/a"]);
    drop(open);
    let again = discovery.watch(&api, &request).await;
    discovery
        .register(&api, &again.id, ("a", "api.shop"))
        .await
        .unwrap();

    let nothing = tokio::time::timeout(Duration::from_secs(8), seen.endpoints()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn a_watch_resumes_where_it_stopped() {
    let discovery = Discovery::start().await;
    let api = discovery.join("shop/api").await;
    let open = discovery
        .watch(&api, &watch_request(serves("api.shop"), None))
        .await;
    discovery
        .register(&api, &open.id, ("a", "api.shop"))
        .await
        .unwrap();

    let web = discovery.join("shop/web").await;
    let wanted = calls(&["api.shop"]);
    let mut first = discovery
        .watch(&web, &watch_request(wanted.clone(), None))
        .await;
    assert_eq!(
        first.news().await.cursor.revision,
        0,
        "half told is not told"
    );
    let stood = first.news().await.cursor;
    drop(first);
    discovery
        .register(&api, &open.id, ("b", "api.shop"))
        .await
        .unwrap();

    let resumed = watch_request(wanted.clone(), Some(stood.clone()));
    let mut second = discovery.watch(&web, &resumed).await;
    assert!(!second.reset);
    let half_told = second.news().await;
    assert_eq!(half_told.cursor, stood, "half told is not told");
    let (put, gone) = second.endpoints().await;
    assert_eq!((put, gone.len()), (vec!["shop/api/b".to_owned()], 0));

    let mut other = stood;
    other.store = "another".into();
    let mut third = discovery
        .watch(&web, &watch_request(wanted, Some(other)))
        .await;
    assert!(third.reset, "another store's revisions mean nothing");
    assert_eq!(third.endpoints().await.0.len(), 2);
}

#[tokio::test]
async fn subscriptions_change_while_the_watch_goes_on() {
    let discovery = Discovery::start().await;
    let api = discovery.join("shop/api").await;
    let mut open = discovery
        .watch(&api, &watch_request(serves("api.shop"), None))
        .await;
    assert!(matches!(open.news().await.change, Change::Inbound { .. }));
    discovery
        .register(&api, &open.id, ("a", "api.shop"))
        .await
        .unwrap();

    let path = format!("/v1/watch/{}", open.id);
    discovery
        .put(&api, &path, &calls(&["api.shop"]))
        .await
        .unwrap();
    assert!(matches!(open.news().await.change, Change::Service { .. }));
    assert_eq!(open.endpoints().await.0, ["shop/api/a"]);

    let again = Subscriptions {
        resend: ["api.shop:80".parse().unwrap()].into(),
        ..calls(&["api.shop"])
    };
    discovery.put(&api, &path, &again).await.unwrap();
    assert_eq!(open.endpoints().await.0, ["shop/api/a"]);

    let web = discovery.join("shop/web").await;
    let (status, refusal) = discovery.put(&web, &path, &calls(&[])).await.unwrap_err();
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(refusal.error, "unknown-watch");
}

#[tokio::test]
async fn a_silent_watch_beats_and_a_server_that_ends_says_so() {
    let discovery = Discovery::start().await;
    let web = discovery.join("shop/web").await;
    let mut open = discovery
        .watch(&web, &watch_request(calls(&[]), None))
        .await;
    assert!(matches!(open.next().await.change, Change::Heartbeat { .. }));
    let (ended, ()) = tokio::join!(open.ends(), discovery.server.shutdown());
    assert!(ended);
}

/// Policy that is applied reaches who asked for it, each object the one it governs.
#[tokio::test]
async fn what_is_applied_is_told() {
    let discovery = Discovery::start().await;
    let web = discovery.join("shop/web").await;
    let mut seen = discovery
        .watch(&web, &watch_request(calls(&["api.shop"]), None))
        .await;
    assert!(matches!(
        seen.news().await.change,
        Change::Service { plan: None, .. }
    ));
    let applied = discovery
        .server
        .apply(
            "apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ port: 8080 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: api, namespace: shop }
spec:
  parentRefs: [{ group: '', kind: Service, name: api }]
  rules:
  - backendRefs:
    - { name: api-stable, port: 80, weight: 95 }
    - { name: api-canary, port: 80, weight: 5 }
",
        )
        .await
        .unwrap();
    assert_eq!(applied.results.len(), 2);
    let event = seen.news().await;
    assert_eq!(event.cursor.revision, applied.revision);
    let Change::Service {
        plan: Some(plan), ..
    } = event.change
    else {
        panic!("api.shop was applied");
    };
    let route = plan.ports[0].routes[0].understood().unwrap();
    assert_eq!(route.source.kind, "HTTPRoute");
    assert_eq!(route.rules[0].backends.len(), 2);
    assert!(discovery.server.apply("kind: Nonsense").await.is_err());
}

#[tokio::test]
async fn one_identity_that_asks_for_made_up_names_is_refused_in_time_and_others_are_not() {
    let discovery = Discovery::start().await;
    let eve = discovery.join("shop/eve").await;
    let mut made_up = watch_request(calls(&[]), None);
    let name = |number| format!("{number:a>63}.{}", "b".repeat(63));
    let names = (0..4_000).map(|number| name(number).parse().expect(HOLDS));
    made_up.subscriptions.services = names.collect();
    let body = serde_json::to_string(&made_up).expect(HOLDS);
    let mut held = Vec::new();
    let refused = loop {
        let sent = eve.post(discovery.url("/v1/watch")).body(body.clone());
        let response = sent.send().await.expect(HOLDS);
        if response.status() != StatusCode::OK {
            break response;
        }
        held.push(response);
    };
    assert!(held.len() < 25, "{} watches", held.len());
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    // Unread watches fill the window of the connection that they share with the answer.
    drop(held);
    let text = refused.text().await.expect(HOLDS);
    assert!(text.contains("33554432 bytes of watches"), "{text}");
    let (_, metrics) = discovery.admin("metrics").await;
    assert!(metrics.contains("mesh_discovery_over_limit_total 1"));
    let web = discovery.join("shop/web").await;
    let asked = watch_request(calls(&["api.shop"]), None);
    let mut open = discovery.watch(&web, &asked).await;
    open.news().await;
}

#[tokio::test]
async fn any_number_of_sets_may_be_asked_for_anew() {
    let discovery = Discovery::start().await;
    let web = discovery.join("shop/web").await;
    let asked = watch_request(calls(&["api.shop"]), None);
    let open = discovery.watch(&web, &asked).await;
    let mut wanted = calls(&["api.shop"]);
    let sets = (1..=8_000).map(|port| format!("api.shop:{port}").parse().expect(HOLDS));
    wanted.resend = sets.collect();
    let path = format!("/v1/watch/{}", open.id);
    discovery.put(&web, &path, &wanted).await.unwrap();
}
