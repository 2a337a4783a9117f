//! Who gets through a handshake, tried with a client that is not ours.
//!
//! Every refusal stands beside a control that is accepted and differs in one thing.

use std::net::SocketAddr;
use std::path::Path;

use mesh_test::TestMesh;
use rcgen::KeyUsagePurpose;

use crate::forge::{self, Leaf};
use crate::openssl::{self, Printed};
use crate::{Handled, named, raw};

const WEB: &str = "spiffe://mesh.local/ns/shop/sa/web";

struct Target {
    mesh: TestMesh,
    handled: Handled,
    address: SocketAddr,
    _served: mesh_test::Served,
}

async fn target() -> Target {
    let mesh = TestMesh::start().await.expect("a mesh");
    let handled = Handled::default();
    let served = mesh
        .serve("shop/api", "api.shop", named("api", &handled))
        .await
        .expect("api");
    Target {
        mesh,
        handled,
        address: served.address(),
        _served: served,
    }
}

/// Presents the leaf that `describe` makes, signed by the mesh's own issuer, with its full chain.
async fn present(target: &Target, leaf: &Leaf) -> Printed {
    let folder = tempfile::tempdir().expect("a folder");
    forge::under_the_mesh(&target.mesh, leaf, folder.path());
    present_folder(target.address, folder.path()).await
}

async fn present_folder(address: SocketAddr, folder: &Path) -> Printed {
    let flags = openssl::certificate(folder);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    openssl::get(address, &flags).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t01_mesh_ports_speak_tls_1_3_only() {
    if openssl::is_missing().await {
        return;
    }
    let target = target().await;
    let folder = tempfile::tempdir().expect("a folder");
    forge::under_the_mesh(&target.mesh, &Leaf::of(WEB), folder.path());
    let mut flags = openssl::certificate(folder.path());
    let control = present_folder(target.address, folder.path()).await;
    assert!(control.served(), "{}", control.0);
    assert!(control.0.contains("TLSv1.3"), "{}", control.0);

    flags.push("-tls1_2".into());
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let refused = openssl::get(target.address, &flags).await;
    assert!(!refused.served(), "{}", refused.0);
    assert!(refused.0.contains("alert number 70"), "{}", refused.0);
    assert_eq!(target.handled.count(), 1, "only the control was served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t02_without_a_client_certificate_no_request_is_served() {
    if openssl::is_missing().await {
        return;
    }
    let target = target().await;
    let refused = openssl::get(target.address, &[]).await;
    assert!(!refused.served(), "{}", refused.0);
    assert!(refused.0.contains("certificate required"), "{}", refused.0);
    assert_eq!(target.handled.count(), 0);

    let control = present(&target, &Leaf::of(WEB)).await;
    assert!(control.served(), "{}", control.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t05_a_self_made_certificate_with_the_right_name_is_refused() {
    if openssl::is_missing().await {
        return;
    }
    let target = target().await;
    let folder = tempfile::tempdir().expect("a folder");
    forge::under_an_own_root(&Leaf::of(WEB), folder.path());
    let refused = present_folder(target.address, folder.path()).await;
    assert!(!refused.served(), "{}", refused.0);
    assert!(refused.0.contains("alert"), "{}", refused.0);
    assert_eq!(target.handled.count(), 0);

    let control = present(&target, &Leaf::of(WEB)).await;
    assert!(control.served(), "{}", control.0);
}

/// Leafs that the mesh's own issuer signed and SPIFFE forbids all the same.
async fn refuses(leafs: &[(&str, Leaf)]) {
    if openssl::is_missing().await {
        return;
    }
    let target = target().await;
    for (what, leaf) in leafs {
        let refused = present(&target, leaf).await;
        assert!(!refused.served(), "{what}: {}", refused.0);
        assert!(refused.0.contains("alert"), "{what}: {}", refused.0);
    }
    assert_eq!(target.handled.count(), 0);
    let control = present(&target, &Leaf::of(WEB)).await;
    assert!(control.served(), "{}", control.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t07_two_uri_names_are_refused_on_the_wire() {
    let second = "spiffe://mesh.local/ns/shop/sa/other";
    refuses(&[
        ("right one first", Leaf::of(WEB).and_uri(second)),
        ("right one last", Leaf::of(second).and_uri(WEB)),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t08_a_leaf_without_a_uri_name_is_nobody_on_the_wire() {
    refuses(&[
        ("DNS only", Leaf::nameless().and_dns("web.shop")),
        (
            "the ID as common name",
            Leaf::nameless().and_common_name(WEB),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t09_a_leaf_that_could_sign_or_has_no_path_is_refused_on_the_wire() {
    refuses(&[
        ("CA:true", Leaf::of(WEB).signing()),
        (
            "keyCertSign",
            Leaf::of(WEB).with(KeyUsagePurpose::KeyCertSign),
        ),
        ("cRLSign", Leaf::of(WEB).with(KeyUsagePurpose::CrlSign)),
        ("no path", Leaf::of("spiffe://mesh.local")),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t17_a_server_gives_no_ticket_and_takes_no_early_data() {
    if openssl::is_missing().await {
        return;
    }
    let target = target().await;
    let folder = tempfile::tempdir().expect("a folder");
    forge::under_the_mesh(&target.mesh, &Leaf::of(WEB), folder.path());
    let session = folder.path().join("session");
    let mut flags = openssl::certificate(folder.path());
    flags.extend(["-sess_out".into(), session.display().to_string()]);
    let text: Vec<_> = flags.iter().map(String::as_str).collect();
    let first = openssl::get(target.address, &text).await;
    assert!(first.served(), "{}", first.0);
    assert!(
        !first.0.contains("Post-Handshake New Session Ticket"),
        "{}",
        first.0
    );
    assert!(!first.0.contains("Max Early Data: 1"), "{}", first.0);
    let kept = std::fs::metadata(&session).map_or(0, |file| file.len());
    assert_eq!(kept, 0, "a session was there to keep");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t15_a_client_sends_nothing_to_a_workload_that_is_not_the_expected_one() {
    let target = target().await;
    // `other` stands where discovery says that `api` is: a valid identity of the same domain.
    let impostor = Handled::default();
    let other = target
        .mesh
        .serve("shop/other", "other.shop", named("impostor", &impostor))
        .await
        .expect("other");
    let _lease = raw::register(&target.mesh, "shop/victim", "victim.shop", other.address())
        .await
        .expect("a registration with another's address");
    let web = target.mesh.join("shop/web").await.expect("web joins");
    let (status, text) = crate::get(&web.client(), "http://victim.shop/").await;
    assert_eq!(status, 502, "{text}");
    assert_eq!(impostor.count(), 0);

    // The same address under its own name is served.
    assert_eq!(crate::get(&web.client(), "http://other.shop/").await.0, 200);
}
