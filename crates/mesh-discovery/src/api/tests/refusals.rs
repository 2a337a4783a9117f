//! Every way to be refused, each with its own status.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{API, Fixture, ROUTES, SERVICES, assert_status, service, service_yaml};
use crate::caller::Caller;
use crate::objects::MAX_OBJECT_BYTES;
use crate::store::Write;

/// Bodies that only the wrong requests send.
struct Bodies {
    valid: String,
    stale: String,
    other_uid: String,
    huge: String,
    twice: String,
    no_ports: String,
}

impl Bodies {
    fn new() -> Self {
        let with = |section: &str, field: &str, value: Value| {
            let mut object = service("api", 81);
            object[section][field] = value;
            object.to_string()
        };
        let valid = service("api", 81).to_string();
        Self {
            stale: with("metadata", "resourceVersion", json!("1")),
            other_uid: with("metadata", "uid", json!("other")),
            huge: with(
                "metadata",
                "annotations",
                json!({"a": "x".repeat(MAX_OBJECT_BYTES)}),
            ),
            twice: valid.replace("\"kind\"", "\"kind\":\"Service\",\"kind\""),
            no_ports: with("spec", "ports", json!("none")),
            valid,
        }
    }
}

#[tokio::test]
async fn a_wrong_body_has_its_own_status() {
    let Bodies {
        valid,
        stale,
        other_uid,
        huge,
        twice,
        no_ports,
    } = &Bodies::new();
    refuses(&[
        ("POST", SERVICES, valid, 409, "AlreadyExists"),
        ("POST", SERVICES, stale, 400, "BadRequest"),
        ("POST", SERVICES, "", 400, "BadRequest"),
        ("POST", SERVICES, "{", 400, "BadRequest"),
        ("POST", SERVICES, "[]", 400, "BadRequest"),
        ("POST", SERVICES, "7", 400, "BadRequest"),
        ("POST", SERVICES, twice, 400, "BadRequest"),
        ("POST", SERVICES, huge, 413, "RequestEntityTooLarge"),
        ("POST", ROUTES, valid, 400, "BadRequest"),
        (
            "POST",
            "/api/v1/namespaces/x/services",
            valid,
            400,
            "BadRequest",
        ),
        (
            "PUT",
            "/api/v1/namespaces/shop/services/b",
            valid,
            400,
            "BadRequest",
        ),
        ("PUT", API, stale, 409, "Conflict"),
        ("PUT", API, other_uid, 409, "Conflict"),
        ("PUT", API, no_ports, 422, "Invalid"),
        ("POST", SERVICES, no_ports, 422, "Invalid"),
        (
            "DELETE",
            API,
            r#"{"preconditions":{"uid":"x"}}"#,
            409,
            "Conflict",
        ),
        (
            "DELETE",
            API,
            r#"{"preconditions":{"resourceVersion":"1"}}"#,
            409,
            "Conflict",
        ),
        ("DELETE", API, "{", 400, "BadRequest"),
    ])
    .await;
}

