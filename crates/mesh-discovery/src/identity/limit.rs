//! How often certificates may be asked for (J13).
//!
//! Two bounds, so that neither a stranger nor a workload can keep others waiting, fill the log, or
//! spend discovery's processor:
//!
//! - **An address** may be refused so often with a token that lets nobody in; then it waits. What
//!   it is refused costs nothing any more. Who joins with a good token is not counted, however
//!   many share the address, and a renewal asks with a certificate and not with an address.
//! - **An identity** may take so many certificates: what all of its processes need, and more.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mesh_policy::identity::Identity;
use tokio::time::Instant;

/// Refusals of one address at once, and how soon each comes back.
const REFUSALS: Rate = Rate {
    burst: 100,
    interval: Duration::from_millis(100),
};
/// Certificates of one identity at once: as many as it may have watches.
const CERTIFICATES: u32 = 2_000;
/// How soon one more comes back where leafs live long.
const CERTIFICATE_INTERVAL: Duration = Duration::from_millis(50);
/// Certificates that each process may take during the life of one.
const RENEWALS: u32 = 4;
/// Addresses, or identities, that are told apart at a time. The others share one bound.
const MOST_KEYS: usize = 10_000;
/// Refusals that are logged in one window; the others are counted.
const LOGGED: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// How often something may happen: `burst` times at once, and once more after each `interval`.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    interval: Duration,
}

/// The bounds of one server.
#[derive(Debug)]
pub(crate) struct EnrolLimits {
    refusals: Buckets<IpAddr>,
    certificates: Buckets<Identity>,
    log: Mutex<Window>,
}

/// Something happens too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOften {
    /// When to come back.
    pub(crate) wait: Duration,
}

impl EnrolLimits {
    pub(crate) fn new(leaf_ttl: Duration) -> Self {
        let interval = leaf_ttl / (CERTIFICATES * RENEWALS);
        Self {
            refusals: Buckets::new(REFUSALS),
            certificates: Buckets::new(Rate {
                burst: CERTIFICATES,
                interval: interval.min(CERTIFICATE_INTERVAL),
            }),
            log: Mutex::default(),
        }
    }

    /// Whether a token from `address` is looked at.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), TooOften> {
        self.refusals.check(&network(address), Instant::now())
    }

    /// Counts a refusal against `address`.
    pub(crate) fn refused(&self, address: IpAddr) {
        // Where there is no room it waits as it is.
        self.refusals.take(network(address), Instant::now()).ok();
    }

    /// Counts a certificate of `identity`.
    pub(crate) fn take(&self, identity: &Identity) -> Result<(), TooOften> {
        self.certificates.take(identity.clone(), Instant::now())
    }

    /// Whether a refusal is logged now, and how many were not since the last that was.
    pub(crate) fn log(&self) -> Option<u64> {
        let mut window = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        window.log(Instant::now())
    }
}

/// Whoever has one address of an IPv6 network has all of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(bits).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// For each key the time at which all that it took is forgiven.
#[derive(Debug)]
struct Buckets<K> {
    rate: Rate,
    forgiven: Mutex<HashMap<Option<K>, Instant>>,
}

impl<K: Hash + Eq> Buckets<K> {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            forgiven: Mutex::default(),
        }
    }

    /// Whether `key` could take one.
    fn check(&self, key: &K, now: Instant) -> Result<(), TooOften>
    where
        K: Clone,
    {
        let all = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let forgiven = match all.get(&Some(key.clone())) {
            Some(forgiven) => *forgiven,
            None if all.len() >= MOST_KEYS => all.get(&None).copied().unwrap_or(now),
            None => now,
        };
        self.rate.after_one(forgiven, now).map(drop)
    }

    /// Takes one for `key`, or says when there will be one.
    fn take(&self, key: K, now: Instant) -> Result<(), TooOften> {
        let mut all = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Some(key);
        if all.len() >= MOST_KEYS && !all.contains_key(&key) {
            all.retain(|_, forgiven| *forgiven > now);
            if all.len() >= MOST_KEYS {
                key = None;
            }
        }
        let forgiven = all.entry(key).or_insert(now);
        *forgiven = self.rate.after_one(*forgiven, now)?;
        Ok(())
    }
}

