//! What a process leaves on disk: nothing. Seen by `strace`, which sees every file that is opened.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use mesh_test::TestMesh;
use tokio::process::Command;

use crate::get;

const ECHO: &str = env!("CARGO_BIN_EXE_mesh-echo");
/// Every call that makes a file, opens one, gives one a name, or writes.
const CALLS: &str = "trace=open,openat,openat2,creat,mknod,mknodat,link,linkat,rename,renameat,\
    renameat2,memfd_create,write,writev,pwrite64,pwritev,pwritev2";
/// What opens a file to change it.
const WRITABLE: [&str; 4] = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE"];

/// Whether strace is on this machine. The full check insists.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
async fn is_missing() -> bool {
    let mut version = Command::new("strace");
    let found = version.arg("-V").stdout(Stdio::null()).status().await;
    let found = found.is_ok_and(|status| status.success());
    assert!(
        found || std::env::var("CHECK_FORM").as_deref() != Ok("full"),
        "strace is missing: install Debian's package strace"
    );
    if !found {
        println!("skipped: strace is not on this machine");
    }
    !found
}

/// The lines of a trace that could bring a key to a file or to a reader of the program's output.
fn leaks(trace: &str) -> BTreeSet<&str> {
    let leaks = |line: &&str| {
        // `PID call(arguments) = result`.
        let call = line
            .split_once(' ')
            .map_or("", |(_, call)| call.trim_start());
        let (call, arguments) = call.split_once('(').unwrap_or((call, ""));
        // What was written may hold anything, also what looks like the path of a file.
        let target = arguments.trim_start_matches(|digit: char| digit.is_ascii_digit());
        match call.split(' ').next().unwrap_or_default() {
            // A pipe, a socket or an event: the program's own, or ciphertext.
            "write" | "writev" => {
                let file = target.starts_with("</") && !target.starts_with("</dev/");
                file || line.contains("PRIVATE KEY")
            }
            "open" | "openat" | "openat2" => {
                WRITABLE.iter().any(|flag| line.contains(flag)) && !line.contains("\"/dev/null\"")
            }
            "+++" | "---" | "<..." => false,
            _ => true,
        }
    };
    trace.lines().filter(leaks).collect()
}

async fn traced(mesh: &TestMesh, trace: &Path) -> mesh_test::Program {
    let mut command = Command::new("strace");
    // The program is our child, and the tracer its own: killing the child ends both.
    command.args(["-D", "-f", "-y", "-s", "4096", "-e", CALLS, "-o"]);
    command.arg(trace).args([ECHO, "--service", "api.shop"]);
    // What it writes there is traced, and a file of the test's runner is no file of its own.
    command.stderr(Stdio::null());
    let started = mesh.start_program(command, "shop/api").await;
    started.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t22_no_key_is_ever_on_disk() {
    if is_missing().await {
        return;
    }
    let mesh = TestMesh::start().await.expect("a mesh");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace");
    let mut api = traced(&mesh, &path).await;
    api.said("listening ").await.expect("its address");
    let web = mesh.join("shop/web").await.expect("web joins");
    assert_eq!(get(&web.client(), "http://api.shop/").await.0, 200);
    api.signal("TERM").await.expect("it runs");
    assert!(api.ended().await.expect("it drains").success());
    // The tracer writes its last lines after its child has ended.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let trace = std::fs::read_to_string(&path).expect("a trace");
    assert!(
        trace.contains("listening 127.0.0.1"),
        "what it wrote is there"
    );
    assert!(trace.contains("openat("), "what it opened is there");
    assert_eq!(leaks(&trace), BTreeSet::new());
}

#[test]
fn t22_the_trace_of_a_program_that_keeps_its_key_is_told_apart() {
    for line in [
        r#"7 openat(AT_FDCWD, "/tmp/key.pem", O_WRONLY|O_CREAT|O_CLOEXEC, 0600) = 3</tmp/key.pem>"#,
        r#"7 openat(AT_FDCWD, "/tmp", O_RDWR|O_TMPFILE, 0600) = 3</tmp/#12 (deleted)>"#,
        r#"7 memfd_create("key", 0) = 3</memfd:key>"#,
        r#"7 write(3</tmp/key.pem>, "x", 1) = 1"#,
        r#"7 write(2<pipe:[9]>, "-----BEGIN PRIVATE KEY-----", 27) = 27"#,
        r#"7 rename("a", "b") = 0"#,
    ] {
        assert_eq!(leaks(line).len(), 1, "{line}");
    }
    for line in [
        r#"7 openat(AT_FDCWD, "/etc/hosts", O_RDONLY|O_CLOEXEC) = 3</etc/hosts>"#,
        r#"7 write(2<pipe:[9]>, "ready", 5) = 5"#,
        r#"7 writev(9<socket:[1]>, [{iov_base="\27\3</ab", iov_len=6}], 1) = 6"#,
        "7 +++ exited with 0 +++",
    ] {
        assert!(leaks(line).is_empty(), "{line}");
    }
}
