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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(weights: &[u32]) -> Split {
        let backend = |&weight: &u32| Backend {
            weight,
            target: Target::Service("api.shop:80".parse().unwrap()),
        };
        Split::new(weights.iter().map(backend).collect())
    }

    /// Draws from the middle of equal parts of the whole range, so that shares are exact up to rounding.
    fn shares(split: &Split, draws: u64) -> Vec<u64> {
        let mut counts = vec![0; split.backends().len()];
        for step in 0..draws {
            let draw = Draw((2 * step + 1) * (u64::MAX / (2 * draws)));
            counts[split.choose(draw).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn p04_shares_are_the_weights_and_zero_gets_nothing() {
        assert_eq!(shares(&split(&[95, 0, 5]), 100_000), [95_000, 0, 5_000]);
    }

    /// A stream of draws that is the same on every run (`SplitMix64`, Steele 2014).
    fn stream() -> impl Iterator<Item = Draw> {
        let golden = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (1u64..).map(golden).map(|seed| {
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            Draw(z ^ (z >> 31))
        })
    }

    #[test]
    fn p04_random_draws_pass_the_chi_square_test() {
        const DRAWS: u32 = 100_000;
        let weights = [95, 0, 5, 1, 99];
        let split = split(&weights);
        let mut counts = [0u32; 5];
        for draw in stream().take(DRAWS as usize) {
            counts[split.choose(draw).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        let chi_square: f64 = weights
            .iter()
            .zip(counts)
            .filter(|(weight, _)| **weight > 0)
            .map(|(weight, count)| {
                let expected = f64::from(DRAWS) * f64::from(*weight) / 200.0;
                (f64::from(count) - expected).powi(2) / expected
            })
            .sum();
        // Four backends leave three degrees of freedom; 16.3 is exceeded once in a thousand.
        assert!(chi_square < 16.3, "{chi_square} {counts:?}");
    }

    #[test]
    fn a_backend_that_cannot_be_called_keeps_its_share() {
        let service = TargetPlan::Service("api.shop:80".parse().unwrap());
        let invalid = TargetPlan::Invalid {
            name: "gone.shop".into(),
            reason: "BackendNotFound".into(),
            message: "apply the Service gone.shop".into(),
        };
        let plans = [(1, service), (1, invalid)];
        let plans = plans.map(|(weight, target)| BackendPlan {
            weight,
            target,
            filters: Vec::new(),
        });
        let split = Split::from(plans.as_slice());
        assert_eq!(shares(&split, 1_000), [500, 500]);
        let second = &split.backends()[1].target;
        assert!(matches!(second, Target::Invalid { name, .. } if name == "gone.shop"));
    }

    #[test]
    fn p04_no_weight_at_all_chooses_nobody() {
        assert_eq!(split(&[]).choose(Draw(7)), None);
        assert_eq!(split(&[0, 0]).choose(Draw(u64::MAX)), None);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let counts = shares(&split(&[u32::MAX, u32::MAX]), 1_000);
        assert_eq!(counts, [500, 500]);
    }

    proptest! {
        #[test]
        fn what_is_chosen_has_a_weight(weights in proptest::collection::vec(0u32..3, 0..6), draw: u64) {
            match split(&weights).choose(Draw(draw)) {
                Some(index) => prop_assert!(weights[index] > 0),
                None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
            }
        }
    }
}
