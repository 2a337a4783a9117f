//! `openssl s_client`, a client that nobody here wrote.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What the client printed, both streams, once it had ended.
pub(crate) struct Printed(pub(crate) String);

impl Printed {
    /// Whether an application answered 200.
    pub(crate) fn served(&self) -> bool {
        self.0.contains("HTTP/1.1 200")
    }
}

/// Whether openssl is on this machine. The full check insists; elsewhere its tests say that they skip.
#[expect(clippy::print_stdout, reason = "a test that skips says so")]
pub(crate) async fn is_missing() -> bool {
    let found = Command::new("openssl")
        .arg("version")
        .stdout(Stdio::null())
        .status()
        .await
        .is_ok();
    assert!(
        found || std::env::var("CHECK_FORM").as_deref() != Ok("full"),
        "openssl is missing: install Debian's package openssl"
    );
    if !found {
        println!("skipped: openssl is not on this machine");
    }
    !found
}

/// Connects with ALPN `http/1.1`, asks for `/`, and waits for the end of the connection.
///
/// In TLS 1.3 a client learns that its certificate was refused only when it
/// reads, so the request is sent and the answer awaited in every case.
pub(crate) async fn get(address: SocketAddr, arguments: &[&str]) -> Printed {
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            &address.to_string(),
            "-alpn",
            "http/1.1",
        ])
        .args(["-ign_eof", "-servername", "api.shop"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl starts");
    let mut input = child.stdin.take().expect("piped");
    // A refused handshake closes the pipe early, which is the test's answer and not its fault.
    drop(
        input
            .write_all(b"GET / HTTP/1.1\r\nhost: api.shop\r\nconnection: close\r\n\r\n")
            .await,
    );
    let output = tokio::time::timeout(Duration::from_secs(20), child.wait_with_output());
    let output = output.await.expect("openssl ends").expect("it ran");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Printed(text)
}

/// The flags that present `folder`'s chain in full, leaf and issuer.
pub(crate) fn certificate(folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    [
        "-cert",
        &file("leaf.pem"),
        "-key",
        &file("key.pem"),
        "-cert_chain",
        &file("chain.pem"),
        "-CAfile",
        &file("root.pem"),
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}

/// The public key of the server's certificate, as PEM.
pub(crate) async fn public_key(printed: &Printed) -> String {
    let mut child = Command::new("openssl")
        .args(["x509", "-noout", "-pubkey"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    let mut input = child.stdin.take().expect("piped");
    let written = input.write_all(printed.0.as_bytes()).await;
    written.expect("openssl reads");
    drop(input);
    let output = child.wait_with_output().await.expect("it ran");
    assert!(output.status.success(), "{}", printed.0);
    String::from_utf8(output.stdout).expect("PEM is text")
}
