//! Files of many objects.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;

use super::{Fixture, ROUTES, SERVICES, answer, service, service_yaml};
use crate::objects::{MAX_APPLY_BYTES, MAX_OBJECT_BYTES};

#[tokio::test]
async fn c05_a_file_is_applied_under_one_revision_or_not_at_all() {
    let mesh = Fixture::new();
    mesh.call("POST", SERVICES, service("b", 80)).await;
    mesh.call("POST", SERVICES, service("c", 80)).await;
    let before = mesh.revision();
    let file = |last: &str| {
        let [a, b, c] = [("a", 80), ("b", 81), ("c", 80)].map(|(n, p)| service_yaml(n, p));
        format!("{a}---\n{b}---\n{c}{last}")
    };
    let (status, body) = mesh
        .apply(&file(&format!("---\n{}", service_yaml("d", 70_000))))
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    assert_eq!(body["error"], "invalid");
    assert_eq!(body["problems"][0]["field"], "spec.ports[0].port", "{body}");
    assert!(body["problems"][0]["line"].as_u64().unwrap() > 15, "{body}");
    assert_eq!(mesh.revision(), before);

    let dry = mesh.yaml("POST", "/v1/apply?dryRun=All", &file("")).await;
    let (status, body) = mesh.apply(&file("")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["results"], dry.1["results"]);
    assert_eq!(body["revision"], before + 1);
    assert_eq!(mesh.revision(), before + 1);
    let expected = json!([
        {"kind": "Service", "namespace": "shop", "name": "a", "action": "created"},
        {"kind": "Service", "namespace": "shop", "name": "b", "action": "configured"},
        {"kind": "Service", "namespace": "shop", "name": "c", "action": "unchanged"},
    ]);
    assert_eq!(body["results"], expected);

    let (_, again) = mesh.apply(&file("")).await;
    assert_eq!(again["revision"], before + 1, "nothing changed");
}

#[tokio::test]
async fn c06_a_file_that_is_no_good_is_refused_whole() {
    let mesh = Fixture::new();
    let one = service_yaml("api", 80);
    let twice = format!("{one}---\n{one}");
    let stale = one.replace("namespace: shop", "namespace: shop, resourceVersion: '1'");
    let huge = format!("# {}\n{one}", "x".repeat(MAX_APPLY_BYTES));
    let fat = one.replace(
        "namespace: shop",
        &format!(
            "namespace: shop, annotations: {{a: {}}}",
            "x".repeat(MAX_OBJECT_BYTES)
        ),
    );
    for (yaml, code, error) in [
        ("", 422, "invalid"),
        ("# nothing\n", 422, "invalid"),
        ("a: [", 422, "invalid"),
        ("\"text\"", 422, "invalid"),
        (&*twice, 422, "invalid"),
        (&*fat, 422, "invalid"),
        (&*stale, 409, "conflict"),
        (&*huge, 413, "too-large"),
    ] {
        let (status, body) = mesh.apply(yaml).await;
        assert_eq!(status.as_u16(), code, "{yaml:.60} {body}");
        assert_eq!(body["error"], error);
        let told = body["problems"].as_array().map_or(0, Vec::len);
        assert_eq!(told > 0, error == "invalid", "{yaml:.60} {body}");
    }
    let request = Request::post("/v1/apply").body(Body::from(vec![0xFF, 0xFE]));
    let (status, _) = answer(mesh.send(request.unwrap()).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(mesh.revision(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_applies_of_the_same_objects_all_come_through() {
    let mesh = Arc::new(Fixture::new());
    let callers: Vec<_> = (0..12)
        .map(|n| {
            let mesh = Arc::clone(&mesh);
            let port = 1000 + n;
            let file = format!(
                "{}---\n{}",
                service_yaml("a", port),
                service_yaml("b", port)
            );
            tokio::spawn(async move { mesh.apply(&file).await })
        })
        .collect();
    for caller in callers {
        let (status, body) = caller.await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    let (_, list) = mesh.call("GET", SERVICES, "").await;
    let port = |n: usize| list["items"][n]["spec"]["ports"][0]["port"].clone();
    assert_eq!(port(0), port(1), "one file's objects belong together");
}

#[tokio::test]
async fn what_should_be_written_otherwise_is_told_beside_the_answer() {
    let mesh = Fixture::new();
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
                 metadata: {name: r, namespace: shop}\nspec:\n  parentRefs:\n  - name: api\n  \
                 rules: [{backendRefs: [{name: api, port: 80}]}]\n";
    let (status, body) = mesh.apply(route).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let warning = body["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("6:"), "{warning}");
    assert!(warning.contains("spec.parentRefs[0]"), "{warning}");

    let request = Request::put(format!("{ROUTES}/r"))
        .header("content-type", "application/yaml")
        .body(Body::from(route))
        .unwrap();
    let response = mesh.send(request).await;
    let header = response.headers()["warning"].to_str().unwrap();
    assert!(header.starts_with("299 - \""), "{header}");
    assert!(header.contains("spec.parentRefs[0]"), "{header}");
}

#[tokio::test]
async fn what_belongs_to_a_cluster_is_skipped_and_listed() {
    let mesh = Fixture::new();
    let yaml = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\n\
                apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n";
    let (status, body) = mesh.apply(yaml).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["results"].as_array().map(Vec::len), Some(1), "{body}");
    let warning = &body["warnings"][0];
    let told = "skipped, since their kinds are not served: Deployment d (apps/v1)";
    assert_eq!(warning, told, "{body}");
}

#[tokio::test]
async fn z13_an_identity_of_another_domain_is_warned_of_wherever_it_is_written() {
    let mesh = Fixture::new();
    let yaml = |domain: &str| {
        format!(
            "apiVersion: policy.linkerd.io/v1alpha1\nkind: MeshTLSAuthentication\n\
             metadata: {{name: a, namespace: shop}}\nspec:\n  identities:\n  - '*'\n  \
             - web.shop.serviceaccount.identity.linkerd.{domain}\n---\n\
             apiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\n\
             metadata: {{name: a, namespace: shop}}\nspec:\n  server: {{name: s}}\n  \
             client: {{meshTLS: {{identities: [web.shop.serviceaccount.identity.linkerd.{domain}]}}}}\n"
        )
    };
    let (status, body) = mesh.apply(&yaml("other.org")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    for (index, field) in ["spec.identities[1]", "spec.client.meshTLS.identities[0]"]
        .iter()
        .enumerate()
    {
        let warning = body["warnings"][index].as_str().unwrap();
        let told = format!("{field}: matches NOBODY: the identity is of the domain \"other.org\"");
        assert!(warning.starts_with(&told), "{warning}");
    }
    let (status, body) = mesh.apply(&yaml("cluster.local")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["warnings"], serde_json::json!([]));

    // The same through the other door.
    let object = yaml("other.org");
    let first = object.split("---").next().unwrap().to_owned();
    let path = "/apis/policy.linkerd.io/v1alpha1/namespaces/shop/meshtlsauthentications/a";
    let request = Request::put(path)
        .header("content-type", "application/yaml")
        .body(Body::from(first))
        .unwrap();
    let response = mesh.send(request).await;
    let header = response.headers()["warning"].to_str().unwrap();
    assert!(header.contains("matches NOBODY"), "{header}");
}
