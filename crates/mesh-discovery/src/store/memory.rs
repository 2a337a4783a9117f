//! A store that lives and ends with its process: for tests, demos and embedding.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::watch;

use super::{
    Change, Changes, ChangesError, CommitError, Conflict, Expect, LeaseId, Listing, Record, Store,
    Unavailable, Write,
};

/// How much of the past [`Memory`] can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimit {
    /// Changes kept, 10,000 by default. Too few, and readers that come back must read
    /// everything anew.
    pub changes: usize,
    /// Bytes of values kept, 64 MiB by default, so that large objects do not fill memory.
    pub bytes: usize,
}

impl Default for HistoryLimit {
    fn default() -> Self {
        Self {
            changes: 10_000,
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// Records in memory.
#[derive(Debug)]
pub struct Memory {
    id: String,
    state: RwLock<State>,
    latest: watch::Sender<u64>,
}

impl Memory {
    /// An empty store with a new name, at revision 1.
    #[must_use]
    pub fn new() -> Self {
        Self::with_history(HistoryLimit::default())
    }

    /// An empty store that remembers this much of the past.
    #[must_use]
    pub fn with_history(limit: HistoryLimit) -> Self {
        let state = State::new(limit);
        Self {
            id: format!("{:032x}", fastrand::u128(..)),
            latest: watch::Sender::new(state.revision),
            state: RwLock::new(state),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state
            .read()
            .expect("nothing panics while it changes the state")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state
            .write()
            .expect("nothing panics while it changes the state")
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for Memory {
    fn id(&self) -> &str {
        &self.id
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, Unavailable>> {
        let found = self.read().record(key);
        ready(Ok(found)).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        let listing = self.read().list(prefix);
        ready(Ok(listing)).boxed()
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, CommitError>> {
        // The revision is published under the lock, so that it never goes back.
        let mut state = self.write();
        let result = state.commit(writes);
        self.publish(&state);
        drop(state);
        ready(result).boxed()
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    fn changes_since(&self, revision: u64) -> BoxFuture<'_, Result<Changes, ChangesError>> {
        let changes = self.read().changes_since(revision);
        ready(changes).boxed()
    }

    fn grant_lease(&self) -> BoxFuture<'_, Result<LeaseId, Unavailable>> {
        let lease = self.write().grant_lease();
        ready(Ok(lease)).boxed()
    }

    fn drop_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<u64, Unavailable>> {
        let mut state = self.write();
        let revision = state.drop_lease(lease);
        self.publish(&state);
        drop(state);
        ready(Ok(revision)).boxed()
    }
}

impl Memory {
    fn publish(&self, state: &State) {
        self.latest.send_if_modified(|latest| {
            let newer = *latest != state.revision;
            *latest = state.revision;
            newer
        });
    }
}

#[derive(Debug)]
struct Entry {
    value: Bytes,
    revision: u64,
    lease: Option<LeaseId>,
}

#[derive(Debug)]
struct State {
    revision: u64,
    records: BTreeMap<String, Entry>,
    leases: BTreeMap<LeaseId, BTreeSet<String>>,
    next_lease: u64,
    history: History,
}

impl State {
    fn new(limit: HistoryLimit) -> Self {
        // Kubernetes gives resource version 0 a meaning of its own.
        let revision = 1;
        Self {
            revision,
            records: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_lease: 1,
            history: History::new(limit, revision),
        }
    }

    fn record(&self, key: &str) -> Option<Record> {
        self.records.get(key).map(|entry| Record {
            key: key.to_owned(),
            value: entry.value.clone(),
            revision: entry.revision,
        })
    }

    fn list(&self, prefix: &str) -> Listing {
        let records = self
            .records
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| Record {
                key: key.clone(),
                value: entry.value.clone(),
                revision: entry.revision,
            })
            .collect();
        Listing {
            revision: self.revision,
            records,
        }
    }

    fn commit(&mut self, writes: Vec<Write>) -> Result<u64, CommitError> {
        self.check(&writes)?;
        let changes = writes
            .iter()
            .any(|write| write.value.is_some() || self.records.contains_key(&write.key));
        if changes {
            self.revision += 1;
            for write in writes {
                self.apply(write);
            }
            self.history.trim();
        }
        Ok(self.revision)
    }

    /// Everything that can go wrong is found here, before anything is written.
    fn check(&self, writes: &[Write]) -> Result<(), CommitError> {
        let mut keys = BTreeSet::new();
        for write in writes {
            if !keys.insert(&write.key) {
                let key = write.key.clone();
                return Err(CommitError::DuplicateKey { key });
            }
            if let Some(lease) = write.lease
                && !self.leases.contains_key(&lease)
            {
                return Err(CommitError::UnknownLease { lease });
            }
            let found = self.records.get(&write.key).map(|entry| entry.revision);
            let holds = match write.expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Revision(revision) => found == Some(revision),
            };
            if !holds {
                let key = write.key.clone();
                return Err(Conflict { key, found }.into());
            }
        }
        Ok(())
    }

    fn apply(&mut self, write: Write) {
        let Write {
            key, value, lease, ..
        } = write;
        let before = match &value {
            Some(value) => {
                let entry = Entry {
                    value: value.clone(),
                    revision: self.revision,
                    lease,
                };
                self.records.insert(key.clone(), entry)
            }
            None => match self.records.remove(&key) {
                Some(entry) => Some(entry),
                None => return,
            },
        };
        if let Some(keys) = before
            .and_then(|entry| entry.lease)
            .and_then(|lease| self.leases.get_mut(&lease))
        {
            keys.remove(&key);
        }
        if value.is_some()
            && let Some(keys) = lease.and_then(|lease| self.leases.get_mut(&lease))
        {
            keys.insert(key.clone());
        }
        self.history.push(Change {
            key,
            value,
            revision: self.revision,
        });
    }

    fn grant_lease(&mut self) -> LeaseId {
        let lease = LeaseId::new(self.next_lease);
        self.next_lease += 1;
        self.leases.insert(lease, BTreeSet::new());
        lease
    }

    fn drop_lease(&mut self, lease: LeaseId) -> u64 {
        let keys = self.leases.remove(&lease).unwrap_or_default();
        if !keys.is_empty() {
            self.revision += 1;
            for key in keys {
                self.apply(Write::delete(key));
            }
            self.history.trim();
        }
        self.revision
    }

    fn changes_since(&self, asked: u64) -> Result<Changes, ChangesError> {
        let latest = self.revision;
        if asked > latest {
            return Err(ChangesError::Ahead { asked, latest });
        }
        let oldest = self.history.oldest;
        if asked < oldest {
            return Err(ChangesError::Compacted { asked, oldest });
        }
        Ok(Changes {
            revision: latest,
            changes: self.history.after(asked),
        })
    }
}

/// The latest changes, whole commits only.
#[derive(Debug)]
struct History {
    limit: HistoryLimit,
    changes: VecDeque<Change>,
    bytes: usize,
    /// Every change after this revision is in `changes`.
    oldest: u64,
}

impl History {
    fn new(limit: HistoryLimit, oldest: u64) -> Self {
        Self {
            limit,
            changes: VecDeque::new(),
            bytes: 0,
            oldest,
        }
    }

    fn push(&mut self, change: Change) {
        self.bytes += size(&change);
        self.changes.push_back(change);
    }

    /// Forgets whole commits, oldest first, until the rest fits.
    fn trim(&mut self) {
        let fits = |history: &Self| {
            history.changes.len() <= history.limit.changes && history.bytes <= history.limit.bytes
        };
        while !fits(self)
            && let Some(first) = self.changes.front().map(|change| change.revision)
        {
            let commit = self.changes.partition_point(|c| c.revision == first);
            let forgotten: usize = self.changes.drain(..commit).map(|c| size(&c)).sum();
            self.bytes -= forgotten;
            self.oldest = first;
        }
    }

    fn after(&self, revision: u64) -> Vec<Change> {
        let known = self.changes.partition_point(|c| c.revision <= revision);
        self.changes.range(known..).cloned().collect()
    }
}

fn size(change: &Change) -> usize {
    change.key.len() + change.value.as_ref().map_or(0, Bytes::len)
}
