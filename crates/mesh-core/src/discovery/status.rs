//! What the admin port tells of this process: whether it is ready, and its plan.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::Served;
use super::follow::Follower;

/// Whether a process is ready, and what it has been told.
#[derive(Debug)]
pub(crate) struct Status {
    draining: watch::Receiver<bool>,
    joined: OnceLock<(Arc<Served>, Arc<Mutex<Follower>>)>,
}

impl Status {
    pub(super) fn new(draining: watch::Receiver<bool>) -> Self {
        let joined = OnceLock::new();
        Self { draining, joined }
    }

    /// The process has an identity and a watch.
    pub(super) fn joined(&self, served: Arc<Served>, follower: Arc<Mutex<Follower>>) {
        // Joining happens once; a second time would change nothing.
        drop(self.joined.set((served, follower)));
    }

    /// Why this process should get no traffic; empty when it should.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut reasons = match self.joined.get() {
            Some((served, _)) => served.not_ready(),
            None => vec!["it waits for discovery to give it an identity and a watch".to_owned()],
        };
        if *self.draining.borrow() {
            reasons.insert(0, "it drains".to_owned());
        }
        reasons
    }

    /// The plan in force.
    pub(super) fn plan(&self) -> Value {
        match self.joined.get() {
            Some((_, follower)) => {
                let follower = follower.lock().unwrap_or_else(PoisonError::into_inner);
                follower.show()
            }
            None => json!({}),
        }
    }
}
