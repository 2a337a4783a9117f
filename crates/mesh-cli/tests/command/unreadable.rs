//! What only a newer version of discovery can read is seen and deleted by name.

use mesh_discovery::config::{Config, StoreKind};
use mesh_discovery::store::redb::Redb;
use mesh_discovery::store::{Store, Write};
use mesh_discovery::{Server, client};

use crate::{Said, command, said};

const KEY: &str = "objects/gateway.networking.k8s.io/grpcroutes/shop/x";
const ROUTE: &str = r#"{"apiVersion":"gateway.networking.k8s.io/v1","kind":"GRPCRoute","metadata":{"name":"x","namespace":"shop"},"spec":{}}"#;

async fn mesh(server: &Server, arguments: &[&str]) -> Said {
    let mut command = command(arguments);
    command.env("MESH_KUBECONFIG", server.kubeconfig_path());
    said(command, b"").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c18_an_object_of_a_newer_version_is_seen_and_deleted_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Redb::open(folder.path(), None).expect("a store");
    let writes = vec![Write::put(KEY, ROUTE), Write::put("tokens/x", "{}")];
    store.commit(writes).await.expect("it is written");
    store.close().await;
    let server = Server::start(Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin: ([127, 0, 0, 1], 0).into(),
        data_dir: folder.path().to_owned(),
        store: StoreKind::Redb,
        ..Config::default()
    });
    let server = server.await.expect("it starts");

    for words in [&["get", "unreadable"][..], &["get", "GRPCRoute", "-A"]] {
        let table = mesh(&server, words).await.ok();
        assert!(table.contains(KEY), "{table}");
        assert!(table.contains("False (Unreadable)"), "{table}");
        assert_eq!(table.contains("tokens/x"), words[1] == "unreadable");
    }
    let one = ["get", "grpcroutes", "x", "-n", "shop", "-o", "json"];
    let json = mesh(&server, &one).await.ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let item = &json["items"][0];
    assert_eq!(item["metadata"]["name"], "x");
    assert_eq!(item["status"]["conditions"][0]["reason"], "Unreadable");

    // A word that means none of them is as wrong as ever.
    for words in [&["get", "grpcroute", "-n", "bank"][..], &["get", "servic"]] {
        mesh(&server, words).await.ends(64);
    }
    mesh(&server, &["delete", "unreadable"]).await.ends(64);
    let deleted = mesh(&server, &["delete", "grpcroute", "x", "-n", "shop"]).await;
    assert_eq!(deleted.ok(), "grpcroute \"x\" deleted\n");
    let deleted = mesh(&server, &["delete", "unreadable", "tokens/x"]).await;
    assert_eq!(deleted.ok(), "unreadable \"tokens/x\" deleted\n");
    let left = mesh(&server, &["get", "unreadable"]).await;
    assert_eq!(left.err, "No resources found.\n");
    let text = std::fs::read_to_string(server.kubeconfig_path()).expect("it is there");
    let client = client::Client::from_kubeconfig(&text).expect("it reads");
    assert_eq!(client.unreadable().await.expect("it answers"), []);
    server.shutdown().await;
}
