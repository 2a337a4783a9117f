//! What a server says of the requests that it denies.
//!
//! A metric counts every denial and names no rule; a line for each one would let any client fill a
//! disk. So each client and `Server` has one line a second, which says how many others there were.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Denied;

/// How often a client and a `Server` are named at most.
const PAUSE: Duration = Duration::from_secs(1);
/// How many pairs of a client and a `Server` are named in that time; further ones are counted.
const MAX_PAIRS: usize = 100;

/// The denials of one listener, as its log has them.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    pairs: HashMap<Arc<Denied>, Said>,
    /// Denials of pairs beyond the bound that no line has named.
    others: u64,
}

/// When a pair was named last, and how often it was denied since.
#[derive(Debug)]
struct Said {
    at: Instant,
    since: u64,
}

impl Denials {
    /// Logs that a request was denied, unless its pair was named within the last second.
    pub(crate) fn note(&self, denied: &Arc<Denied>) {
        let now = Instant::now();
        let mut recent = self.recent();
        let suppressed = recent.note(denied, now);
        let full = recent.pairs.len() >= MAX_PAIRS;
        drop(recent);
        if let Some(suppressed) = suppressed {
            log(denied, suppressed);
        }
        if suppressed.is_some() || full {
            self.say_due(now);
        }
    }

    /// Logs, for ever, what was only counted.
    pub(crate) async fn watch(&self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            self.say_due(Instant::now());
        }
    }

    fn say_due(&self, now: Instant) {
        let (due, others) = self.recent().due(now);
        for (denied, suppressed) in due {
            log(&denied, suppressed);
        }
        if others > 0 {
            tracing::info!(denied = others, "requests of further clients were denied");
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Nothing under this lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    /// How many denials the line of this one stands for beside it; `None` if there is none to be.
    fn note(&mut self, denied: &Arc<Denied>, now: Instant) -> Option<u64> {
        if let Some(said) = self.pairs.get_mut(denied) {
            if now.duration_since(said.at) < PAUSE {
                said.since += 1;
                return None;
            }
            said.at = now;
            return Some(std::mem::take(&mut said.since));
        }
        if self.pairs.len() >= MAX_PAIRS {
            self.others += 1;
            return None;
        }
        let said = Said { at: now, since: 0 };
        self.pairs.insert(Arc::clone(denied), said);
        Some(0)
    }

    /// What is to be said of pairs that were named more than a second ago: those that were denied
    /// since, each with how many denials its line stands for beside one, and how often others were.
    fn due(&mut self, now: Instant) -> (Vec<(Arc<Denied>, u64)>, u64) {
        let mut due = Vec::new();
        let mut freed = false;
        self.pairs.retain(|denied, said| {
            if now.duration_since(said.at) < PAUSE {
                return true;
            }
            let since = std::mem::take(&mut said.since);
            if let Some(suppressed) = since.checked_sub(1) {
                due.push((Arc::clone(denied), suppressed));
                said.at = now;
            } else {
                freed = true;
            }
            since > 0
        });
        // Once a second, as all lines: while the pairs are full, each of them was just named.
        let others = match freed || self.pairs.is_empty() || !due.is_empty() {
            true => std::mem::take(&mut self.others),
            false => 0,
        };
        (due, others)
    }
}

/// Whoever chooses these names must not be able to write lines of their own.
fn log(denied: &Denied, suppressed: u64) {
    tracing::info!(
        client = %denied.client.escape_debug(),
        server = %denied.by().escape_debug(),
        rules = %denied.rules.escape_debug(),
        reason = denied.reason.word(),
        suppressed,
        "a request was denied: {}",
        denied.reason,
    );
}

#[cfg(test)]
mod tests {
    use mesh_policy::authorize::DenyReason;
    use mesh_policy::name::ObjectRef;

    use super::*;

    fn denied(client: &str) -> Arc<Denied> {
        Arc::new(Denied {
            server: ObjectRef::builtin("some-server"),
            client: client.to_owned(),
            rules: String::new(),
            reason: DenyReason::NoneFits,
        })
    }

    #[test]
    fn z19_a_pair_has_one_line_a_second_and_every_denial_is_in_one() {
        let mut recent = Recent::default();
        let start = Instant::now();
        let web = denied("web");
        let (mut lines, mut suppressed) = (0, 0);
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            if let Some(others) = recent.note(&web, now) {
                (lines, suppressed) = (lines + 1, suppressed + others);
            }
        }
        assert_eq!(lines, 10);
        let (due, others) = recent.due(start + Duration::from_secs(11));
        assert_eq!((due.len(), others), (1, 0));
        assert_eq!(lines + suppressed + 1 + due[0].1, 10_000);
        let (due, _) = recent.due(start + Duration::from_secs(20));
        assert!(
            due.is_empty() && recent.pairs.is_empty(),
            "and it is forgotten"
        );
    }

    #[test]
    fn z19_clients_beyond_the_bound_are_counted_together() {
        let mut recent = Recent::default();
        let start = Instant::now();
        let named = (0..MAX_PAIRS + 20)
            .filter(|n| recent.note(&denied(&n.to_string()), start).is_some())
            .count();
        assert_eq!(named, MAX_PAIRS);
        assert_eq!(recent.due(start), (Vec::new(), 0), "not yet");
        let (due, others) = recent.due(start + PAUSE);
        assert_eq!((due.len(), others), (0, 20));
        assert!(recent.note(&denied("late"), start + PAUSE).is_some());
    }
}
