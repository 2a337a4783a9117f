//! What nobody may read: looked for in all that a program says while it logs everything.

use http::Request;
use mesh_core::config::TokenSource;
use mesh_core::{Body, Mesh};
use mesh_test::{Program, TestMesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

const ECHO: &str = env!("CARGO_BIN_EXE_mesh-echo");
const CANARY: &str = "canary-b7f3a91c";

/// What a program's admin port says at `path`.
async fn admin(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let ask = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("it answers");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    said
}

/// What an application that logs its own state shows of a configuration and of a mesh's handles.
async fn debug(mesh: &TestMesh, web: &Mesh) -> String {
    let config = mesh.config("shop/web").await.expect("a configuration");
    let shown = format!("{config:?} {web:?} {:?} {:?}", web.client(), web.recorder());
    let Some(TokenSource::Given(token)) = config.token else {
        panic!("a test's token is given");
    };
    let token = token.reveal();
    let secret = token.split('.').nth(2).expect("a token has a secret");
    assert!(!shown.contains(secret), "a token is in {shown}");
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_no_secret_is_in_any_output_of_a_program_that_logs_everything() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let token = mesh.token("shop/api").await.expect("a token").reveal();
    let file = folder.path().join("token");
    std::fs::write(&file, &token).expect("a file");
    let mut command = Command::new(ECHO);
    command
        .args(["--service", "api.shop"])
        .env("MESH_DISCOVERY", mesh.url())
        .env("MESH_TOKEN_FILE", &file)
        .env("RUST_LOG", "trace")
        .stderr(std::fs::File::create(&log).expect("a file"));
    let mut program = Program::start(command).expect("it starts");
    program.said("listening ").await.expect("its address");
    let address = program.said("admin ").await.expect("its admin port");

    let web = mesh.join("shop/web").await.expect("web joins");
    for path in ["/", "/?status=500", "/%zz"] {
        let request = Request::post(format!("http://api.shop{path}"))
            .header("authorization", format!("Bearer {CANARY}"))
            .header("cookie", format!("session={CANARY}"))
            .header("x-api-key", CANARY)
            .body(Body::from(CANARY));
        let Ok(response) = web.client().send(request.expect("a request")).await;
        drop(mesh_test::text(response).await.expect("a whole body"));
    }
    let discovery = mesh.admin_url().trim_start_matches("http://");
    let shown = debug(&mesh, &web).await;
    let process = format!("/proc/{}", program.id().expect("it runs"));
    let read = |path: &str| std::fs::read(path).expect("a readable file");
    let places = [
        ("the log", read(&log.to_string_lossy())),
        ("/metrics", admin(&address, "/metrics").await.into_bytes()),
        ("/plan", admin(&address, "/plan").await.into_bytes()),
        ("/ready", admin(&address, "/ready").await.into_bytes()),
        (
            "discovery's /metrics",
            admin(discovery, "/metrics").await.into_bytes(),
        ),
        (
            "discovery's targets",
            admin(discovery, "/v1/prometheus-targets")
                .await
                .into_bytes(),
        ),
        (
            "the caller's /metrics",
            web.recorder().render().into_bytes(),
        ),
        ("what is public, in Debug", shown.into_bytes()),
        ("the arguments", read(&format!("{process}/cmdline"))),
        ("the environment", read(&format!("{process}/environ"))),
    ];
    let logged = String::from_utf8_lossy(&places[0].1);
    assert!(logged.contains("TRACE"), "it logs everything");
    let secret = token.split('.').nth(2).expect("a token has a secret");
    for (place, bytes) in &places {
        let text = String::from_utf8_lossy(bytes);
        for (what, secret) in [
            ("a header's or body's value", CANARY),
            ("the token's secret", secret),
            ("a key", "PRIVATE KEY"),
        ] {
            let at = text.find(secret);
            let around = at.map(|at| text[..at].lines().last().unwrap_or_default());
            assert_eq!(around, None, "{what} is in {place}");
        }
    }
}
