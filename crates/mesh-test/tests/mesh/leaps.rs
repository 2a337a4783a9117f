//! Clocks that leap while a mesh runs, as after a machine was suspended: discovery is there, and
//! everybody holds certificates that are older than they were a moment ago.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use http::Request;
use mesh_core::config::TokenSource;
use mesh_core::{Body, BoxError, Mesh};
use mesh_discovery::wire::TokenRequest;
use mesh_test::{Program, TestMesh};
use tokio::time::timeout;

use crate::clock::{CALLER, Clock, PATIENCE};
use crate::raw;

/// The life of certificates here.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Not a test: a whole mesh whose clocks are moved. It tells again and again how its parts stand.
///
/// `api` may join again with its token; `web` may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a program that the tests here start"]
#[expect(clippy::print_stdout, reason = "it talks with who started it")]
async fn leaps_a_mesh_for_the_other_tests() {
    if std::env::var_os(CALLER).is_none() {
        return;
    }
    let mesh = TestMesh::start_with(|config| config.leaf_ttl = HOUR).await;
    let mesh = mesh.expect("a mesh");
    let mut request = TokenRequest::new("shop".parse().unwrap(), "api".parse().unwrap());
    (request.uses, request.ttl_seconds) = (50, 24 * 60 * 60);
    let token = mesh.admin().create_token(&request).await.expect("a token");
    let mut config = mesh.config("shop/api").await.expect("a configuration");
    config.token = Some(TokenSource::Given(token));
    config.services = vec!["api.shop".parse().expect("a name")];
    let app = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, BoxError>(http::Response::new(Body::from("hello")))
    });
    let api = mesh.serve_with(config, app).await.expect("it serves");
    let web = mesh.join("shop/web").await.expect("it joins");
    let stands = |process: &Mesh| match process.not_ready() {
        reasons if reasons.is_empty() => "ready".to_owned(),
        reasons => reasons.join(" and "),
    };
    let admin: SocketAddr = mesh.admin_url()["http://".len()..].parse().expect("one");
    println!();
    loop {
        let request = Request::get("http://api.shop/").body(Body::empty());
        let Ok(answer) = web.client().send(request.expect("a request")).await;
        let (status, reason) = (answer.status().as_u16(), crate::reason(&answer).to_owned());
        drop(mesh_test::text(answer).await);
        let discovery = raw::get(admin, "/ready").await.expect("it answers");
        let discovery = discovery.lines().last().unwrap_or_default().to_owned();
        let renewed = renewals(&web);
        println!(
            "state answer={status} {reason} | renewed={renewed} | web={} | api={} | discovery={discovery}",
            stands(&web),
            stands(api.mesh()),
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How often `process` got a new certificate.
fn renewals(process: &Mesh) -> String {
    let text = process.recorder().render();
    let family = "control_identity_cert_refreshes_total{";
    let line = text
        .lines()
        .find(|line| line.starts_with(family) && line.contains("result=\"ok\""));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.unwrap_or_default().to_owned()
}

/// A line of [`leaps_a_mesh_for_the_other_tests`] that holds all of `expected`.
async fn state(mesh: &mut Program, expected: &[&str]) -> String {
    let mut last = String::new();
    let found = async {
        loop {
            last = mesh.said("state ").await.expect("it goes on");
            if expected.iter().all(|part| last.contains(part)) {
                return;
            }
        }
    };
    let found = timeout(PATIENCE, found).await;
    assert!(
        found.is_ok(),
        "waited for {expected:?}, and last it was: {last}"
    );
    last
}

/// [`leaps_a_mesh_for_the_other_tests`], as a program of its own.
fn whole_mesh(clock: &Clock) -> Program {
    let mut command = clock.command(std::env::current_exe().expect("a test is a program"));
    command
        .args(["--exact", "leaps::leaps_a_mesh_for_the_other_tests"])
        .args(["--ignored", "--nocapture"])
        .env(CALLER, "yes")
        .stderr(Stdio::null());
    Program::start(command).expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p14_a_clock_that_leaps_over_half_of_a_certificate_makes_everyone_renew_at_once() {
    let Some(clock) = Clock::new() else { return };
    let mut mesh = whole_mesh(&clock);
    state(
        &mut mesh,
        &["answer=200", "web=ready", "api=ready", "discovery=ready"],
    )
    .await;
    // Nothing has ended: half an hour is left, and nobody waits for it.
    clock.set("+40m");
    state(&mut mesh, &["answer=200", "renewed=1"]).await;
    clock.set("+80m");
    state(&mut mesh, &["answer=200", "renewed=2"]).await;
    // Both certificates of before have ended; nobody was without one.
    state(
        &mut mesh,
        &["answer=200", "web=ready", "api=ready", "discovery=ready"],
    )
    .await;
    // A clock that goes back stops nothing.
    clock.set("+70m");
    state(
        &mut mesh,
        &["answer=200", "web=ready", "api=ready", "discovery=ready"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c01_after_a_long_sleep_who_may_join_again_does_and_who_may_not_says_so() {
    let Some(clock) = Clock::new() else { return };
    let mut mesh = whole_mesh(&clock);
    state(
        &mut mesh,
        &["answer=200", "web=ready", "api=ready", "discovery=ready"],
    )
    .await;
    clock.set("+3h");
    // T19: also the connection that lives ends, by the time of day.
    let said = state(
        &mut mesh,
        &["certificate-ended", "web=the certificate ended"],
    )
    .await;
    assert!(said.contains("answer=503"), "{said}");
    state(
        &mut mesh,
        &["api=ready", "discovery=ready", "discovery answered 403"],
    )
    .await;
}
