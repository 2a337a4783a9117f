//! The README's ten lines, run as a process of a real mesh.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use mesh_core::{Body, BoxError};
use mesh_test::TestMesh;
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_lines_serve_one_service_and_call_another() -> Result<(), BoxError> {
    let mesh = TestMesh::start().await?;
    let stock = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let _stock = mesh.serve("shop/stock", "stock.shop", stock).await?;
    let program = env!("CARGO_BIN_EXE_hello");
    let _running = mesh.spawn(program, "shop/hello", "hello.shop").await?;
    let web = mesh.join("shop/web").await?;
    mesh.until("hello calls stock", async || {
        let request = Request::get("http://hello.shop/").body(Body::empty());
        let Ok(response) = web.client().send(request.expect("a valid request")).await;
        let text = mesh_test::text(response).await.expect("a whole body");
        text == "the stock service says 200 OK\n"
    })
    .await;
    Ok(())
}

const HELLO: &str = env!("CARGO_BIN_EXE_hello");

/// A program that is killed with this value.
struct Running(Child);

impl Running {
    fn start(discovery: &str, token: &str) -> std::io::Result<Self> {
        let started = Command::new(HELLO)
            .env_clear()
            .env("MESH_DISCOVERY", discovery)
            .env("MESH_TOKEN", token)
            .env("MESH_SERVICE", "hello.shop")
            .stderr(Stdio::piped())
            .spawn();
        started.map(Self)
    }

    /// Reads what it says on stderr up to the line that has all of `words`, for half a minute.
    async fn says(&mut self, words: &'static [&str]) -> Option<String> {
        let stderr = self.0.stderr.take()?;
        let found = tokio::task::spawn_blocking(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            let mut found = lines.filter(|line| words.iter().all(|word| line.contains(word)));
            found.next()
        });
        let found = tokio::time::timeout(Duration::from_secs(30), found).await;
        if found.is_err() {
            // The reader ends with the program.
            drop(self.0.kill());
        }
        found.ok()?.ok()?
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn what_is_wrong_reaches_people_as_text() -> Result<(), BoxError> {
    let ended = Command::new(HELLO).env_clear().output()?;
    let said = String::from_utf8(ended.stderr)?;
    assert!(!ended.status.success());
    assert!(said.contains("MESH_TOKEN"), "{said}");
    assert!(!said.contains("InvalidConfig"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_aloud_and_says_where_it_listens() -> Result<(), BoxError> {
    let mesh = TestMesh::start().await?;
    let token = mesh.token("shop/hello").await?;
    // Port 1 is nobody's.
    let mut waiting = Running::start("https://127.0.0.1:1", &token.reveal())?;
    let said = waiting
        .says(&["not joined yet", "127.0.0.1:1", "refused"])
        .await;
    assert!(said.is_some(), "it waits in silence");
    let mut joined = Running::start(mesh.url(), &token.reveal())?;
    let said = joined.says(&["listening", "hello.shop", "address"]).await;
    assert!(said.is_some(), "it does not say where it listens");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_drain_at_once() -> Result<(), BoxError> {
    let mesh = TestMesh::start().await?;
    let asked = Arc::new(Notify::new());
    let noticed = Arc::clone(&asked);
    let stock = tower::service_fn(move |_: Request<Body>| {
        noticed.notify_one();
        std::future::pending::<Result<Response<Body>, BoxError>>()
    });
    let _stock = mesh.serve("shop/stock", "stock.shop", stock).await?;
    let mut running = mesh.spawn(HELLO, "shop/hello", "hello.shop").await?;
    let web = mesh.join("shop/web").await?;
    let calling = tokio::spawn(async move {
        loop {
            let request = Request::get("http://hello.shop/").body(Body::empty());
            // Until hello is there, the answer is that it is not.
            let Ok(_) = web.client().send(request.expect("a valid request")).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    asked.notified().await;
    for _ in 0..2 {
        running.signal("TERM").await?;
        // Signals that come at once are one.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // A drain waits for two minutes, which is longer than a test is patient.
    assert!(running.ended().await?.success());
    calling.abort();
    Ok(())
}
