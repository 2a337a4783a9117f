//! The API through its router.

mod apply;
mod refusals;
mod resources;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use mesh_policy::identity::Identity;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::caller::Caller;
use crate::objects::Objects;
use crate::store::SharedStore;
use crate::store::memory::Memory;

const SERVICES: &str = "/api/v1/namespaces/shop/services";
const API: &str = "/api/v1/namespaces/shop/services/api";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes";

struct Fixture {
    router: Router,
    store: SharedStore,
    caller: Caller,
}

impl Fixture {
    fn new() -> Self {
        let store: SharedStore = Arc::new(Memory::new());
        let domain = "mesh.local".parse().unwrap();
        let caller = Caller::Admin(Identity::admin(&domain));
        let objects = Objects::new(Arc::clone(&store), domain);
        Self {
            router: super::router(objects, None),
            store,
            caller,
        }
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        let mut request = request;
        request.extensions_mut().insert(self.caller.clone());
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn call(&self, method: &str, path: &str, body: impl ToString) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::from(body.to_string())).unwrap();
        answer(self.send(request).await).await
    }

    async fn yaml(&self, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/yaml");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        answer(self.send(request).await).await
    }

    async fn apply(&self, yaml: &str) -> (StatusCode, Value) {
        self.yaml("POST", "/v1/apply", yaml).await
    }

    fn revision(&self) -> u64 {
        *self.store.watch().borrow()
    }
}

async fn answer(response: Response<Body>) -> (StatusCode, Value) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn service(name: &str, port: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"port": port}]},
    })
}

fn service_yaml(name: &str, port: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  ports:\n  - port: {port}\n"
    )
}

#[track_caller]
fn assert_status(answer: &(StatusCode, Value), code: u16, reason: &str) {
    let (status, body) = answer;
    assert_eq!(status.as_u16(), code, "{body}");
    assert_eq!(body["kind"], "Status", "{body}");
    assert_eq!(body["apiVersion"], "v1");
    assert_eq!(body["status"], "Failure");
    assert_eq!(body["code"], code);
    assert_eq!(body["reason"], reason, "{body}");
    assert!(!body["message"].as_str().unwrap().is_empty());
}
