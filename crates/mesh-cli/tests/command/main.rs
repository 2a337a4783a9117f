//! The `mesh` command as people and scripts see it: what it prints, and how it ends.

mod curl;
mod exits;
mod explain;
mod files;
mod objects;
mod stat;
mod tokens;
mod unreadable;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use mesh_test::TestMesh;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What a command said, and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// The standard output of a command that must have gone well.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// The standard error of a command that must have ended with `code`.
    #[track_caller]
    fn ends(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

/// The command in an empty environment and directory, so that nothing of ours is found by chance.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
    command
        .args(arguments)
        .env_clear()
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .kill_on_drop(true);
    command
}

async fn said(mut command: Command, stdin: &[u8]) -> Said {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("it is piped");
    // A command that does not read has closed its end.
    drop(input.write_all(stdin).await);
    drop(input);
    let output = child.wait_with_output().await.expect("it ends");
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the command without credentials.
async fn alone(arguments: &[&str]) -> Said {
    said(command(arguments), b"").await
}

/// Runs the command with the administrator's credentials of `mesh`.
async fn admin(mesh: &TestMesh, arguments: &[&str]) -> Said {
    admin_with(mesh, arguments, b"").await
}

/// The same with something on standard input.
async fn admin_with(mesh: &TestMesh, arguments: &[&str], stdin: &[u8]) -> Said {
    let mut command = command(arguments);
    command.env("MESH_KUBECONFIG", kubeconfig(mesh));
    said(command, stdin).await
}

fn kubeconfig(mesh: &TestMesh) -> PathBuf {
    let data = mesh.ca_folder();
    let data = data.parent().expect("the CA lies in the data directory");
    data.join("admin.kubeconfig")
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

const EVERYDAY: &str = include_str!("../../../../docs/guide/everyday.yaml");
