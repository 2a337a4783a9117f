//! The latest world, and a few of those before it.
//!
//! One task follows the store and makes a [`World`] of every revision that matters;
//! revisions that come faster than that are passed over. A reader that was cut off
//! finds the world it last knew among the past ones, and is told the difference.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::{Manifest, parse_json};
use mesh_policy::name::{ServiceName, ServicePort};
use mesh_policy::plan::watch::Cursor;
use tokio::sync::watch;

use crate::compile::{Registered, Sources, World};
use crate::metrics::Metrics;
use crate::registry;
use crate::store::{ChangesError, OBJECTS, SharedStore, Unavailable};

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
        let world = Arc::new(world);
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.len() >= PAST {
            past.pop_front();
        }
        past.push_back(Arc::clone(&world));
        drop(past);
        self.latest.send_replace(world);
    }
}

/// What worlds are made of, as far as it is read from the store.
#[derive(Debug)]
pub(crate) struct Reader {
    store: SharedStore,
    domain: TrustDomain,
    revision: u64,
    objects: BTreeMap<String, Arc<Manifest>>,
    registrations: BTreeMap<String, Registered>,
    served: BTreeMap<ServiceName, BTreeSet<u16>>,
}

impl Reader {
    /// Reads everything.
    pub(crate) async fn open(store: SharedStore, domain: TrustDomain) -> Result<Self, Unreadable> {
        let mut reader = Self {
            store,
            domain,
            revision: 0,
            objects: BTreeMap::new(),
            registrations: BTreeMap::new(),
            served: BTreeMap::new(),
        };
        reader.reload().await?;
        Ok(reader)
    }

    /// What it reads from.
    pub(crate) fn store(&self) -> SharedStore {
        Arc::clone(&self.store)
    }

    async fn reload(&mut self) -> Result<(), Unreadable> {
        let listing = self.store.list("").await?;
        self.objects.clear();
        self.registrations.clear();
        self.served.clear();
        for record in listing.records {
            self.put(&record.key, Some(&record.value), record.revision)?;
        }
        self.revision = listing.revision;
        Ok(())
    }

    /// Reads what has changed; whether any of it matters to a world.
    async fn refresh(&mut self) -> Result<bool, Unreadable> {
        let changes = match self.store.changes_since(self.revision).await {
            Ok(changes) => changes,
            Err(ChangesError::Unavailable(error)) => return Err(error.into()),
            Err(ChangesError::Compacted { .. } | ChangesError::Ahead { .. }) => {
                self.reload().await?;
                return Ok(true);
            }
        };
        let mut matters = false;
        for change in &changes.changes {
            matters |= self.put(&change.key, change.value.as_deref(), change.revision)?;
        }
        self.revision = changes.revision;
        Ok(matters)
    }

    /// Takes one record, or its absence; whether it matters to a world.
    fn put(&mut self, key: &str, value: Option<&[u8]>, revision: u64) -> Result<bool, Unreadable> {
        let damaged = |why: &dyn std::fmt::Display| Unreadable::Damaged {
            key: key.to_owned(),
            revision,
            why: why.to_string(),
        };
        if key.starts_with(OBJECTS) {
            match value {
                None => drop(self.objects.remove(key)),
                Some(bytes) => {
                    let json = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
                    let manifest = parse_json(&json).map_err(|error| damaged(&error))?;
                    self.objects.insert(key.to_owned(), Arc::new(manifest));
                }
            }
        } else if key.starts_with(registry::ENDPOINTS) {
            match value {
                None => drop(self.registrations.remove(key)),
                Some(bytes) => {
                    let found = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
                    self.registrations.insert(key.to_owned(), found);
                }
            }
        } else if let Some(service) = registry::service_of(key) {
            match value {
                None => drop(self.served.remove(&service)),
                Some(bytes) => {
                    let ports = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
                    self.served.insert(service, ports);
                }
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The world as it was read.
    pub(crate) fn world(&self) -> World {
        let served = self.served.iter().flat_map(|(service, ports)| {
            ports.iter().map(|port| ServicePort {
                service: service.clone(),
                port: *port,
            })
        });
        World::new(Sources {
            cursor: Cursor {
                store: self.store.id().to_owned(),
                revision: self.revision,
            },
            domain: self.domain.clone(),
            objects: self.objects.values().cloned().collect(),
            registrations: self.registrations.values().cloned().collect(),
            served: served.collect(),
        })
    }
}

/// Publishes a world of every revision that matters, until the server ends.
pub(crate) async fn keep_current(
    mut reader: Reader,
    worlds: Arc<Worlds>,
    metrics: Arc<Metrics>,
    mut ending: watch::Receiver<bool>,
) {
    let mut revisions = reader.store.watch();
    let tell = |reader: &Reader| {
        let endpoints = reader.registrations.len();
        metrics.revision.set(precise(reader.revision));
        metrics.endpoints.set(precise(endpoints as u64));
    };
    tell(&reader);
    loop {
        // Marked as seen before it is read: what comes meanwhile wakes us again.
        revisions.mark_unchanged();
        let refreshed = reader.refresh().await;
        if matches!(refreshed, Ok(true)) {
            worlds.publish(reader.world());
            tell(&reader);
        }
        if refreshed.is_ok() {
            worlds.reached.send_replace(reader.revision);
        }
        if let Err(error) = refreshed {
            // The last good world stays in force: half of a policy is none.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "the store cannot be read: plans stay as they are");
            tokio::time::sleep(RETRY).await;
            continue;
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

/// The store holds what cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// A record is not of its form.
    #[error("the record {key:?} of revision {revision} is damaged ({why}): replace or delete it")]
    Damaged {
        /// Its key.
        key: String,
        /// When it was written.
        revision: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Write, memory::Memory, object_key};

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

    #[tokio::test]
    async fn only_what_matters_makes_a_world() {
        let store: SharedStore = Arc::new(Memory::new());
        let domain: TrustDomain = "mesh.local".parse().unwrap();
        let mut reader = Reader::open(store.clone(), domain).await.unwrap();
        let api: ServiceName = "api.shop".parse().unwrap();
        assert_eq!(reader.world().service_plan(&api, "shop"), None);

        let write = Write::put("tokens/x", "{}");
        store.commit(vec![write]).await.unwrap();
        assert!(!reader.refresh().await.unwrap());

        let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"api","namespace":"shop"},"spec":{"ports":[{"port":80}]}}"#;
        let key = object_key("", "services", "shop", "api");
        store
            .commit(vec![Write::put(&*key, service)])
            .await
            .unwrap();
        assert!(reader.refresh().await.unwrap());
        assert!(reader.world().service_plan(&api, "shop").is_some());

        store.commit(vec![Write::delete(key)]).await.unwrap();
        assert!(reader.refresh().await.unwrap());
        assert_eq!(reader.world().service_plan(&api, "shop"), None);
    }

    #[tokio::test]
    async fn a_damaged_record_is_never_passed_over() {
        let store: SharedStore = Arc::new(Memory::new());
        let key = object_key("policy.linkerd.io", "servers", "shop", "api");
        store.commit(vec![Write::put(key, "{")]).await.unwrap();
        let opened = Reader::open(store, "mesh.local".parse().unwrap()).await;
        assert!(matches!(opened, Err(Unreadable::Damaged { .. })));
    }
}
