//! A program of its own in the mesh of a test.

use std::process::{ExitStatus, Stdio};

use mesh_core::BoxError;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::TestMesh;
use crate::mesh::PATIENCE;

/// A running program; it is killed when this value is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl TestMesh {
    /// Starts `program` with the environment of a process that joins as `identity`, written
    /// `namespace/account`, and serves `service`.
    ///
    /// Whether it is ready is seen by calling it ([`TestMesh::until`]), or by what it says
    /// ([`Program::said`]).
    ///
    /// # Errors
    ///
    /// Those of [`TestMesh::token`], and a program that cannot be started.
    pub async fn spawn(
        &self,
        program: &str,
        identity: &str,
        service: &str,
    ) -> Result<Program, BoxError> {
        let mut command = Command::new(program);
        command.env("MESH_SERVICE", service);
        self.start_program(command, identity).await
    }

    /// The same with a command of the test's own: its arguments and further variables.
    ///
    /// # Errors
    ///
    /// Those of [`TestMesh::spawn`].
    pub async fn start_program(
        &self,
        mut command: Command,
        identity: &str,
    ) -> Result<Program, BoxError> {
        command
            .env("MESH_DISCOVERY", self.url())
            .env("MESH_TOKEN", self.token(identity).await?.reveal());
        Ok(Program::start(command)?)
    }
}

impl Program {
    /// Starts a program, in a mesh or outside.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(mut command: Command) -> std::io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        let said = BufReader::new(stdout).lines();
        Ok(Self { child, said })
    }

    /// Waits for a line of standard output that begins with `word`, and gives what follows.
    ///
    /// # Errors
    ///
    /// The program ends without it, or 20 s pass.
    pub async fn said(&mut self, word: &str) -> Result<String, BoxError> {
        let found = async {
            while let Some(line) = self.said.next_line().await? {
                if let Some(rest) = line.strip_prefix(word) {
                    return Ok(rest.trim().to_owned());
                }
            }
            Err(BoxError::from(format!("it ended and never said {word}")))
        };
        let found = timeout(PATIENCE, found).await;
        found.map_err(|_| format!("it has not said {word}"))?
    }

    /// Its process, until it has ended.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    ///
    /// # Errors
    ///
    /// The program has ended already.
    pub async fn signal(&self, name: &str) -> Result<(), BoxError> {
        let id = self.child.id().ok_or("it has ended already")?;
        let mut kill = Command::new("kill");
        let sent = kill.args(["-s", name, &id.to_string()]).status().await?;
        if sent.success() {
            Ok(())
        } else {
            Err("it has ended already".into())
        }
    }

    /// Waits until the program has ended by itself.
    ///
    /// # Errors
    ///
    /// 20 s pass.
    pub async fn ended(&mut self) -> Result<ExitStatus, BoxError> {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        Ok(ended.map_err(|_| "it has not ended")??)
    }
}
