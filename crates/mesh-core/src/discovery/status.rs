//! What the admin port tells of this process: whether it is ready, and its plan.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::Served;
use super::follow::Follower;
use super::standing::Standing;
use super::supervise::Health;

/// Whether a process is ready, and what it has been told.
#[derive(Debug)]
pub(crate) struct Status {
    draining: watch::Receiver<bool>,
    health: Health,
    joined: OnceLock<Entered>,
}

/// What there is once a process has an identity and a watch.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) served: Arc<Served>,
    pub(super) follower: Arc<Mutex<Follower>>,
    pub(super) standing: Arc<Standing>,
}

impl Status {
    pub(super) fn new(draining: watch::Receiver<bool>, health: Health) -> Self {
        Self {
            draining,
            health,
            joined: OnceLock::new(),
        }
    }

    /// The process has an identity and a watch.
    pub(super) fn joined(&self, entered: Entered) {
        // Joining happens once; a second time would change nothing.
        drop(self.joined.set(entered));
    }

    /// Why this process should get no traffic; empty when it should.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut reasons = match self.joined.get() {
            Some(entered) => {
                let certificate = entered.standing.why_not_ready();
                let served = entered.served.not_ready();
                certificate.into_iter().chain(served).collect()
            }
            None => vec!["it waits for discovery to give it an identity and a watch".to_owned()],
        };
        reasons.extend(self.health.not_ready());
        if *self.draining.borrow() {
            reasons.insert(0, "it drains".to_owned());
        }
        reasons
    }

    /// The plan in force.
    pub(super) fn plan(&self) -> Value {
        match self.joined.get() {
            Some(entered) => {
                let follower = entered
                    .follower
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                follower.show()
            }
            None => json!({}),
        }
    }
}
