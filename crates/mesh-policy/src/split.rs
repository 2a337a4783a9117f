//! Which backend of a rule a request goes to.
//!
//! Every request draws for itself, so that a change of weights moves only new
//! requests and needs no state. A backend that cannot be called keeps its
//! share, as Gateway API asks: silently moving it elsewhere would hide the fault
//! and shift load nobody planned for.

use crate::draw::Draw;
use crate::name::ServicePort;
use crate::plan::outbound::{BackendPlan, TargetPlan};

/// The backends of a rule and their shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    backends: Vec<Backend>,
    total: u64,
}

/// One place a rule sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its share is this over the sum of all weights.
    pub weight: u32,
    /// Where that share goes.
    pub target: Target,
}

/// A backend that can be called, or why it cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A port of a service.
    Service(ServicePort),
    /// Its share is answered 500, as Gateway API says.
    Invalid {
        /// The backend as it was written.
        name: String,
        /// Gateway API's reason, such as `BackendNotFound`.
        reason: String,
        /// What is wrong, and the remedy.
        message: String,
    },
}

impl Split {
    /// Divides by the weights of `backends`.
    #[must_use]
    pub fn new(backends: Vec<Backend>) -> Self {
        let total = backends
            .iter()
            .map(|backend| u64::from(backend.weight))
            .sum();
        Self { backends, total }
    }

    /// The backends, in the order that [`Split::choose`] counts.
    #[must_use]
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The index of the backend that `draw` falls on; `None` when no weight is above 0.
    #[must_use]
    pub fn choose(&self, draw: Draw) -> Option<usize> {
        let mut rest = draw.below(self.total);
        for (index, backend) in self.backends.iter().enumerate() {
            let weight = u64::from(backend.weight);
            if rest < weight {
                return Some(index);
            }
            rest -= weight;
        }
        None
    }
}

impl From<&[BackendPlan]> for Split {
    fn from(plans: &[BackendPlan]) -> Self {
        let backend = |plan: &BackendPlan| Backend {
            weight: plan.weight,
            target: match plan.target.clone() {
                TargetPlan::Service(port) => Target::Service(port),
                TargetPlan::Invalid {
                    name,
                    reason,
                    message,
                } => Target::Invalid {
                    name,
                    reason,
                    message,
                },
            },
        };
        Self::new(plans.iter().map(backend).collect())
    }
}
