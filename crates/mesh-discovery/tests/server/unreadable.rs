//! Records that this version cannot read: the server starts and serves with them, shows them, and
//! lets them be removed.

use http::{Method, StatusCode};
use mesh_discovery::Server;
use mesh_discovery::client::{Client, ClientError, Manifests};
use mesh_discovery::config::{Config, StoreKind};
use mesh_discovery::objects::ObjectName;
use mesh_discovery::store::redb::Redb;
use mesh_discovery::store::{Store, Write};
use mesh_policy::manifest::Kind;
use mesh_policy::plan::watch::Change;
use tempfile::TempDir;

use crate::harness::{
    Discovery, HOLDS, calls, config, of_kubeconfig, serves, status, watch_request,
};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop}
spec: {ports: [{port: 80}]}
";

/// A route as a later version stores one.
const LATER: &str = r#"{"apiVersion":"gateway.networking.k8s.io/v1","kind":"GRPCRoute","metadata":{"name":"x","namespace":"shop"},"spec":{"parentRefs":[{"group":"","kind":"Service","name":"api"}]}}"#;

const RECORDS: [(&str, &str); 7] = [
    ("endpoints/shop/api/1", "{}"),
    ("identities/shop/web", "[]"),
    ("objects//services/shop/damaged", "{"),
    ("objects//services/shop/wrong", r#"{"metadata":7}"#),
    ("objects/gateway.networking.k8s.io/grpcroutes/shop/x", LATER),
    ("services/shop/web", "{}"),
    ("tokens/later", "{}"),
];

fn redb(dir: &TempDir) -> Config {
    Config {
        store: StoreKind::Redb,
        ..config(dir)
    }
}

/// A server that starts with [`RECORDS`] beside what was applied.
async fn start() -> (Discovery, Client) {
    let dir = tempfile::tempdir().expect(HOLDS);
    let server = Server::start(redb(&dir)).await.expect(HOLDS);
    server.apply(SERVICES).await.expect(HOLDS);
    server.shutdown().await;
    let store = Redb::open(dir.path(), None).expect(HOLDS);
    let writes = RECORDS.map(|(key, value)| Write::put(key, value));
    store.commit(writes.into()).await.expect(HOLDS);
    store.close().await;

    let server = Server::start(redb(&dir)).await;
    let server = server.expect("no record keeps a server from starting");
    let kubeconfig = std::fs::read_to_string(server.kubeconfig_path()).expect(HOLDS);
    let client = Client::from_kubeconfig(&kubeconfig).expect(HOLDS);
    (Discovery::of(server, dir), client)
}

#[tokio::test]
async fn c18_a_server_starts_with_records_that_it_cannot_read_and_shows_and_removes_them() {
    let (discovery, client) = start().await;
    let (_, metrics) = discovery.admin("metrics").await;
    let counted = "mesh_discovery_unreadable_records 7\n";
    assert!(metrics.contains(counted), "{metrics}");

    let unreadable = client.unreadable().await.expect(HOLDS);
    let keys: Vec<_> = unreadable.iter().map(|record| &*record.key).collect();
    assert_eq!(keys, RECORDS.map(|(key, _)| key));
    for record in &unreadable {
        assert!(!record.why.is_empty());
        client.remove_unreadable(record).await.expect(HOLDS);
        let again = client.remove_unreadable(record).await;
        assert!(matches!(again, Err(ClientError::NotFound { .. })));
    }
    assert_eq!(client.unreadable().await.expect(HOLDS), []);
    let (_, metrics) = discovery.admin("metrics").await;
    assert!(metrics.contains("mesh_discovery_unreadable_records 0\n"));
}

#[tokio::test]
async fn c18_a_damaged_object_is_listed_shown_replaced_and_deleted_by_its_name() {
    let (_discovery, client) = start().await;
    let services = client.list(Kind::Service, Some("shop")).await;
    let services = services.expect("one damaged record hides no other");
    let names: Vec<_> = services.iter().map(|s| &s["metadata"]["name"]).collect();
    assert_eq!(names, ["api", "damaged", "other", "wrong"]);

    let name = |name: &str| ObjectName {
        kind: Kind::Service,
        namespace: "shop".into(),
        name: name.into(),
    };
    for of in ["damaged", "wrong"] {
        let shown = client.get(&name(of)).await.expect(HOLDS);
        assert_eq!(shown["kind"], "Service");
        let condition = &shown["status"]["conditions"][0];
        assert_eq!(condition["type"], "Accepted");
        assert_eq!(condition["status"], "False");
        assert_eq!(condition["reason"], "Unreadable", "{shown}");
    }
    client.delete(&name("wrong")).await.expect(HOLDS);
    let gone = client.get(&name("wrong")).await;
    assert!(matches!(gone, Err(ClientError::NotFound { .. })));

    let anew = SERVICES.replace("name: api", "name: damaged");
    let manifests = Manifests::new("anew.yaml", &anew);
    client.apply(&manifests).await.expect(HOLDS);
    let shown = client.get(&name("damaged")).await.expect(HOLDS);
    assert_eq!(shown["metadata"]["uid"].as_str().map(str::len), Some(36));
    assert_eq!(
        shown["status"]["conditions"][0]["status"], "True",
        "{shown}"
    );
}

#[tokio::test]
async fn c18_what_an_unreadable_route_governs_is_closed_and_nothing_else() {
    let (discovery, client) = start().await;
    let web = discovery.join("shop/caller").await;
    let wanted = calls(&["api.shop", "other.shop"]);
    let mut watch = discovery.watch(&web, &watch_request(wanted, None)).await;
    let mut closed = Vec::new();
    for _ in 0..2 {
        let Change::Service { service, plan, .. } = service(&mut watch).await else {
            unreachable!("it is one");
        };
        let plan = plan.expect(HOLDS);
        let routes = &plan.ports[0].routes;
        if routes.iter().any(|route| route.understood().is_err()) {
            closed.push(service.to_string());
        }
    }
    assert_eq!(closed, ["api.shop"]);

    let unreadable = client.unreadable().await.expect(HOLDS);
    let route = unreadable.iter().find(|record| record.kind.is_some());
    let route = route.expect(HOLDS);
    assert_eq!(route.kind.as_deref(), Some("GRPCRoute"));
    client.remove_unreadable(route).await.expect(HOLDS);
    let Change::Service { service, plan, .. } = service(&mut watch).await else {
        unreachable!("it is one");
    };
    assert_eq!(service.to_string(), "api.shop");
    let routes = &plan.expect(HOLDS).ports[0].routes;
    assert!(routes.iter().all(|route| route.understood().is_ok()));
}

/// The next event about a service.
async fn service(watch: &mut crate::harness::Watch) -> Change {
    loop {
        let change = watch.news().await.change;
        if matches!(change, Change::Service { .. }) {
            return change;
        }
    }
}

#[tokio::test]
async fn c18_a_process_whose_records_cannot_be_read_is_told_which_and_loses_nothing() {
    let (discovery, client) = start().await;
    let token = discovery.token("shop/web").await.reveal();
    let key = mesh_tls::request::KeyPair::generate().expect(HOLDS);
    let csr = key.signing_request().expect(HOLDS);
    let (status, refusal) = discovery.enrol(&token, csr.der()).await.unwrap_err();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "it may try again");
    assert!(
        refusal.message.contains("identities/shop/web"),
        "{refusal:?}"
    );

    let api = discovery.join("shop/api").await;
    let request = watch_request(serves("web.shop"), None);
    let watch = discovery.watch(&api, &request).await;
    let refused = discovery.register(&api, &watch.id, ("1", "web.shop")).await;
    let (_, refusal) = refused.unwrap_err();
    assert!(refusal.message.contains("services/shop/web"), "{refusal:?}");

    let kept = client.unreadable().await.expect(HOLDS);
    assert_eq!(kept.len(), RECORDS.len(), "nothing was written over them");
    // The token was not used up.
    for record in &kept {
        client.remove_unreadable(record).await.expect(HOLDS);
    }
    assert!(discovery.enrol(&token, csr.der()).await.is_ok());
}

#[tokio::test]
async fn c18_only_what_cannot_be_read_is_removed_without_being_named() {
    let (discovery, _) = start().await;
    let path = discovery.server.kubeconfig_path();
    let admin = of_kubeconfig(&std::fs::read_to_string(path).expect(HOLDS));
    let remove = |query: &str| {
        let url = discovery.url(&format!("/v1/unreadable?{query}"));
        status(&admin, Method::DELETE, url)
    };
    let readable = "key=objects%2F%2Fservices%2Fshop%2Fapi&revision=2";
    assert_eq!(remove(readable).await, StatusCode::CONFLICT);
    let stale = "key=tokens%2Flater&revision=1";
    assert_eq!(remove(stale).await, StatusCode::CONFLICT);
    assert_eq!(remove("key=tokens%2Flater").await, StatusCode::BAD_REQUEST);
}
