//! Children: started with flags, found by their first line, ended by closing their standard input.

use std::io::Write;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::BoxError;

/// Tells the parent where this server listens.
pub fn announce(addresses: &str) {
    println!("{addresses}");
    // The parent reads a pipe, which is not flushed at a line's end.
    if std::io::stdout().flush().is_err() {
        eprintln!("the parent no longer listens");
    }
}

/// Waits until the parent closes standard input.
pub async fn parent_lets_go() {
    let mut rest = Vec::new();
    // An error here means the same: nobody is there any more.
    drop(tokio::io::stdin().read_to_end(&mut rest).await);
}

/// A running server and what it announced.
pub struct Server {
    child: Child,
    /// Its process id.
    pub id: u32,
    /// Its addresses, separated by commas.
    pub addresses: String,
}

/// Starts a server and waits for its first line.
pub async fn start(mut command: Command) -> Result<Server, BoxError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let id = child.id().ok_or("the server ended at once")?;
    let output = child.stdout.take().ok_or("standard output is piped")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).await?;
    if line.is_empty() {
        return Err(format!("the server ended at once: {:?}", child.wait().await?).into());
    }
    Ok(Server {
        child,
        id,
        addresses: line.trim().to_owned(),
    })
}

impl Server {
    /// Closes its standard input and waits for its end.
    pub async fn stop(mut self) -> Result<(), BoxError> {
        drop(self.child.stdin.take());
        self.child.wait().await?;
        Ok(())
    }
}

/// Runs a client to its end and reads its last line as JSON.
pub async fn finish<T: serde::de::DeserializeOwned>(mut command: Command) -> Result<T, BoxError> {
    // `output()` would take standard error away from whoever watches.
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.wait_with_output().await?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().ok_or("the client said nothing")?;
    Ok(serde_json::from_str(line)?)
}
