//! What happens on a Tuesday: programs are restarted and killed, weights change, all under load.

use std::time::Duration;

use mesh_discovery::config::StoreKind;
use mesh_test::{Program, TestMesh};
use tokio::process::Command;

use crate::load::Load;

const ECHO: &str = env!("CARGO_BIN_EXE_mesh-echo");

async fn echo(mesh: &TestMesh, service: &str) -> Program {
    let mut command = Command::new(ECHO);
    command.args(["--service", service]);
    let identity = service.replace('.', "-");
    let mut program = mesh
        .start_program(
            command,
            &format!("shop/{}", identity.trim_end_matches("-shop")),
        )
        .await
        .expect("it starts");
    // It says so once it is ready and discovery has told of it.
    program.said("listening ").await.expect("its address");
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p02_twenty_rolling_restarts_under_load_fail_no_request() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let mut running = std::collections::VecDeque::new();
    for _ in 0..2 {
        running.push_back(echo(&mesh, "api.shop").await);
    }
    let web = mesh.join("shop/web").await.expect("web joins");
    let load = Load::start(
        &web.client(),
        "http://api.shop/?delay=5ms",
        Duration::from_millis(5),
    );
    for round in 0..20 {
        running.push_back(echo(&mesh, "api.shop").await);
        let mut old = running.pop_front().expect("there are two");
        old.signal("TERM").await.expect("it runs");
        let status = old.ended().await.expect("it ends");
        assert_eq!(status.code(), Some(0), "restart {round}");
    }
    let tally = load.stop().await;
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    assert!(tally.requests > 1_000, "only {}", tally.requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p01_one_of_three_endpoints_killed_under_load_costs_no_thousandth() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(echo(&mesh, "api.shop").await);
    }
    let web = mesh.join("shop/web").await.expect("web joins");
    let load = Load::start(&web.client(), "http://api.shop/", Duration::from_millis(2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let killed = running.pop().expect("there are three");
    killed.signal("KILL").await.expect("it runs");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let around = load.stop().await;
    // From now on nobody is sent there, though its lease has not ended yet.
    let load = Load::start(&web.client(), "http://api.shop/", Duration::from_millis(2));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = load.stop().await;
    assert_eq!(after.failed, 0, "{:?}", after.failures);
    let requests = around.requests + after.requests;
    assert!(requests > 2_000, "only {requests}");
    assert!(
        around.failed * 1_000 <= requests,
        "{around:?} of {requests}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c01_discovery_stopped_and_started_again_under_load_fails_no_request() {
    let mut mesh = TestMesh::start_with(|config| config.store = StoreKind::Redb)
        .await
        .expect("a mesh");
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(echo(&mesh, "api.shop").await);
    }
    let web = mesh.join("shop/web").await.expect("web joins");
    // Static stability is of what was told once: a first question needs discovery.
    mesh.until("the service is told", async || {
        crate::get(&web.client(), "http://api.shop/").await.0 == 200
    })
    .await;
    let load = Load::start(&web.client(), "http://api.shop/", Duration::from_millis(3));
    for _ in 0..3 {
        mesh.stop_discovery().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        mesh.start_discovery().await.expect("it starts again");
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    // Those who were there are told of what comes: they have found their way back.
    running.push(echo(&mesh, "late.shop").await);
    mesh.until("a new service is told", async || {
        crate::get(&web.client(), "http://late.shop/").await.0 == 200
    })
    .await;
    let tally = load.stop().await;
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    assert!(tally.requests > 500, "only {}", tally.requests);
}
