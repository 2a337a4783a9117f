//! Hours that pass within seconds: programs whose wall clock is libfaketime's.
//!
//! The time of day is what certificates are judged by, and it alone is moved; the monotonic
//! clock stays as it is. A machine that was suspended, or whose clock is put right, looks like that.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use mesh_core::{Body, Config, Mesh};
use mesh_test::{Program, TestMesh};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::raw;

/// How long a caller may take to tell what is expected: its metrics are brought up to date every 5 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const ECHO: &str = env!("CARGO_BIN_EXE_mesh-echo");
const API: &str = "spiffe://mesh.local/ns/shop/sa/api";
const GET: &str = "GET / HTTP/1.1\r\nhost: api.shop\r\nconnection: close\r\n\r\n";
/// Set for the programs that tests here are the body of, such as
/// [`clock_a_caller_for_the_other_tests`].
pub(crate) const CALLER: &str = "CLOCK_TEST_CALLER";
/// Where Debian, and others, put the library for programs with threads.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A wall clock that a test moves, for any number of programs.
pub(crate) struct Clock {
    library: &'static str,
    folder: tempfile::TempDir,
}

impl Clock {
    /// None where libfaketime is not on this machine. The full check insists.
    #[expect(clippy::print_stdout, reason = "a test that skips says so")]
    pub(crate) fn new() -> Option<Self> {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
        assert!(
            library.is_some() || std::env::var("CHECK_FORM").as_deref() != Ok("full"),
            "libfaketime is missing: install Debian's package faketime"
        );
        let Some(library) = library else {
            println!("skipped: libfaketime is not on this machine");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Self { library, folder };
        clock.set("+0");
        Some(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Moves the clock to `offset` from the true time, such as `+10h`. Whole at every moment.
    pub(crate) fn set(&self, offset: &str) {
        let next = self.folder.path().join("next");
        fs::write(&next, format!("{offset}\n")).expect("a writable folder");
        fs::rename(next, self.file()).expect("a writable folder");
    }

    /// `program` under this clock.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("LD_PRELOAD", self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }
}

/// Passes bytes on to `target` over connections that all end at once when told to.
async fn passage(target: SocketAddr) -> (SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let cut = Arc::new(Notify::new());
    let told = Arc::clone(&cut);
    drop(tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            drop(tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.expect("it listens");
                let passed = tokio::io::copy_bidirectional(&mut near, &mut far);
                tokio::select! {
                    () = told.notified() => {}
                    // Who closes its side has no more to say.
                    ended = passed => drop(ended),
                }
            }));
        }
    }));
    (address, cut)
}

/// A caller as a program of its own: this test program once more, under `clock`.
async fn caller(clock: &Clock, mesh: &TestMesh) -> Program {
    let itself = std::env::current_exe().expect("a test is a program");
    let mut command = clock.command(itself);
    command
        .args(["--exact", "clock::clock_a_caller_for_the_other_tests"])
        .args(["--ignored", "--nocapture"])
        .env(CALLER, "yes")
        .stderr(Stdio::null());
    let started = mesh.start_program(command, "shop/web").await;
    started.expect("it starts")
}

