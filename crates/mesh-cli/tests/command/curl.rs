//! `mesh curl`: the real client stack, and what it decided.

use http::{Request, Response, StatusCode};
use mesh_core::{Body, BoxError};
use mesh_discovery::wire::StatQuery;
use mesh_test::TestMesh;

use crate::{admin, admin_with, command, said};

const POLICY: &str = "
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: api-routing, namespace: shop }
spec:
  parentRefs: [{ name: api, group: '', kind: Service }]
  rules:
  - name: all
    backendRefs: [{ name: stable, port: 80, weight: 1 }, { name: none, port: 80, weight: 0 }]
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { name: api, namespace: shop }
spec: { podSelector: {}, port: 80 }
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: { name: api, namespace: shop }
spec:
  targetRef: { group: policy.linkerd.io, kind: Server, name: api }
  requiredAuthenticationRefs: [{ group: policy.linkerd.io, kind: MeshTLSAuthentication, name: web }]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: { name: web, namespace: shop }
spec: { identities: [spiffe://mesh.local/ns/shop/sa/web] }
";

/// Answers with method, header `x-a` and body; 500 to `/fail`.
async fn answer(request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let (head, body) = request.into_parts();
    let body = mesh_test::text(Response::new(body)).await?;
    let asked = head
        .headers
        .get("x-a")
        .and_then(|value| value.to_str().ok());
    let text = format!("{} {} {body}", head.method, asked.unwrap_or("-"));
    let mut response = Response::new(Body::from(text));
    if head.uri.path() == "/fail" {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_sent_and_its_decisions_are_told() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = tower::service_fn(answer);
    let served = mesh.serve("shop/api", "stable.shop", app).await;
    let served = served.expect("it serves");
    mesh.apply(POLICY).await.expect("good policy");

    let curl = ["curl", "-n", "shop", "--as", "shop/web"];
    let run = async |more: &[&str]| admin(&mesh, &[&curl[..], more].concat()).await;
    let said = run(&["http://api.shop/x", "-H", "x-a: b", "-d", "body"]).await;
    let endpoint = served.address().to_string();
    for part in [
        "* caller      spiffe://mesh.local/ns/shop/sa/web",
        "* service     api.shop:80",
        "* route       HTTPRoute shop/api-routing, rule 0 (all)",
        "* backend     stable.shop:80",
        &format!("* endpoint    {endpoint}"),
        "* peer        spiffe://mesh.local/ns/shop/sa/api",
        "* attempts    1",
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    let out = said.ok();
    assert!(out.starts_with("HTTP/2.0 200 OK\n"), "{out}");
    assert!(out.ends_with("\n\nPOST b body\n"), "{out}");

    let json = run(&["api.shop/fail", "-X", "PUT", "-o", "json"]).await;
    assert_eq!(json.code, Some(1), "500 is no");
    let json: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    let mut fields: Vec<_> = json.as_object().expect("an object").keys().collect();
    fields.sort();
    let contract = [
        "attempts",
        "backend",
        "body",
        "endpoint",
        "headers",
        "latency_ms",
        "peer",
        "route",
        "rule",
        "status",
        "tls",
    ];
    assert_eq!(fields, contract);
    assert_eq!(json["status"], 500);
    assert_eq!(json["body"], "PUT - ");
    assert_eq!(json["route"]["name"], "api-routing");
    assert_eq!(json["rule"]["name"], "all");
    assert_eq!(json["backend"], "stable.shop:80");
    assert_eq!(json["endpoint"], endpoint);
    assert_eq!(json["tls"]["version"], "TLSv1.3");

    // The refused learn the status, the reason, and where they were refused.
    let refused = ["curl", "--as", "shop/other", "http://api.shop/"];
    let refused = admin(&mesh, &refused).await;
    assert!(refused.out.starts_with("HTTP/2.0 403 "), "{}", refused.out);
    assert!(refused.ends(1).contains("answered by the mesh: denied"));
    let typo = run(&["http://apii.shop/"]).await;
    assert!(typo.ends(1).contains("unknown-service"));
    assert!(
        mesh.admin().list_tokens().await.expect("a list").is_empty(),
        "one use each"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_are_counted() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = tower::service_fn(answer);
    let _served = mesh.serve("shop/api", "stable.shop", app).await;
    mesh.apply(POLICY).await.expect("good policy");
    let token = mesh.token("shop/web").await.expect("a token").reveal();
    let load = [
        "--requests=40",
        "--concurrency=4",
        "--rate=4000",
        "-o",
        "json",
    ];
    let curl = ["curl", "http://api.shop/", "--token-file", "-"];
    let arguments = [&curl[..], &load].concat();
    let out = admin_with(&mesh, &arguments, token.as_bytes()).await.ok();
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["requests"], 40);
    assert_eq!(json["statuses"]["200"], 40);
    assert_eq!(json["backends"]["stable.shop:80"], 40);
    assert_eq!(json["errors"], serde_json::json!({}));
    for field in ["rps", "p50_ms", "p99_ms"] {
        assert!(json[field].as_f64().is_some_and(|n| n > 0.0), "{field}");
    }
    // Discovery has heard of the last one when the command ends.
    let stat = mesh.admin().stat(&StatQuery::default()).await;
    let services = stat.expect("statistics").services;
    let told: u64 = services.iter().map(|row| row.success).sum();
    assert_eq!(told, 40);

    // Without any kubeconfig, from the token alone.
    let token = mesh.token("shop/other").await.expect("a token").reveal();
    let discovery = ["--discovery", mesh.url(), "--requests=3"];
    let alone = command(&[&curl[..], &discovery].concat());
    let refused = said(alone, token.as_bytes()).await;
    assert!(
        refused.out.contains("errors     denied 3\n"),
        "{}",
        refused.out
    );
    refused.ends(1);
}

/// 80 MiB, more than one answer may have, are let go by; a run that is interrupted tells what it
/// has counted.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_keeps_no_bodies_and_tells_what_it_counted_until_it_was_interrupted() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = tower::service_fn(async |request: Request<Body>| {
        let length = match request.uri().path() {
            "/large" => 80 * 1024 * 1024,
            _ => 1,
        };
        Ok::<_, BoxError>(Response::new(Body::from(vec![b'x'; length])))
    });
    let _served = mesh.serve("shop/api", "stable.shop", app).await;
    mesh.apply(POLICY).await.expect("good policy");
    let curl = ["curl", "--as", "shop/web", "--requests=2"];
    let large = [&curl[..], &["http://api.shop/large"]].concat();
    let out = admin(&mesh, &large).await.ok();
    assert!(out.contains("errors     -\n"), "{out}");

    let slow = ["curl", "--as", "shop/web", "--requests=1000", "--rate=2"];
    let mut slow = command(&[&slow[..], &["http://api.shop/"]].concat());
    slow.env("MESH_KUBECONFIG", crate::kubeconfig(&mesh));
    slow.stdout(std::process::Stdio::piped());
    let child = slow.spawn().expect("it starts");
    let id = child.id().expect("it runs").to_string();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let kill = tokio::process::Command::new("kill");
    let kill = { kill }.args(["-s", "INT", &id]).status().await;
    assert!(kill.expect("a kill").success());
    let ended = child.wait_with_output().await.expect("it ends");
    let out = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(130), "{out}");
    assert!(out.contains("statuses   200 "), "{out}");
}
