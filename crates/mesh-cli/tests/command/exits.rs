//! The exit codes, each for what it means.

use std::process::Stdio;

use mesh_test::TestMesh;

use crate::{admin, alone, command, folder, kubeconfig, path, said};

#[tokio::test]
async fn help_and_version_are_done() {
    for arguments in [&["--help"][..], &["curl", "--help"], &["--version"]] {
        alone(arguments).await.ok();
    }
    let version = alone(&["version"]).await.ok();
    assert_eq!(version, format!("mesh {}\n", env!("CARGO_PKG_VERSION")));
    let json = alone(&["version", "-o", "json"]).await.ok();
    assert!(json.contains("\"version\""), "{json}");
}

#[tokio::test]
async fn wrong_usage_is_64() {
    for arguments in [
        &[][..],
        &["nonsense"],
        &["get"],
        &["get", "htproute"],
        &["apply"],
        &["curl"],
        &["curl", "ftp://x/"],
        &["curl", "http://x/", "--requests", "0"],
        &["curl", "http://x/", "--as", "a/b", "--token-file", "-"],
        &["version", "-o", "xml"],
        &["get", "svc", "-n", "a", "-A"],
        &["delete", "svc"],
        &["delete"],
        &["delete", "svc", "api", "-f", "x.yaml"],
    ] {
        let code = said(command(arguments), b"").await.code;
        assert_eq!(code, Some(64), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_file_without_its_flag_is_told_how_to_name_it() {
    for command_name in ["apply", "validate", "explain", "delete"] {
        let err = alone(&[command_name, "a.yaml"]).await.ends(64);
        let told = format!("a file is named with -f, as in mesh {command_name} -f a.yaml");
        assert!(err.contains(&told), "{err}");
    }
}

/// A full disk, a closed file: what was asked for is lost, and that is told.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn output_that_cannot_be_written_is_74() {
    for arguments in [&["version"][..], &["--help"]] {
        let full = std::fs::File::create("/dev/full").expect("a full device");
        let full = into(command(arguments), full.into()).await;
        let err = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(74), "{err}");
        assert!(err.starts_with("mesh: ") && err.contains("lost"), "{err}");

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let closed = into(command(arguments), writer.into()).await;
        assert_eq!(closed.status.code(), Some(0));
    }
}

/// Runs it with this standard output.
#[cfg(target_os = "linux")]
async fn into(mut command: tokio::process::Command, stdout: Stdio) -> std::process::Output {
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
    let ended = child.expect("it starts").wait_with_output().await;
    ended.expect("it ends")
}

#[tokio::test]
async fn an_empty_variable_is_as_good_as_absent() {
    let mut empty = command(&["get", "svc"]);
    empty.env("MESH_KUBECONFIG", "");
    let err = said(empty, b"").await.ends(78);
    assert!(err.contains("./mesh-data/admin.kubeconfig"), "{err}");
}

#[tokio::test]
async fn bad_configuration_is_78_and_says_where_credentials_come_from() {
    let err = alone(&["get", "svc"]).await.ends(78);
    for part in [
        "./mesh-data/admin.kubeconfig",
        "--kubeconfig",
        "MESH_KUBECONFIG",
    ] {
        assert!(err.contains(part), "{err}");
    }
    let files = folder(&[("bad", "{"), ("empty", "")]);
    for name in ["bad", "empty", "absent"] {
        let file = path(files.path(), name);
        alone(&["get", "svc", "--kubeconfig", &file]).await.ends(78);
    }
    let mesh = TestMesh::start().await.expect("a mesh");
    let err = admin(&mesh, &["get", "svc", "--context", "x"])
        .await
        .ends(78);
    assert!(err.contains("no context \"x\""), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_that_is_gone_is_69() {
    let mut mesh = TestMesh::start().await.expect("a mesh");
    mesh.stop_discovery().await;
    for arguments in [
        &["get", "svc"][..],
        &["curl", "http://x.y/"],
        &["token", "list"],
    ] {
        let err = admin(&mesh, arguments).await.ends(69);
        assert!(err.contains("cannot be reached"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_another_time_are_not_believed() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let other = TestMesh::start().await.expect("another mesh");
    let text = std::fs::read_to_string(kubeconfig(&other)).expect("credentials");
    let mine = std::fs::read_to_string(kubeconfig(&mesh)).expect("credentials");
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.trim().starts_with(name));
        line.expect("the field").trim().to_owned()
    };
    // Discovery is believed, but it does not believe this certificate.
    let mut forged = mine.clone();
    for name in ["client-certificate-data", "client-key-data"] {
        forged = forged.replace(&field(&mine, name), &field(&text, name));
    }
    let files = folder(&[("forged", &forged)]);
    let forged = path(files.path(), "forged");
    let code = alone(&["get", "svc", "--kubeconfig", &forged]).await.code;
    assert!(matches!(code, Some(77 | 78)), "{code:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_77() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let token = mesh.token("shop/web").await.expect("a token");
    let revoked = mesh.admin().revoke_token(token.id()).await;
    revoked.expect("it exists");
    let files = folder(&[("token", &token.reveal()), ("none", "x")]);
    let file = path(files.path(), "token");
    let curl = ["curl", "http://x.y/", "--token-file"];
    let err = admin(&mesh, &[&curl[..], &[&file]].concat()).await.ends(77);
    assert!(err.contains("mesh token create"), "{err}");
    let file = path(files.path(), "none");
    let err = admin(&mesh, &[&curl[..], &[&file]].concat()).await.ends(65);
    assert!(err.contains("holds no token"), "{err}");
    assert!(err.starts_with("mesh: "), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_gives_up_where_discovery_is_not() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let token = mesh.token("shop/web").await.expect("a token").reveal();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = closed.local_addr().expect("its address");
    drop(closed);
    let url = format!("https://{at}");
    let curl = ["curl", "http://x.y/", "--token-file=-", "--join-timeout=1s"];
    let arguments = [&curl[..], &["--discovery", &url]].concat();
    let err = said(command(&arguments), token.as_bytes()).await.ends(69);
    for part in ["mesh: ", "1s", &url, "--join-timeout"] {
        assert!(err.contains(part), "{part}: {err}");
    }
}