/// Not a test: calls again and again, and tells of each answer. It ends with the test that
/// started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a program that the tests here start"]
#[expect(clippy::print_stdout, reason = "it talks with who started it")]
async fn clock_a_caller_for_the_other_tests() {
    if std::env::var_os(CALLER).is_none() {
        return;
    }
    let vars = std::env::vars().filter(|(name, _)| name.starts_with("MESH_"));
    let config = Config::from_vars(vars).expect("a configuration");
    let mesh = Mesh::join(config).await.expect("it joins");
    // The test harness has begun a line.
    println!();
    loop {
        let request = Request::get("http://api.shop/").body(Body::empty());
        let Ok(response) = mesh.client().send(request.expect("a request")).await;
        let (status, reason) = (response.status(), crate::reason(&response).to_owned());
        let text = mesh_test::text(response).await.unwrap_or_default();
        let text = text.replace('\n', " ");
        let left = crate::metric(&mesh, "mesh_cert_expiry_seconds");
        println!("answer {} {reason} left={left} {text}", status.as_u16());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the caller tells next for which `expected` holds, and how much it says is left.
async fn told(caller: &mut Program, expected: impl Fn(&str, i64) -> bool) -> String {
    let found = async {
        loop {
            let said = caller.said("answer ").await.expect("it goes on");
            let left = said.split(' ').find_map(|word| word.strip_prefix("left="));
            let left = left.and_then(|left| left.parse().ok()).expect("a number");
            if expected(&said, left) {
                return said;
            }
        }
    };
    let found = timeout(PATIENCE, found).await;
    found.expect("what is expected is told in time")
}

/// The caller's next answers are all 200, but for those that were cut off.
async fn goes_on(caller: &mut Program, count: usize) {
    told(caller, |said, _| said.starts_with("200 ")).await;
    for _ in 0..count {
        let said = caller.said("answer ").await.expect("it goes on");
        assert!(said.starts_with("200 "), "{said}");
    }
}

/// Whether `api`, whose clock is moved, answers a new connection of a client with a true one.
async fn lets_in(client: &mesh_tls::credentials::Credentials, api: SocketAddr) -> bool {
    let answer = raw::speak(client, api, API, GET).await;
    answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c01_ten_hours_without_discovery_cost_nothing_and_the_end_of_the_certificate_fails_closed()
{
    let Some(clock) = Clock::new() else { return };
    let mut mesh = TestMesh::start().await.expect("a mesh");
    let mut command = clock.command(ECHO);
    // Callers reach it by the passage alone, which stands in `api.shop`.
    command.args(["--service", "behind.shop"]);
    let started = mesh.start_program(command, "shop/api").await;
    let mut api = started.expect("it starts");
    let address = api.said("listening ").await.expect("its address");
    let address: SocketAddr = address.parse().expect("an address");
    let (passage, cut) = passage(address).await;
    let _lease = raw::register(&mesh, "shop/api", "api.shop", passage)
        .await
        .expect("the passage is registered");
    let mut web = caller(&clock, &mesh).await;
    let stranger = raw::enrol(&mesh, "shop/other")
        .await
        .expect("a certificate");
    goes_on(&mut web, 3).await;
    mesh.stop_discovery().await;

    // A process renews at half of its life at the latest: it has 12 h left, and these are 10.
    // From now on each tries to renew, in vain.
    clock.set("+22h");
    cut.notify_waiters();
    goes_on(&mut web, 20).await;
    assert!(lets_in(&stranger, address).await, "policy goes on");
    // Long before the end everyone who looks can see it come.
    told(&mut web, |_, left| (3_600..=7_200).contains(&left)).await;

    // T03: the stranger's certificate is 24 h old on the clock of who checks it.
    clock.set("+25h");
    assert!(!lets_in(&stranger, address).await, "it has expired");
    cut.notify_waiters();
    let said = told(&mut web, |said, _| said.starts_with("50")).await;
    assert!(said.contains("certificate-ended"), "{said}");
    assert!(said.contains("own certificate has ended"), "{said}");
    for _ in 0..20 {
        let said = web.said("answer ").await.expect("it goes on");
        assert!(!said.starts_with("200 "), "it stays closed: {said}");
    }
    told(&mut web, |_, left| left < 0).await;
    // The clock goes back, as if a certificate had come after all.
    clock.set("+23h");
    told(&mut web, |said, _| said.starts_with("200 ")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn z15_the_last_policy_stays_in_force_for_hours_without_discovery() {
    let Some(clock) = Clock::new() else { return };
    let mut mesh = TestMesh::start().await.expect("a mesh");
    let policy = format!("{}{}", SERVER, crate::authorization::ALLOW_WEB);
    mesh.apply(&policy).await.expect("policy");
    let mut command = clock.command(ECHO);
    command.args(["--service", "api.shop"]);
    let started = mesh.start_program(command, "shop/api").await;
    let mut api = started.expect("it starts");
    let address = api.said("listening ").await.expect("its address");
    let address = address.parse().expect("an address");
    let web = raw::enrol(&mesh, "shop/web").await.expect("a certificate");
    let other = raw::enrol(&mesh, "shop/other")
        .await
        .expect("a certificate");
    mesh.stop_discovery().await;
    for hours in ["+0h", "+10h", "+23h"] {
        clock.set(hours);
        assert!(lets_in(&web, address).await, "{hours}");
        let refused = raw::speak(&other, address, API, GET).await;
        let refused = refused.expect("it is refused by policy and not by its certificate");
        assert!(refused.starts_with("HTTP/1.1 403"), "{hours}: {refused}");
    }
}

const SERVER: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { name: api, namespace: shop }
spec: { podSelector: {}, port: 80 }
";
