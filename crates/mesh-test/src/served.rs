//! A listener of a test, which ends with its value.

use std::net::SocketAddr;

use mesh_core::Mesh;
use mesh_core::mesh::ServeError;
use tokio::task::JoinHandle;

/// A process that serves, until this value is dropped or drained.
#[derive(Debug)]
pub struct Served {
    mesh: Mesh,
    address: SocketAddr,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    pub(crate) const fn new(
        mesh: Mesh,
        address: SocketAddr,
        task: JoinHandle<Result<(), ServeError>>,
    ) -> Self {
        Self {
            mesh,
            address,
            task,
        }
    }

    /// The process's handle.
    #[must_use]
    pub const fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends as a process does that is told to: deregistered first, then requests in flight finish.
    pub async fn drain(self) {
        self.mesh.drain().await;
    }

    /// Ends as a process does that is killed: nobody is told.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}