#[tokio::test]
async fn a_wrong_path_method_or_query_has_its_own_status() {
    let valid = &Bodies::new().valid;
    let missing = "/api/v1/namespaces/shop/services/b";
    refuses(&[
        ("GET", missing, "", 404, "NotFound"),
        ("DELETE", missing, "", 404, "NotFound"),
        (
            "PUT",
            "/api/v1/namespaces/shop/services/api/status",
            valid,
            404,
            "NotFound",
        ),
        ("GET", "/api", "", 404, "NotFound"),
        ("GET", "/apis", "", 404, "NotFound"),
        ("GET", "/api/v1/pods", "", 404, "NotFound"),
        ("GET", "/apis/apps/v1/deployments", "", 404, "NotFound"),
        ("PATCH", API, valid, 405, "MethodNotAllowed"),
        ("DELETE", SERVICES, "", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/services", valid, 405, "MethodNotAllowed"),
        ("GET", "/api/v1/services?watch=true", "", 400, "BadRequest"),
        (
            "GET",
            "/api/v1/services?labelSelector=a%3Db",
            "",
            400,
            "BadRequest",
        ),
        (
            "DELETE",
            "/api/v1/namespaces/shop/services/api?dryRun=x",
            "",
            400,
            "BadRequest",
        ),
    ])
    .await;
}

/// Each row is a method, a path and a body, and the code and reason they get.
async fn refuses(table: &[(&str, &str, &str, u16, &str)]) {
    let mesh = Fixture::new();
    mesh.call("POST", SERVICES, service("api", 80)).await;
    let before = mesh.revision();
    for (method, path, body, code, reason) in table {
        let answer = mesh.call(method, path, body).await;
        assert_eq!(answer.0, *code, "{method} {path} {body:.80}");
        assert_status(&answer, *code, reason);
    }
    assert_eq!(
        mesh.revision(),
        before,
        "a refused request changed something"
    );
}

#[tokio::test]
async fn an_invalid_object_is_refused_with_the_path_of_its_field() {
    let mesh = Fixture::new();
    let (status, body) = mesh.call("POST", SERVICES, service("api", 70_000)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let cause = &body["details"]["causes"][0];
    assert_eq!(cause["field"], "spec.ports[0].port", "{body}");
    assert!(!cause["message"].as_str().unwrap().is_empty());
    assert_eq!(body["details"]["kind"], "Service");
}

#[tokio::test]
async fn what_may_be_refused_says_what_is_allowed() {
    let mesh = Fixture::new();
    let request = Request::patch(API).body(Body::empty()).unwrap();
    let response = mesh.send(request).await;
    assert_eq!(response.headers()["allow"], "GET, PUT, DELETE");
}

#[tokio::test]
async fn c08_of_two_writers_who_read_the_same_the_second_is_told() {
    let mesh = Fixture::new();
    let (_, seen) = mesh.call("POST", SERVICES, service("api", 80)).await;
    let version = seen["metadata"]["resourceVersion"].clone();
    let change = |port: u32| {
        let mut object = service("api", port);
        object["metadata"]["resourceVersion"] = version.clone();
        object
    };
    let (status, _) = mesh.call("PUT", API, change(81)).await;
    assert_eq!(status, StatusCode::OK);
    assert_status(&mesh.call("PUT", API, change(82)).await, 409, "Conflict");
    let (status, last) = mesh.call("PUT", API, service("api", 83)).await;
    assert_eq!(status, StatusCode::OK, "without a version nothing is asked");
    assert_eq!(last["spec"]["ports"][0]["port"], 83);
}

#[tokio::test]
async fn who_is_no_admin_gets_nothing() {
    let mut mesh = Fixture::new();
    let workload = "spiffe://mesh.local/ns/shop/sa/web".parse().unwrap();
    for (caller, code, reason) in [
        (Caller::Anonymous, 401, "Unauthorized"),
        (Caller::Workload(workload), 403, "Forbidden"),
    ] {
        mesh.caller = caller;
        for (method, path) in [("GET", API), ("POST", SERVICES), ("GET", "/api/v1/unknown")] {
            let answer = mesh.call(method, path, service("api", 80)).await;
            assert_status(&answer, code, reason);
        }
        let (status, body) = mesh.apply(&service_yaml("api", 80)).await;
        assert_eq!(status.as_u16(), code);
        assert_eq!(body["error"], reason.to_lowercase());
    }
    assert_eq!(mesh.revision(), 1, "nothing was written");
}

#[tokio::test]
async fn c18_a_record_that_is_no_object_is_shown_by_its_name_and_can_be_replaced_and_deleted() {
    for damaged in ["7", "{", "{}", r#"{"metadata":7}"#, "[]", "\u{0}"] {
        let mesh = Fixture::new();
        let write = Write::put("objects//services/shop/api", damaged.to_owned());
        mesh.store.commit(vec![write]).await.unwrap();
        let (status, shown) = mesh.call("GET", API, "").await;
        assert_eq!(status, StatusCode::OK, "{damaged}: {shown}");
        assert_eq!(shown["kind"], "Service");
        assert_eq!(shown["metadata"]["name"], "api");
        let (status, list) = mesh.call("GET", SERVICES, "").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(list["items"][0]["metadata"]["namespace"], "shop");

        let (status, replaced) = mesh.call("PUT", API, service("api", 80)).await;
        assert_eq!(status, StatusCode::OK, "{damaged}: {replaced}");
        assert_eq!(replaced["metadata"]["uid"].as_str().map(str::len), Some(36));
        let write = Write::put("objects//services/shop/api", damaged.to_owned());
        mesh.store.commit(vec![write]).await.unwrap();
        let (status, gone) = mesh.call("DELETE", API, "").await;
        assert_eq!(status, StatusCode::OK, "{damaged}: {gone}");
        assert_status(&mesh.call("GET", API, "").await, 404, "NotFound");
    }
}

#[tokio::test]
async fn a_service_is_forgotten_by_the_very_commit_that_deletes_it() {
    let mesh = Fixture::new();
    mesh.call("POST", SERVICES, service("api", 80)).await;
    let served = ["services/shop/api", "services/shop/web"];
    let writes = served.map(|key| Write::put(key, "[80]"));
    let before = mesh.store.commit(writes.into()).await.unwrap();
    let (status, _) = mesh.call("DELETE", API, "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(mesh.revision(), before + 1);
    let left = mesh.store.list("").await.unwrap().records;
    let left: Vec<_> = left.into_iter().map(|record| record.key).collect();
    assert_eq!(left, ["services/shop/web"]);
}
