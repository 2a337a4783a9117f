//! What strangers can do to an admin port: a process's, and discovery's.

use std::time::Duration;

use mesh_core::Mesh;
use mesh_test::TestMesh;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than either port waits for the head of a request, or for the next one.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two admin ports, and what keeps them open.
struct Ports {
    mesh: TestMesh,
    process: Mesh,
}

impl Ports {
    async fn open() -> Self {
        let mesh = TestMesh::start().await.expect("a mesh");
        let mut config = mesh.config("shop/web").await.expect("a configuration");
        config.admin = Some(([127, 0, 0, 1], 0).into());
        config.admin_hosts = vec!["metrics.example".to_owned()];
        let process = Mesh::join(config).await.expect("it joins");
        Self { mesh, process }
    }

    fn process(&self) -> String {
        self.process.admin_address().expect("it is on").to_string()
    }

    fn discovery(&self) -> String {
        let url = self.mesh.admin_url();
        url.trim_start_matches("http://").to_owned()
    }

    fn both(&self) -> [String; 2] {
        [self.process(), self.discovery()]
    }
}

/// What the port at `address` answers to `head`, written as it is; empty if it only closes.
async fn say(address: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let head = head.replace("{address}", address);
    // It may have answered and closed before it has read everything.
    drop(stream.write_all(head.as_bytes()).await);
    let mut said = Vec::new();
    drop(stream.read_to_end(&mut said).await);
    String::from_utf8_lossy(&said).into_owned()
}

