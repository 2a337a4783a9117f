//! Open files: a limit of the whole process, which its listeners share.
//!
//! A process that has none left can neither accept nor call, and its admin port is as dead as the
//! others. So listeners leave a reserve for everything else, however many sockets strangers open.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections that the listeners of this process hold.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// How many files this process may have open; `usize::MAX` where there is no limit.
#[must_use]
pub fn limit() -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};
        let soft = getrlimit(Resource::Nofile).current;
        soft.map_or(usize::MAX, |soft| soft.try_into().unwrap_or(usize::MAX))
    }
    #[cfg(not(unix))]
    usize::MAX
}

/// Raises the soft limit of open files to the hard one, for a program's start: a library never
/// does so by itself. Returns the limit that holds then.
///
/// # Errors
///
/// The system's, which leaves the limit as it was.
pub fn raise() -> io::Result<usize> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum {
            let current = maximum;
            setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
        }
    }
    Ok(limit())
}

/// How many connections listeners may hold where `limit` files may be open: all but a quarter, but
/// 64 at least, or half of a small limit.
#[must_use]
pub const fn for_listeners(limit: usize) -> usize {
    const LEAST: usize = 64;
    let quarter = limit / 4;
    let reserve = if quarter > LEAST { quarter } else { LEAST };
    let half = limit / 2;
    limit - if reserve < half { reserve } else { half }
}

/// One connection of a listener, counted until dropped.
#[derive(Debug)]
pub struct Descriptor(());

impl Descriptor {
    /// One more connection; `None` if the rest is the reserve.
    #[must_use]
    pub fn take() -> Option<Self> {
        Self::below(for_listeners(limit()))
    }

    fn below(most: usize) -> Option<Self> {
        let more = |held| (held < most).then_some(held + 1);
        let taken = HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        // Only what was counted is made: what is made is counted back when it is dropped.
        taken.ok().map(|_| Self(()))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p13_a_reserve_is_left_of_every_limit() {
        for (limit, listeners) in [
            (0, 0),
            (1, 1),
            (64, 32),
            (128, 64),
            (256, 192),
            (1_024, 768),
            (1_048_576, 786_432),
        ] {
            assert_eq!(for_listeners(limit), listeners, "of {limit}");
        }
        assert_eq!(for_listeners(usize::MAX), usize::MAX - usize::MAX / 4);
    }

    #[test]
    fn p13_listeners_take_no_more_descriptors_than_are_theirs() {
        // The count is the process's: no other test of this crate takes one.
        let taken = [Descriptor::below(2), Descriptor::below(2)];
        assert!(taken.iter().all(Option::is_some));
        for _ in 0..3 {
            assert!(Descriptor::below(2).is_none());
            assert_eq!(HELD.load(Ordering::Relaxed), 2);
        }
        drop(taken);
        assert_eq!(HELD.load(Ordering::Relaxed), 0);
        assert!(Descriptor::take().is_some(), "a test may open files");
    }
}
