//! Who may ask for what.

use http::{Method, StatusCode};
use mesh_discovery::wire::TokenRequest;
use reqwest::Client;

use crate::harness::{Discovery, HOLDS, answer, calls, request, serves, status, watch_request};

/// A client with the administrator's credentials.
fn admin(discovery: &Discovery) -> Client {
    let text = std::fs::read_to_string(discovery.server.kubeconfig_path()).expect(HOLDS);
    crate::harness::of_kubeconfig(&text)
}

#[tokio::test]
async fn j06_every_path_is_closed_to_all_but_its_own_callers() {
    let discovery = Discovery::start().await;
    let nobody = discovery.nobody();
    let web = discovery.join("shop/web").await;
    let admin = admin(&discovery);
    // Without a certificate 401, with the wrong one 403; 4xx of another kind means let through.
    let admins = [
        (Method::POST, "/v1/tokens"),
        (Method::GET, "/v1/tokens"),
        (Method::DELETE, "/v1/tokens/x"),
        (Method::POST, "/v1/apply"),
        (Method::GET, "/api/v1/namespaces/shop/services"),
        (
            Method::GET,
            "/apis/policy.linkerd.io/v1beta1/namespaces/shop/servers",
        ),
    ];
    let workloads = [
        (Method::POST, "/v1/watch"),
        (Method::PUT, "/v1/watch/x"),
        (Method::PUT, "/v1/endpoints/x"),
        (Method::DELETE, "/v1/endpoints/x"),
        (Method::POST, "/v1/reports"),
    ];
    let closed = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
    for (method, path) in admins {
        let ask = |client| status(client, method.clone(), discovery.url(path));
        assert_eq!(
            ask(&nobody).await,
            StatusCode::UNAUTHORIZED,
            "{method} {path}"
        );
        assert_eq!(ask(&web).await, StatusCode::FORBIDDEN, "{method} {path}");
        assert!(!closed.contains(&ask(&admin).await), "{method} {path}");
    }
    for (method, path) in workloads {
        let ask = |client| status(client, method.clone(), discovery.url(path));
        assert_eq!(
            ask(&nobody).await,
            StatusCode::UNAUTHORIZED,
            "{method} {path}"
        );
        assert_eq!(ask(&admin).await, StatusCode::FORBIDDEN, "{method} {path}");
        assert!(!closed.contains(&ask(&web).await), "{method} {path}");
    }
    for path in [
        "/",
        "/v1",
        "/v1/x",
        "/metrics",
        "/v1/tokens%2f",
        "//v1/tokens",
    ] {
        let ask = |client| status(client, Method::GET, discovery.url(path));
        assert_eq!(ask(&nobody).await, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(ask(&web).await, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(ask(&admin).await, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn j06_inbound_policy_is_told_to_those_alone_who_may_serve() {
    let discovery = Discovery::start().await;
    let token = TokenRequest {
        serves: vec!["web.shop".parse().unwrap()],
        ..request("shop/web")
    };
    let token = discovery.server.create_token(&token).await.unwrap();
    let web = discovery.join_with(&token).await;
    let body = serde_json::to_string(&watch_request(serves("api.shop"), None)).unwrap();
    let asked = web.post(discovery.url("/v1/watch")).body(body);
    let (status, refusal) = answer::<()>(asked).await.unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(refusal.error, "may-not-serve");

    // What others may call is for all callers.
    let open = discovery
        .watch(&web, &watch_request(calls(&["api.shop"]), None))
        .await;
    let path = format!("/v1/watch/{}", open.id);
    let (status, _) = discovery
        .put(&web, &path, &serves("api.shop"))
        .await
        .unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN);
    discovery
        .put(&web, &path, &serves("web.shop"))
        .await
        .unwrap();
}

#[tokio::test]
async fn c20_nobody_registers_for_a_service_that_its_token_did_not_name() {
    let discovery = Discovery::start().await;
    let named = TokenRequest {
        serves: vec!["web.shop".parse().unwrap()],
        ..request("shop/web")
    };
    let named = discovery.server.create_token(&named).await.unwrap();
    for (client, served, refused) in [
        (
            discovery.join_with(&named).await,
            "web.shop",
            "payments.shop",
        ),
        (
            discovery.join("shop/api").await,
            "api.shop",
            "payments.bank",
        ),
    ] {
        let open = discovery
            .watch(&client, &watch_request(calls(&[]), None))
            .await;
        let (status, refusal) = discovery
            .register(&client, &open.id, ("x", refused))
            .await
            .unwrap_err();
        assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
        assert_eq!(refusal.error, "may-not-serve");
        discovery
            .register(&client, &open.id, ("x", served))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn c20_nobody_touches_the_endpoints_or_the_watch_of_another() {
    let discovery = Discovery::start().await;
    let api = discovery.join("shop/api").await;
    let web = discovery.join("shop/web").await;
    let open = discovery
        .watch(&api, &watch_request(calls(&[]), None))
        .await;
    discovery
        .register(&api, &open.id, ("a", "api.shop"))
        .await
        .unwrap();

    let (status, _) = discovery
        .register(&web, &open.id, ("a", "api.shop"))
        .await
        .unwrap_err();
    assert_eq!(status, StatusCode::NOT_FOUND, "another's watch");
    let path = discovery.url("/v1/endpoints/a");
    let gone = self::status(&web, Method::DELETE, path).await;
    assert_eq!(gone, StatusCode::NOT_FOUND, "another's endpoint");
    let mut seen = discovery
        .watch(&web, &watch_request(calls(&["api.shop"]), None))
        .await;
    assert_eq!(seen.endpoints().await.0, ["shop/api/a"]);
}
