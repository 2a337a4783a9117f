//! Records, leases and the near past in memory: what every store of this process reads from.
//!
//! What will be written is decided ahead of it ([`Ahead`]), so that a store can put
//! several decided commits on the disk at once before any reader sees one of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{
    Change, Changes, ChangesError, CommitError, Conflict, Expect, LeaseId, Listing, Record, Write,
};

/// How much of the past a store can tell.
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

#[derive(Debug)]
struct Entry {
    value: Bytes,
    revision: u64,
    lease: Option<LeaseId>,
}

/// What readers are told.
#[derive(Debug)]
pub(super) struct State {
    revision: u64,
    records: BTreeMap<String, Entry>,
    leases: BTreeMap<LeaseId, BTreeSet<String>>,
    next_lease: u64,
    history: History,
}

/// The revision of a store in which nothing was ever written: Kubernetes gives resource
/// version 0 a meaning of its own.
pub(super) const FIRST_REVISION: u64 = 1;

impl State {
    /// Nothing, at `revision`; what came before it is not known.
    pub(super) fn new(limit: HistoryLimit, revision: u64) -> Self {
        Self {
            revision,
            records: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_lease: 1,
            history: History::new(limit, revision),
        }
    }

    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes a record that was written before this process began.
    pub(super) fn load(&mut self, record: Record, lease: Option<LeaseId>) {
        let Record {
            key,
            value,
            revision,
        } = record;
        if let Some(keys) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
            keys.insert(key.clone());
        }
        let entry = Entry {
            value,
            revision,
            lease,
        };
        self.records.insert(key, entry);
    }

    /// Every record, each with whether it ends with a lease.
    pub(super) fn content(&self) -> Vec<(Record, bool)> {
        let all = self.records.iter();
        let content = all.map(|(key, entry)| {
            let record = Record {
                key: key.clone(),
                value: entry.value.clone(),
                revision: entry.revision,
            };
            (record, entry.lease.is_some())
        });
        content.collect()
    }

    pub(super) fn record(&self, key: &str) -> Option<Record> {
        self.records.get(key).map(|entry| Record {
            key: key.to_owned(),
            value: entry.value.clone(),
            revision: entry.revision,
        })
    }

    pub(super) fn list(&self, prefix: &str) -> Listing {
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

    /// Writes what was decided.
    pub(super) fn apply(&mut self, writes: Vec<Write>, revision: u64) {
        self.revision = revision;
        for write in writes {
            self.apply_one(write);
        }
        self.history.trim();
    }

    fn apply_one(&mut self, write: Write) {
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

    pub(super) fn grant_lease(&mut self) -> LeaseId {
        let lease = LeaseId::new(self.next_lease);
        self.next_lease += 1;
        self.leases.insert(lease, BTreeSet::new());
        lease
    }

    /// Ends a lease; what was attached to it is removed by whoever decided that.
    pub(super) fn forget_lease(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
    }

    pub(super) fn changes_since(&self, asked: u64) -> Result<Changes, ChangesError> {
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

/// What a key will be once all that is decided is written.
#[derive(Debug)]
struct Fate {
    revision: Option<u64>,
    lease: Option<LeaseId>,
}

/// Commits that are decided and that no reader sees yet.
#[derive(Debug)]
pub(super) struct Ahead {
    revision: u64,
    keys: BTreeMap<String, Fate>,
    dropped: BTreeSet<LeaseId>,
}

impl Ahead {
    /// Nothing is decided beyond `state`.
    pub(super) fn of(state: &State) -> Self {
        Self {
            revision: state.revision,
            keys: BTreeMap::new(),
            dropped: BTreeSet::new(),
        }
    }

    /// The revision that all decided commits lead to.
    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether `writes` can be written over `state` and what is decided already; the revision
    /// they get, or `None` where they change nothing.
    pub(super) fn decide(
        &mut self,
        state: &State,
        writes: &[Write],
    ) -> Result<Option<u64>, CommitError> {
        self.check(state, writes)?;
        let changes = writes
            .iter()
            .any(|write| write.value.is_some() || self.found(state, &write.key).is_some());
        if !changes {
            return Ok(None);
        }
        self.take(writes);
        Ok(Some(self.revision))
    }

    /// What the end of `lease` removes, and the revision that does it.
    pub(super) fn drop_lease(&mut self, state: &State, lease: LeaseId) -> (Vec<Write>, u64) {
        let old = state.leases.get(&lease).into_iter().flatten();
        let old = old.filter(|key| !self.keys.contains_key(*key));
        let new = self.keys.iter();
        let new = new.filter(|(_, fate)| fate.lease == Some(lease));
        let keys: BTreeSet<_> = old.chain(new.map(|(key, _)| key)).collect();
        let writes: Vec<_> = keys.into_iter().map(|key| Write::delete(&**key)).collect();
        self.dropped.insert(lease);
        if !writes.is_empty() {
            self.take(&writes);
        }
        (writes, self.revision)
    }

    fn found(&self, state: &State, key: &str) -> Option<u64> {
        match self.keys.get(key) {
            Some(fate) => fate.revision,
            None => state.records.get(key).map(|entry| entry.revision),
        }
    }

    fn take(&mut self, writes: &[Write]) {
        self.revision += 1;
        for write in writes {
            let is_put = write.value.is_some();
            let fate = Fate {
                revision: is_put.then_some(self.revision),
                lease: write.lease.filter(|_| is_put),
            };
            self.keys.insert(write.key.clone(), fate);
        }
    }

    /// Everything that can go wrong is found here, before anything is written.
    fn check(&self, state: &State, writes: &[Write]) -> Result<(), CommitError> {
        let mut keys = BTreeSet::new();
        for write in writes {
            if !keys.insert(&write.key) {
                let key = write.key.clone();
                return Err(CommitError::DuplicateKey { key });
            }
            if let Some(lease) = write.lease
                && (self.dropped.contains(&lease) || !state.leases.contains_key(&lease))
            {
                return Err(CommitError::UnknownLease { lease });
            }
            let found = self.found(state, &write.key);
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