impl Rate {
    /// When all is forgiven if one more is taken `now`.
    fn after_one(&self, forgiven: Instant, now: Instant) -> Result<Instant, TooOften> {
        let after = forgiven.max(now) + self.interval;
        match (after - now).checked_sub(self.interval * self.burst) {
            None | Some(Duration::ZERO) => Ok(after),
            Some(wait) => Err(TooOften { wait }),
        }
    }
}

/// What was logged lately.
#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    missed: u64,
}

impl Window {
    fn log(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now >= began + WINDOW) {
            self.began = Some(now);
            self.lines = 0;
        }
        if self.lines >= LOGGED {
            self.missed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.missed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> EnrolLimits {
        EnrolLimits::new(Duration::from_secs(24 * 60 * 60))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn j13_an_address_that_is_refused_too_often_waits_and_no_other_does() {
        let limits = limits();
        let bad = address("10.0.0.1");
        for _ in 0..REFUSALS.burst {
            assert_eq!(limits.check(bad), Ok(()));
            limits.refused(bad);
        }
        let wait = limits.check(bad).unwrap_err().wait;
        assert_eq!(wait, REFUSALS.interval);
        assert!(
            limits.check(address("::ffff:10.0.0.1")).is_err(),
            "the same"
        );
        assert_eq!(limits.check(address("10.0.0.2")), Ok(()));
        tokio::time::advance(wait).await;
        assert_eq!(limits.check(bad), Ok(()));
        limits.refused(bad);
        assert!(limits.check(bad).is_err());
        tokio::time::advance(REFUSALS.interval * REFUSALS.burst).await;
        assert_eq!(limits.check(bad), Ok(()), "all is forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn j13_a_network_of_ipv6_is_one_and_many_networks_are_bounded() {
        let limits = limits();
        for host in 0..REFUSALS.burst {
            limits.refused(address(&format!("fd00::{host:x}")));
        }
        assert!(limits.check(address("fd00::ffff")).is_err());
        assert!(limits.check(address("fd00:0:0:1::1")).is_ok());
        for network in 0..2 * MOST_KEYS {
            let (high, low) = (network >> 16, network & 0xFFFF);
            limits.refused(address(&format!("fd01:{high:x}:{low:x}::1")));
        }
        let kept = limits.refusals.forgiven.lock().unwrap().len();
        assert!(kept <= MOST_KEYS + 1, "{kept}");
        assert!(
            limits.check(address("fd02::1")).is_err(),
            "they share one bound"
        );
        assert!(limits.check(address("fd01:0:1::1")).is_ok(), "it is known");
    }

    #[tokio::test(start_paused = true)]
    async fn j13_an_identity_takes_what_its_processes_need_and_takes_nothing_of_others() {
        let limits = limits();
        let web: Identity = "spiffe://mesh.local/ns/shop/sa/web".parse().unwrap();
        let api: Identity = "spiffe://mesh.local/ns/shop/sa/api".parse().unwrap();
        let mut taken = 0;
        while limits.take(&web).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, CERTIFICATES);
        assert_eq!(limits.take(&api), Ok(()));
        tokio::time::advance(CERTIFICATE_INTERVAL).await;
        assert_eq!(limits.take(&web), Ok(()));
        assert!(limits.take(&web).is_err());

        // Where leafs live for 10 s, as many processes renew again and again.
        let limits = EnrolLimits::new(Duration::from_secs(10));
        for _ in 0..10 {
            for _ in 0..CERTIFICATES * 2 {
                tokio::time::advance(Duration::from_millis(10) / 4).await;
                assert_eq!(limits.take(&web), Ok(()));
            }
        }
    }

    #[test]
    fn what_is_not_logged_is_counted() {
        let mut window = Window::default();
        let now = Instant::now();
        for _ in 0..LOGGED {
            assert_eq!(window.log(now), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(window.log(now), None);
        }
        assert_eq!(window.log(now + WINDOW), Some(1000));
        assert_eq!(window.log(now + WINDOW), Some(0));
    }
}
