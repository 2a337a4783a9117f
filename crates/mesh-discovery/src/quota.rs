//! How many bytes are kept for callers: for each identity, and in total.
//!
//! A bound by count is none where the caller chooses the size. What is kept is measured in
//! bytes, roughly and rather too high, before it is kept; what would be too much is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_policy::identity::Identity;
use metrics::Gauge;

/// The most that is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// What is bounded, as refusals name it.
    pub(crate) of: &'static str,
    /// Bytes for one identity.
    pub(crate) one: usize,
    /// Bytes for all identities.
    pub(crate) all: usize,
}

/// Counts the bytes that are kept for each identity.
pub(crate) struct Quota {
    bounds: Bounds,
    /// Shows the total.
    gauge: Gauge,
    held: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    all: usize,
    of: BTreeMap<Identity, usize>,
}

/// Bytes that are kept for an identity; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Charge {
    quota: Arc<Quota>,
    identity: Identity,
    bytes: usize,
}

impl Quota {
    pub(crate) fn new(bounds: Bounds, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            gauge,
            held: Mutex::default(),
        })
    }

    /// Nothing yet, of what will be kept for `identity`.
    pub(crate) fn open(self: &Arc<Self>, identity: &Identity) -> Charge {
        Charge {
            quota: Arc::clone(self),
            identity: identity.clone(),
            bytes: 0,
        }
    }

    /// The bytes that are kept for all identities.
    pub(crate) fn kept(&self) -> usize {
        self.lock().all
    }

    fn change(&self, identity: &Identity, from: usize, to: usize) -> Result<(), OverQuota> {
        let mut kept = self.lock();
        let of_one = kept.of.get(identity).copied().unwrap_or_default();
        let (one, all) = (of_one - from + to, kept.all - from + to);
        let Bounds { of, .. } = self.bounds;
        if to > from && one > self.bounds.one {
            let (identity, most) = (identity.clone(), self.bounds.one);
            return Err(OverQuota::One { identity, of, most });
        }
        if to > from && all > self.bounds.all {
            let most = self.bounds.all;
            return Err(OverQuota::All { of, most });
        }
        kept.all = all;
        if one == 0 {
            kept.of.remove(identity);
        } else if let Some(bytes) = kept.of.get_mut(identity) {
            *bytes = one;
        } else {
            kept.of.insert(identity.clone(), one);
        }
        #[expect(clippy::cast_precision_loss, reason = "it is shown, not counted with")]
        self.gauge.set(all as f64);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quota")
            .field("bounds", &self.bounds)
            .field("all", &self.kept())
            .finish_non_exhaustive()
    }
}

impl Charge {
    /// Makes it `bytes`. Less is never refused.
    ///
    /// # Errors
    ///
    /// [`OverQuota`] when there is no room for more; it stays what it was.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), OverQuota> {
        self.quota.change(&self.identity, self.bytes, bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let freed = self.resize(0);
        debug_assert!(freed.is_ok(), "less is never refused");
    }
}

/// There is no room for what was to be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OverQuota {
    /// The identity holds as much as one may.
    #[error(
        "at most {most} bytes of {of} are kept for {identity}: let some go, or give some of its processes another identity"
    )]
    One {
        /// Whose bound.
        identity: Identity,
        /// Of what.
        of: &'static str,
        /// The bound.
        most: usize,
    },
    /// All of them together hold as much as they may.
    #[error("at most {most} bytes of {of} are kept for all identities: try again in a moment")]
    All {
        /// Of what.
        of: &'static str,
        /// The bound.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(account: &str) -> Identity {
        let text = format!("spiffe://mesh.local/ns/shop/sa/{account}");
        text.parse().unwrap()
    }

    fn quota() -> Arc<Quota> {
        let (one, all) = (100, 250);
        Quota::new(
            Bounds {
                of: "tests",
                one,
                all,
            },
            Gauge::noop(),
        )
    }

    #[test]
    fn one_identity_has_its_bound_and_all_have_another() {
        let quota = quota();
        let names = ["a", "b", "c"].map(identity);
        let mut charges: Vec<_> = names.iter().map(|name| quota.open(name)).collect();
        let mut second = quota.open(&names[0]);
        assert_eq!(charges[0].resize(60), Ok(()));
        assert_eq!(second.resize(40), Ok(()));
        let refused = second.resize(41).unwrap_err().to_string();
        assert!(refused.starts_with("at most 100 bytes of tests are kept for spiffe:"));
        assert_eq!(charges[1].resize(100), Ok(()));
        assert_eq!(charges[2].resize(50), Ok(()));
        let refused = charges[2].resize(51).unwrap_err().to_string();
        assert!(refused.starts_with("at most 250 bytes of tests are kept for all"));
        // What was refused changed nothing, and less is always taken.
        assert_eq!(second.resize(10), Ok(()));
        assert_eq!(charges[2].resize(80), Ok(()));
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let quota = quota();
        for _ in 0..1_000 {
            let mut charge = quota.open(&identity("a"));
            assert_eq!(charge.resize(100), Ok(()));
        }
        assert_eq!(quota.lock().all, 0);
        assert!(quota.lock().of.is_empty());
    }
}
