//! What strangers cost a process with few files, and what is said to those whom policy denies.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use mesh_core::{Body, BoxError, Client};
use mesh_test::TestMesh;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::{get, reason};

/// What a liveness probe allows.
const PROBE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_strangers_that_hold_sockets_leave_the_admin_port_and_members_alone() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_mesh-echo");
    let few = r#"ulimit -n 128 && exec "$0" "$@""#;
    command.args(["-c", few, program, "--service=api.shop"]);
    let started = mesh.start_program(command, "shop/api").await;
    let mut program = started.expect("it starts");
    let address = program.said("listening ").await.expect("its address");
    let admin = program.said("admin ").await.expect("its admin port");
    let mut held = Vec::new();
    for n in 0..200 {
        // Some are silent, some say a byte of plaintext, which policy refuses.
        for (port, said) in [(&address, [&b""[..], b"G"][n % 2]), (&admin, b"")] {
            let mut stranger = TcpStream::connect(port).await.expect("it listens");
            // It may have been closed for the next one already.
            drop(stranger.write_all(said).await);
            held.push(stranger);
        }
    }
    let web = mesh.join("shop/web").await.expect("web joins");
    let called = timeout(PROBE, get(&web.client(), "http://api.shop/")).await;
    assert_eq!(called.expect("in time").0, 200);
    let live = timeout(PROBE, live(&admin)).await.expect("in time");
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    // 64 are the listener's, 16 the admin port's, and some 20 the program's own.
    let id = program.id().expect("it runs");
    let open = std::fs::read_dir(format!("/proc/{id}/fd")).expect("its files");
    assert!(open.count() < 110, "the reserve is for everything else");
    drop(held);
}

async fn live(admin: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.expect("it listens");
    let ask = format!("GET /live HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("it answers");
    said
}

/// Keeps what is logged.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const NOBODY: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { name: api, namespace: shop }
spec: { podSelector: {}, port: 80 }
";

// One thread: the log is the thread's.
#[tokio::test]
async fn z19_a_denial_is_logged_for_the_operator_and_named_to_a_known_caller() {
    const REQUESTS: u64 = 300;
    let log = Log::default();
    let written = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || written.clone())
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let api = mesh.serve("shop/api", "api.shop", app).await.expect("api");
    let web = mesh.join("shop/web").await.expect("web joins");
    let client = web.client();
    mesh.apply(&format!(
        "{NOBODY}{}",
        crate::authorization::ALLOW_WEB.replace("sa/web", "sa/other")
    ))
    .await
    .expect("a Server that lets others in");
    mesh.until("the Server closes", async || {
        denied(&client).await.status() == 403
    })
    .await;
    for _ in 1..REQUESTS {
        let answer = denied(&client).await;
        assert_eq!(reason(&answer), "denied");
        let by = &answer.headers()["x-mesh-denied-by"];
        assert_eq!(by, "Server/shop/api; reason=none-fits");
    }
    let lines = || -> Vec<String> {
        let log = log.text();
        let denials = log.lines().filter(|line| line.contains("was denied"));
        denials.map(ToOwned::to_owned).collect()
    };
    let total = |lines: &[String]| -> u64 {
        let suppressed = |line: &String| {
            let (_, count) = line.split_once("suppressed=").expect("it is said");
            count.trim().parse::<u64>().expect("a number")
        };
        lines.iter().map(|line| 1 + suppressed(line)).sum()
    };
    mesh.until("every denial is in a line", async || {
        total(&lines()) == REQUESTS
    })
    .await;
    let lines = lines();
    for part in [
        "INFO",
        "no authorization fits",
        "client=spiffe://mesh.local/ns/shop/sa/web",
        "server=Server/shop/api",
        "AuthorizationPolicy shop/allow",
        "reason=\"none-fits\"",
    ] {
        assert!(lines[0].contains(part), "{part} is missing: {lines:?}");
    }
    assert!(lines.len() < 30, "one a second: {}", lines.len());
    assert!(!log.text().contains("canary"), "no header is in the log");
    let counted = api.mesh().recorder().render();
    let family = counted
        .lines()
        .find(|line| line.starts_with("inbound_http_authz_deny_total{"));
    let count = family.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    assert_eq!(count, Some(REQUESTS));
}

async fn denied(client: &Client) -> Response<Body> {
    let request = Request::get("http://api.shop/canary")
        .header("authorization", "Bearer canary")
        .body(Body::empty())
        .expect("a valid request");
    let Ok(response) = client.send(request).await;
    response
}
