//! `mesh explain`: what it says of five requests, and how it ends.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::alone as run;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/explain")
        .join(name)
}

async fn explained(from: &str, request: &str) -> super::Said {
    let file = data("shop.yaml");
    let file = file.to_str().expect("a path of ours is UTF-8");
    let from = format!("spiffe://mesh.local/ns/shop/sa/{from}");
    let to = ["explain", "-f", file, "--to", "api.shop", "-o", "json"];
    run(&[&to[..], &["--from", &from, "--request", request]].concat()).await
}

#[tokio::test]
async fn five_requests_are_explained_as_they_are_written_down() {
    for (name, from, request, code) in [
        ("routed", "web", "GET /cart?page=2", 0),
        ("split", "web", "GET /search?q=tea", 0),
        ("refused", "guest", "GET /cart", 1),
        ("no-backend", "web", "GET /old", 1),
        ("no-match", "web", "GET /elsewhere", 1),
    ] {
        let said = explained(from, request).await;
        assert_eq!(said.code, Some(code), "{name}: {}", said.err);
        let golden = data(&format!("{name}.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &said.out).unwrap();
        }
        assert_eq!(said.out, std::fs::read_to_string(golden).unwrap(), "{name}");
    }
}

#[tokio::test]
async fn the_guide_shows_what_the_command_prints() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide");
    let page = std::fs::read_to_string(guide.join("explain.md")).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_mesh")).parent();
    let programs = programs.expect("a program is in a folder");
    let transcripts = page.split("```console\n$ ").skip(1);
    let mut compared = 0;
    for transcript in transcripts {
        let transcript = transcript.split("```").next().unwrap_or_default();
        let (line, shown) = transcript
            .split_once('\n')
            .expect("a command and its output");
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", line])
            .env_clear()
            .env("PATH", programs)
            .current_dir(&guide);
        assert_eq!(super::said(shell, b"").await.out, shown, "{line}");
        compared += 1;
    }
    assert_eq!(compared, 6);
}

#[tokio::test]
async fn what_cannot_be_asked_is_wrong_usage() {
    let text = run(&["explain", "--to", "api.shop"]).await.ends(64);
    assert!(text.contains("name them with -f"), "{text}");
    run(&["explain", "-f", "a.yaml", "--to", "api"])
        .await
        .ends(64);
    explained("web", "/cart").await.ends(64);
}

#[tokio::test]
async fn problems_of_files_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    let text = std::fs::read_to_string(data("shop.yaml")).unwrap();
    std::fs::write(&file, text.replacen("port: 80 }", "port: 80000 }", 1)).unwrap();
    let file = file.to_str().expect("a path of ours is UTF-8");
    let text = run(&["explain", "-f", file, "--to", "api.shop"])
        .await
        .ends(65);
    assert!(text.contains("bad.yaml:4:"), "{text}");
}
