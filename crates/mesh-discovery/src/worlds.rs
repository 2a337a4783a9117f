//! The latest world, and a few of those before it.
//!
//! One task follows the store and makes a [`World`] of every revision that matters;
//! revisions that come faster than that are passed over. A reader that was cut off
//! finds the world it last knew among the past ones, and is told the difference.

mod reader;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_policy::plan::watch::Cursor;
use tokio::sync::watch;

use crate::compile::World;
use crate::metrics::Metrics;

pub(crate) use self::reader::Reader;

/// Past worlds from which a reader can be told the difference. They share what has not
/// changed only in part, so this bounds memory.
const PAST: usize = 32;
/// How long to wait when the store cannot be read.
const RETRY: Duration = Duration::from_secs(1);
/// How long an answer to a write waits for the world that holds it. The write counts all
/// the same; only who reads at once may then still be told of the world before.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The latest world and the past ones, shared by all watches.
#[derive(Debug)]
pub(crate) struct Worlds {
    latest: watch::Sender<Arc<World>>,
    /// Up to where the store was read, also where nothing mattered.
    reached: watch::Sender<u64>,
    past: Mutex<VecDeque<Arc<World>>>,
}

impl Worlds {
    pub(crate) fn new(first: World) -> Self {
        let first = Arc::new(first);
        Self {
            reached: watch::Sender::new(first.cursor().revision),
            latest: watch::Sender::new(Arc::clone(&first)),
            past: Mutex::new(VecDeque::from([first])),
        }
    }

    pub(crate) fn latest(&self) -> Arc<World> {
        self.latest.borrow().clone()
    }

    /// Tells of newer worlds, always the latest, never a queue.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<World>> {
        self.latest.subscribe()
    }

    /// The world that a reader stands at, if it is still known.
    pub(crate) fn at(&self, cursor: &Cursor) -> Option<Arc<World>> {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.iter().find(|world| world.cursor() == cursor).cloned()
    }

    /// Waits until what was written up to `revision` is in the latest world, or long enough.
    pub(crate) async fn caught_up(&self, revision: u64) {
        let mut reached = self.reached.subscribe();
        let there = reached.wait_for(|reached| *reached >= revision);
        if tokio::time::timeout(CATCH_UP, there).await.is_err() {
            tracing::warn!(revision, "the latest world lags behind the store");
        }
    }

    pub(crate) fn publish(&self, world: World) {
        let world = Arc::new(world.after(&self.latest()));
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() >= PAST {
            past.pop_front();
        }
        past.push_back(Arc::clone(&world));
        drop(past);
        self.latest.send_replace(world);
    }
}

/// Publishes a world of every revision that matters, until the server ends.
pub(crate) async fn keep_current(
    mut reader: Reader,
    worlds: Arc<Worlds>,
    metrics: Arc<Metrics>,
    mut ending: watch::Receiver<bool>,
) {
    let store = reader.store();
    let mut revisions = store.watch();
    let tell = |reader: &Reader| {
        metrics.revision.set(precise(reader.revision()));
        metrics.endpoints.set(precise(reader.endpoints() as u64));
        metrics.unreadable.set(precise(reader.unreadable() as u64));
    };
    tell(&reader);
    loop {
        // Marked as seen before it is read: what comes meanwhile wakes us again.
        revisions.mark_unchanged();
        match reader.refresh().await {
            Ok(matters) => {
                if matters {
                    worlds.publish(reader.world());
                    tell(&reader);
                }
                worlds.reached.send_replace(reader.revision());
            }
            Err(error) => {
                // The last good world stays in force: half of a policy is none.
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "the store cannot be read: plans stay as they are");
                tokio::select! {
                    _ = ending.wait_for(|ending| *ending) => return,
                    () = tokio::time::sleep(RETRY) => continue,
                }
            }
        }
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => return,
            changed = revisions.changed() => if changed.is_err() { return },
        }
    }
}

/// A gauge is a float: exact up to 2^53, which no revision reaches.
#[expect(
    clippy::cast_precision_loss,
    reason = "no revision or count reaches 2^53"
)]
fn precise(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::compile::Sources;
    use crate::store::memory::Memory;
    use crate::store::{Store, Write, object_key};

    fn world(revision: u64) -> World {
        World::new(Sources {
            cursor: Cursor {
                store: "s".to_owned(),
                revision,
            },
            domain: "mesh.local".parse().unwrap(),
            objects: Vec::new(),
            registrations: Vec::new(),
            served: BTreeSet::new(),
        })
    }

    #[test]
    fn past_worlds_are_found_by_cursor_and_are_bounded() {
        let worlds = Worlds::new(world(1));
        for revision in 2..100 {
            worlds.publish(world(revision));
        }
        let at = |store: &str, revision| {
            let store = store.to_owned();
            worlds.at(&Cursor { store, revision }).is_some()
        };
        assert!(at("s", 99) && at("s", 98));
        assert!(!at("s", 1), "the ring is bounded");
        assert!(!at("other", 99), "another store's revisions mean nothing");
        assert!(!at("s", 100));
        assert_eq!(worlds.latest().cursor().revision, 99);
    }

    #[tokio::test(start_paused = true)]
    async fn c18_an_unreadable_record_delays_no_answer_to_a_write() {
        let store = Arc::new(Memory::new());
        let domain = "mesh.local".parse().unwrap();
        let reader = Reader::open(store.clone(), domain).await.unwrap();
        let worlds = Arc::new(Worlds::new(reader.world()));
        let (_end, ending) = watch::channel(false);
        let metrics = Arc::new(Metrics::new());
        let following = keep_current(reader, Arc::clone(&worlds), metrics, ending);
        drop(tokio::spawn(following));
        let key = object_key("", "services", "shop", "api");
        store.commit(vec![Write::put(key, "{")]).await.unwrap();
        let write = Write::put("services/shop/web", "[80]");
        let revision = store.commit(vec![write]).await.unwrap();
        let asked = tokio::time::Instant::now();
        worlds.caught_up(revision).await;
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert_eq!(worlds.latest().cursor().revision, revision);
    }
}
