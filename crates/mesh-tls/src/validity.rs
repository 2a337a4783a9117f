//! When a certificate counts: both ends in whole seconds, both included (RFC 5280, 4.1.2.5).

use std::time::{Duration, SystemTime};

use x509_parser::certificate::X509Certificate;

/// The time between a certificate's two dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Validity {
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self {
            not_before: from_epoch(validity.not_before.timestamp()),
            not_after: from_epoch(validity.not_after.timestamp()),
        }
    }

    pub(crate) fn contains(&self, now: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// What is left when both must hold.
    pub(crate) fn intersect(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }
}

/// A date before 1970 counts as 1970: no certificate of ours is that old.
fn from_epoch(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Drops the part of a second that a certificate cannot carry.
pub(crate) fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
