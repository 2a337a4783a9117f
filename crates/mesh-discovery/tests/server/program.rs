//! The program itself: what it prints, what it refuses, how it ends.

use std::process::Stdio;
use std::time::Duration;

use http::StatusCode;
use mesh_tls::config;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{HOLDS, client};

const PROGRAM: &str = env!("CARGO_BIN_EXE_mesh-discovery");

pub(crate) fn program(data_dir: &std::path::Path, flags: &[&str]) -> Child {
    Command::new(PROGRAM)
        .args(["--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect(HOLDS)
}

/// The line that says that it is ready.
pub(crate) async fn ready(child: &mut Child) -> String {
    let stderr = child.stderr.as_mut().expect(HOLDS);
    let mut lines = BufReader::new(stderr).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.expect(HOLDS) {
            if line.starts_with("ready ") {
                return line;
            }
        }
        panic!("it ended before it was ready");
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, ready).await.expect(HOLDS)
}

pub(crate) fn word<'a>(line: &'a str, name: &str) -> &'a str {
    let mut words = line.split_whitespace();
    words.find_map(|word| word.strip_prefix(name)).expect(HOLDS)
}

#[tokio::test]
async fn the_program_says_when_it_is_ready_and_ends_well_on_sigterm() {
    let dir = tempfile::tempdir().expect(HOLDS);
    let mut child = program(dir.path(), &["--dev"]);
    let line = ready(&mut child).await;
    assert_eq!(word(&line, "trust-domain="), "mesh.local");
    assert_eq!(word(&line, "anchors-sha256=").len(), 64);
    let admin = word(&line, "admin=");
    // It speaks plain HTTP here; reqwest wants to know of TLS all the same.
    let plain = client(&config::joining([0; 32]));
    for path in ["ready", "live", "metrics"] {
        let asked = plain.get(format!("http://{admin}/{path}")).send();
        let answer = asked.await.expect(HOLDS);
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    let foreign = plain
        .get(format!("http://{admin}/metrics"))
        .header("host", "evil.example");
    let answer = foreign.send().await.expect(HOLDS);
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);

    let pid = child.id().expect(HOLDS).to_string();
    let killed = Command::new("kill").arg(&pid).status().await.expect(HOLDS);
    assert!(killed.success());
    let ended = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    assert_eq!(ended.expect("it drains").expect(HOLDS).code(), Some(0));
    let mut printed = String::new();
    let stdout = child.stdout.as_mut().expect(HOLDS);
    stdout.read_to_string(&mut printed).await.expect(HOLDS);
    assert!(printed.contains("export MESH_TOKEN=mj1."), "{printed}");
}

#[tokio::test]
async fn j11_the_program_refuses_a_key_that_others_can_read() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().expect(HOLDS);
    let mut child = program(dir.path(), &[]);
    ready(&mut child).await;
    child.kill().await.expect(HOLDS);
    let kubeconfig = dir.path().join("admin.kubeconfig");
    let mode = kubeconfig.metadata().expect(HOLDS).permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    let key = dir.path().join("ca/issuer.key");
    let wide = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&key, wide).expect(HOLDS);
    let refused = program(dir.path(), &[])
        .wait_with_output()
        .await
        .expect(HOLDS);
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8(refused.stderr).expect(HOLDS);
    assert!(
        said.contains("0644") && said.contains("issuer.key"),
        "{said}"
    );
}

#[tokio::test]
async fn what_this_version_lacks_is_refused_as_wrong_usage() {
    let dir = tempfile::tempdir().expect(HOLDS);
    let refused = program(dir.path(), &["--store=etcd"])
        .wait_with_output()
        .await
        .expect(HOLDS);
    assert_eq!(refused.status.code(), Some(64));
    let said = String::from_utf8(refused.stderr).expect(HOLDS);
    assert!(said.contains("not in this version"), "{said}");
}
