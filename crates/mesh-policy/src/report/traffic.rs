//! What a process has sent and received, as increments.
//!
//! A number says which increments these are. What was not acknowledged is told
//! again under the same number, so that it counts once.

use serde::{Deserialize, Serialize};

use super::latency::Latencies;
use crate::identity::Identity;
use crate::name::ServicePort;

/// What has happened since the increments before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Drawn by the process when it starts: numbers begin anew with it.
    pub source: String,
    /// Grows with each new set of increments.
    pub sequence: u64,
    /// The flows in which something happened, or a connection is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<Flow>,
}

/// The traffic between this process and one peer for one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Between whom.
    #[serde(flatten)]
    pub key: FlowKey,
    /// What succeeded.
    #[serde(default)]
    pub success: Outcomes,
    /// What failed.
    #[serde(default)]
    pub failure: Outcomes,
}

/// What tells one flow from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    /// Whether it was sent or received.
    pub direction: Direction,
    /// The service that the caller named, or that received it.
    pub service: ServicePort,
    /// Outbound: whom the split chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<ServicePort>,
    /// The other end, if it proved who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Identity>,
}

/// From where the process saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It received it.
    Inbound,
    /// It sent it.
    Outbound,
}

/// Requests that ended alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// How many.
    pub count: u64,
    /// How long the first data took, of those that had an answer.
    #[serde(default)]
    pub latency: Latencies,
}

impl Outcomes {
    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.latency.merge(&other.latency);
    }
}

impl Flow {
    /// A flow in which nothing has happened.
    #[must_use]
    pub fn new(key: FlowKey) -> Self {
        Self {
            key,
            success: Outcomes::default(),
            failure: Outcomes::default(),
        }
    }

    /// Whether nothing has happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.success.count == 0 && self.failure.count == 0
    }

    /// Adds another's outcomes, whatever its key.
    pub fn merge(&mut self, other: &Self) {
        self.success.merge(&other.success);
        self.failure.merge(&other.failure);
    }
}