/// The status of an answer; 0 without one.
fn status(answer: &str) -> u16 {
    let word = answer.split(' ').nth(1);
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

async fn ask(address: &str, line: &str, headers: &str) -> String {
    let head = format!("{line} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    say(address, &head).await
}

#[test]
fn s04_admin_ports_are_on_loopback_unless_asked_otherwise() {
    let process = mesh_core::Config::default().admin.expect("it is on");
    assert!(process.ip().is_loopback(), "{process}");
    let discovery = mesh_discovery::Config::default().admin;
    assert!(discovery.ip().is_loopback(), "{discovery}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s04_admin_ports_show_and_change_nothing() {
    let ports = Ports::open().await;
    for address in ports.both() {
        for path in ["/metrics", "/ready", "/live"] {
            let shown = ask(&address, &format!("GET {path}"), "host: {address}\r\n").await;
            assert_eq!(status(&shown), 200, "{path}: {shown}");
            let head = ask(&address, &format!("HEAD {path}"), "host: {address}\r\n").await;
            assert_eq!(status(&head), 200, "{path}: {head}");
            assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"] {
                let line = format!("{method} {path}");
                let refused = ask(&address, &line, "host: {address}\r\n").await;
                assert_eq!(status(&refused), 405, "{line}: {refused}");
                let allow = refused
                    .to_ascii_lowercase()
                    .replace("get, head", "get,head");
                assert!(allow.contains("allow: get,head\r\n"), "{line}: {refused}");
            }
        }
        for path in [
            "/",
            "/shutdown",
            "/quitquitquit",
            "/env",
            "/debug/pprof/",
            "/proxy-log-level",
            "/config_dump",
            "/metrics/..",
            "/api/v1/namespaces",
            "/v1/identity",
            "/v1/stat",
        ] {
            for method in ["GET", "POST"] {
                let line = format!("{method} {path}");
                let answer = ask(&address, &line, "host: {address}\r\n").await;
                assert_eq!(status(&answer), 404, "{line}: {answer}");
            }
        }
    }
    let live = ask(&ports.process(), "GET /live", "host: localhost\r\n").await;
    assert_eq!(status(&live), 200, "nothing ended it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s04_a_name_that_a_web_page_can_rebind_is_refused() {
    let ports = Ports::open().await;
    for address in ports.both() {
        for host in [
            "{address}",
            "localhost",
            "LOCALHOST:1",
            "[::1]:80",
            "10.1.2.3",
        ] {
            let answer = ask(&address, "GET /metrics", &format!("host: {host}\r\n")).await;
            assert_eq!(status(&answer), 200, "{host}: {answer}");
        }
        for headers in [
            "host: evil.example\r\n",
            "host: localhost.evil.example\r\n",
            "host: 127.0.0.1.evil.example\r\n",
            "host: 127.0.0.1:80@evil.example\r\n",
            "host: \r\n",
            "host: localhost\r\nhost: evil.example\r\n",
            "host: evil.example\r\nhost: localhost\r\n",
            "host: localhost\r\nhost: localhost\r\n",
            "x-forwarded-host: localhost\r\nhost: evil.example\r\n",
            "",
        ] {
            let answer = ask(&address, "GET /metrics", headers).await;
            assert!([400, 403].contains(&status(&answer)), "{headers}: {answer}");
            assert!(!answer.contains("# TYPE"), "{headers}: {answer}");
        }
        let elsewhere = "GET http://evil.example/metrics";
        let answer = ask(&address, elsewhere, "host: localhost\r\n").await;
        assert_eq!(status(&answer), 403, "{answer}");
        let here = "GET http://localhost/live";
        assert_eq!(
            status(&ask(&address, here, "host: localhost\r\n").await),
            200
        );
        let old = say(&address, "GET /metrics HTTP/1.0\r\n\r\n").await;
        assert_eq!(status(&old), 403, "{old}");
    }
    let listed = ask(
        &ports.process(),
        "GET /live",
        "host: metrics.example:80\r\n",
    )
    .await;
    assert_eq!(status(&listed), 200, "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s04_no_page_of_another_origin_may_read_or_take_over_a_connection() {
    let ports = Ports::open().await;
    for address in ports.both() {
        let foreign = "host: {address}\r\norigin: https://evil.example\r\n";
        let answer = ask(&address, "GET /metrics", foreign)
            .await
            .to_ascii_lowercase();
        assert!(!answer.contains("access-control-"), "{answer}");
        let upgrade = format!(
            "{foreign}upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        let answer = ask(&address, "GET /live", &upgrade).await;
        assert_eq!(status(&answer), 200, "{answer}");
        let preflight = format!("{foreign}access-control-request-method: POST\r\n");
        let answer = ask(&address, "OPTIONS /metrics", &preflight).await;
        assert_eq!(status(&answer), 405, "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control-"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s04_huge_heads_and_silent_clients_cost_an_admin_port_little() {
    let ports = Ports::open().await;
    for address in ports.both() {
        let huge = format!("host: localhost\r\nx: {}\r\n", "x".repeat(2 << 20));
        let answer = ask(&address, "GET /metrics", &huge).await;
        assert!([0, 400, 431].contains(&status(&answer)), "{answer}");
        let many = format!("host: localhost\r\n{}", "x: y\r\n".repeat(1_100));
        let answer = ask(&address, "GET /metrics", &many).await;
        assert!([0, 400, 431].contains(&status(&answer)), "{answer}");

        let mut silent = TcpStream::connect(&address).await.expect("it listens");
        let mut halfway = TcpStream::connect(&address).await.expect("it listens");
        halfway.write_all(b"GET /li").await.expect("it is open");
        let live = ask(&address, "GET /live", "host: localhost\r\n").await;
        assert_eq!(status(&live), 200, "others wait for nobody: {live}");
        for stream in [&mut halfway, &mut silent] {
            let mut rest = Vec::new();
            let cut = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest));
            assert!(cut.await.is_ok(), "it waits for ever at {address}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s04_a_process_cannot_have_prometheus_ask_another_machine() {
    let ports = Ports::open().await;
    let mut config = ports
        .mesh
        .config("shop/api")
        .await
        .expect("a configuration");
    // What it listens on is told as where it says that it is reached.
    config.admin = Some(([0, 0, 0, 0], 0).into());
    config.advertise = Some([203, 0, 113, 9].into());
    let _other = Mesh::join(config).await.expect("it joins all the same");
    let told = ask(
        &ports.discovery(),
        "GET /v1/prometheus-targets",
        "host: localhost\r\n",
    )
    .await;
    assert!(
        told.contains(&ports.process()),
        "an honest one is there: {told}"
    );
    assert!(!told.contains("203.0.113.9"), "{told}");
}
