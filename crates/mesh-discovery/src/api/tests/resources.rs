//! Objects from create to delete.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{API, Fixture, ROUTES, SERVICES, answer, assert_status, service, service_yaml};

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let mesh = Fixture::new();
    let (status, created) = mesh.call("POST", SERVICES, service("api", 80)).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let metadata = &created["metadata"];
    assert_eq!(metadata["resourceVersion"], mesh.revision().to_string());
    assert_eq!(metadata["generation"], 1);
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(
        metadata["creationTimestamp"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );

    let (status, got) = mesh.call("GET", API, "").await;
    assert_eq!((status, &got), (StatusCode::OK, &created));

    let mut changed = got;
    changed["spec"]["ports"][0]["port"] = json!(81);
    let (status, replaced) = mesh.call("PUT", API, &changed).await;
    assert_eq!(status, StatusCode::OK, "{replaced}");
    assert_eq!(replaced["metadata"]["generation"], 2);
    assert_eq!(replaced["metadata"]["uid"], metadata["uid"]);
    assert_eq!(replaced["spec"]["ports"][0]["port"], 81);

    let (status, gone) = mesh.call("DELETE", API, "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"]["uid"], metadata["uid"]);
    assert_status(&mesh.call("GET", API, "").await, 404, "NotFound");
}

#[tokio::test]
async fn a_list_holds_a_namespace_or_all_and_the_stores_revision() {
    let mesh = Fixture::new();
    for (namespace, name) in [("shop", "b"), ("shop", "a"), ("shop2", "a")] {
        let mut object = service(name, 80);
        object["metadata"]["namespace"] = json!(namespace);
        let path = format!("/api/v1/namespaces/{namespace}/services");
        let (status, body) = mesh.call("POST", &path, object).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }
    for (path, expected) in [
        (SERVICES, vec!["shop/a", "shop/b"]),
        ("/api/v1/services", vec!["shop/a", "shop/b", "shop2/a"]),
        ("/api/v1/namespaces/none/services", vec![]),
    ] {
        let (status, list) = mesh.call("GET", path, "").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(list["kind"], "ServiceList");
        assert_eq!(list["apiVersion"], "v1");
        let revision = mesh.revision().to_string();
        assert_eq!(list["metadata"]["resourceVersion"], revision);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names: Vec<_> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| text(&i["metadata"]["namespace"]) + "/" + &text(&i["metadata"]["name"]))
            .collect();
        assert_eq!(names, expected, "{path}");
    }
}

#[tokio::test]
async fn an_object_is_shown_in_the_version_that_is_asked_for() {
    let mesh = Fixture::new();
    let route = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\n\
                 metadata: {name: r, namespace: shop}\n\
                 spec:\n  parentRefs: [{group: '', kind: Service, name: api}]\n  \
                 rules: [{backendRefs: [{name: api, port: 80}]}]\n";
    let (status, body) = mesh.apply(route).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    for version in ["v1", "v1beta1"] {
        let path = format!("{}/r", ROUTES.replace("/v1/", &format!("/{version}/")));
        let (status, got) = mesh.call("GET", &path, "").await;
        assert_eq!(status, StatusCode::OK, "{got}");
        let expected = format!("gateway.networking.k8s.io/{version}");
        assert_eq!(got["apiVersion"], expected);
    }
}

#[tokio::test]
async fn bodies_are_json_or_yaml_and_the_path_fills_in_the_namespace() {
    let mesh = Fixture::new();
    let yaml = service_yaml("api", 80).replace(", namespace: shop", "");
    let (status, body) = mesh.yaml("POST", SERVICES, &yaml).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    assert_eq!(body["metadata"]["namespace"], "shop");

    let request = Request::post(SERVICES)
        .header("content-type", "application/vnd.kubernetes.protobuf")
        .body(Body::empty())
        .unwrap();
    let refused = answer(mesh.send(request).await).await;
    assert_status(&refused, 415, "UnsupportedMediaType");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_create_one_object_at_once_one_does() {
    let mesh = Arc::new(Fixture::new());
    let callers: Vec<_> = (0..40)
        .map(|_| {
            let mesh = Arc::clone(&mesh);
            tokio::spawn(async move { mesh.call("POST", SERVICES, service("api", 80)).await })
        })
        .collect();
    let mut created = 0;
    for caller in callers {
        let answer = caller.await.unwrap();
        match answer.0 {
            StatusCode::CREATED => created += 1,
            _ => assert_status(&answer, 409, "AlreadyExists"),
        }
    }
    assert_eq!(created, 1);
}

#[tokio::test]
async fn a_dry_run_answers_alike_and_changes_nothing() {
    let mesh = Fixture::new();
    let before = mesh.revision();
    let dry = format!("{SERVICES}?dryRun=All");
    let (status, _) = mesh.call("POST", &dry, service("api", 80)).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(mesh.revision(), before);

    mesh.call("POST", SERVICES, service("api", 80)).await;
    let before = mesh.revision();
    assert_status(
        &mesh.call("POST", &dry, service("api", 80)).await,
        409,
        "AlreadyExists",
    );
    let dry = format!("{API}?dryRun=All");
    let (status, body) = mesh.call("PUT", &dry, service("api", 81)).await;
    assert_eq!(
        (status, &body["spec"]["ports"][0]["port"]),
        (StatusCode::OK, &json!(81))
    );
    let (status, _) = mesh.call("DELETE", &dry, "").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = mesh.call("DELETE", API, r#"{"dryRun":["All"]}"#).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(mesh.revision(), before);
}
