//! A program of its own in the mesh of a test.

use std::process::{Child, Command};

use mesh_core::BoxError;

use crate::TestMesh;

/// A running program; it is killed when this value is dropped.
#[derive(Debug)]
pub struct Program(Child);

impl TestMesh {
    /// Starts `program` with the environment of a process that joins as `identity`, written
    /// `namespace/account`, and serves `service`.
    ///
    /// Whether it is ready is seen by calling it: [`TestMesh::until`].
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
        let child = Command::new(program)
            .env("MESH_DISCOVERY", self.url())
            .env("MESH_TOKEN", self.token(identity).await?.reveal())
            .env("MESH_SERVICE", service)
            .spawn()?;
        Ok(Program(child))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself already, which is as well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
