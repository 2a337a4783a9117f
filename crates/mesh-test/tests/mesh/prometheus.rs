//! A real Prometheus finds the processes, and Linkerd's queries give what was sent.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use mesh_core::{Body, BoxError, Mesh};
use mesh_test::TestMesh;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::sleep;

const QUERIES: &str = include_str!("linkerd-queries.txt");
/// Requests a second, of which one in [`FAILS`] fails and one in [`SLOW`] is slow.
const RATE: f64 = 40.0;
const FAILS: usize = 4;
const SLOW: usize = 10;
/// How long the fast ones and the slow ones take at least.
const FAST: Duration = Duration::from_millis(12);
const LONG: Duration = Duration::from_millis(210);

/// Whether `program` is on this machine. The full check insists; elsewhere the test says that it skips.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
async fn is_missing(program: &str) -> bool {
    let mut command = Command::new(program);
    let command = command.arg("--version");
    let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
    let found = silent.status().await.is_ok();
    assert!(
        found || std::env::var("CHECK_FORM").as_deref() != Ok("full"),
        "{program} is missing: install Debian's package prometheus"
    );
    if !found {
        println!("skipped: {program} is not on this machine");
    }
    !found
}

async fn answer(request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let path = request.uri().path().to_owned();
    sleep(if path.contains("slow") { LONG } else { FAST }).await;
    let mut response = Response::new(Body::from("x"));
    if path.contains("fail") {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

/// Sends at [`RATE`] until dropped.
async fn send(web: Mesh) {
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE));
    for number in 0_usize.. {
        tick.tick().await;
        let fails = if number % FAILS == 0 { "fail" } else { "good" };
        let slow = if number % SLOW == 0 { "slow" } else { "fast" };
        let request = Request::get(format!("http://api.shop/{fails}/{slow}"));
        let request = request.body(Body::empty()).expect("a request");
        let client = web.client();
        tokio::spawn(async move {
            let response = client.send(request).await.expect("an answer");
            mesh_test::text(response).await.expect("a body");
        });
    }
}

/// Prometheus, which scrapes whom discovery names.
struct Prometheus {
    url: String,
    http: reqwest::Client,
    _child: Child,
}

impl Prometheus {
    async fn start(folder: &Path, mesh: &TestMesh) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("an address");
        drop(port);
        let config = format!(
            "global: {{ scrape_interval: 2s }}\n\
             scrape_configs:\n\
             - job_name: mesh\n  http_sd_configs:\n  \
             - {{ url: '{}/v1/prometheus-targets', refresh_interval: 1s }}\n",
            mesh.admin_url()
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).expect("a file");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Self {
            url: format!("http://{address}/api/v1/query"),
            http: plain(mesh).await,
            _child: child.expect("it starts"),
        }
    }

    /// What `query` gives now; an error only if Prometheus is not there yet.
    async fn ask(&self, query: &str) -> Option<Vec<f64>> {
        let asked = self.http.get(&self.url).query(&[("query", query)]);
        let answer = asked.send().await.ok()?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let result = answer["data"]["result"].as_array().expect("a vector");
        let value = |sample: &Value| sample["value"][1].as_str()?.parse().ok();
        Some(result.iter().filter_map(value).collect())
    }
}

/// A client for plain HTTP, which wants a TLS configuration none the less.
async fn plain(mesh: &TestMesh) -> reqwest::Client {
    let token = mesh.token("shop/nobody").await.expect("a token");
    let tls = mesh_tls::config::joining(*token.root());
    reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .build()
        .expect("a client")
}

/// Promtool has nothing against what `url` serves.
async fn lint(http: &reqwest::Client, url: &str) {
    let text = http.get(url).send().await.expect("an answer").text().await;
    let mut child = Command::new("promtool")
        .args(["check", "metrics", "--extended"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("it is piped");
    let text = text.expect("text");
    input.write_all(text.as_bytes()).await.expect("it reads");
    drop(input);
    let output = child.wait_with_output().await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    // Linkerd's names in milliseconds and without the base unit are what its queries read.
    let unknown = said.lines().filter(|line| {
        let linkerds = ["_ms ", "counter metrics should have", "use base unit"];
        !linkerds.iter().any(|known| line.contains(known))
    });
    let unknown: Vec<&str> = unknown.collect();
    assert!(unknown.is_empty(), "{url}: {said}");
}

/// Whether `got` is what `expected` says.
fn agrees(expected: &str, got: &[f64]) -> bool {
    let all = |range: std::ops::RangeInclusive<f64>| {
        !got.is_empty() && got.iter().all(|value| range.contains(value))
    };
    match expected {
        "success" => all(0.68..=0.82),
        "rate" => all(RATE * 0.7..=RATE * 1.3),
        // Nine of ten take 12 ms and a little, one of ten 210 ms.
        "p50" => all(10.0..=30.0),
        "p95" | "p99" => all(200.0..=400.0),
        "one" => all(1.0..=1.0),
        "two" => all(2.0..=2.0),
        "open" => all(1.0..=8.0),
        "some" => !got.is_empty(),
        "empty" => got.is_empty(),
        other => panic!("no such expectation: {other}"),
    }
}

#[expect(clippy::print_stdout, reason = "the count is what people ask for")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linkerds_queries_give_what_was_sent() {
    if is_missing("prometheus").await || is_missing("promtool").await {
        return;
    }
    let mesh = TestMesh::start().await.expect("a mesh");
    let with_admin = async |identity| {
        let mut config = mesh.config(identity).await.expect("a configuration");
        config.admin = Some(([127, 0, 0, 1], 0).into());
        config
    };
    let mut config = with_admin("shop/api").await;
    config.services = vec!["api.shop".parse().expect("a service")];
    let api = mesh.serve_with(config, tower::service_fn(answer)).await;
    let api = api.expect("it serves");
    let web = Mesh::join(with_admin("shop/web").await)
        .await
        .expect("it joins");
    let sending = tokio::spawn(send(web.clone()));
    let folder = tempfile::tempdir().expect("a folder");
    let prometheus = Prometheus::start(folder.path(), &mesh).await;
    mesh.until("both processes are scraped often enough", async || {
        let scraped = "min(count_over_time(up{job=\"mesh\"}[1m])) * count(up)";
        let got = prometheus.ask(scraped).await;
        got.is_some_and(|got| got.first().is_some_and(|scrapes| *scrapes >= 8.0))
    })
    .await;

    let mut asked = 0;
    let mut wrong = Vec::new();
    for line in QUERIES.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.splitn(4, " | ").skip(1);
        let mut next = || parts.next().expect("four parts");
        let (expected, deployment, query) = (next(), next(), next());
        let query = query
            .replace("$deployment", deployment)
            .replace("$namespace", "shop")
            .replace("$service", "api")
            .replace("$inbound", "web")
            .replace("$outbound", "api")
            .replace("$rt_route", "default")
            .replace("$__rate_interval", "10s");
        let got = prometheus.ask(&query).await.expect("it is there");
        asked += 1;
        if !agrees(expected, &got) {
            wrong.push(format!("{expected}: {got:?} of {query}"));
        }
    }
    println!("{asked} queries, {} agree", asked - wrong.len());
    assert!(wrong.is_empty(), "of {asked}:\n{}", wrong.join("\n"));
    sending.abort();
    for process in [api.mesh(), &web] {
        let admin = process.admin_address().expect("an admin port");
        lint(&prometheus.http, &format!("http://{admin}/metrics")).await;
    }
    lint(&prometheus.http, &format!("{}/metrics", mesh.admin_url())).await;
}
