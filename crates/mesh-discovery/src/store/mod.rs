//! Where discovery keeps what it must not forget, behind one trait.
//!
//! A store is an ordered map from keys to bytes with one monotonic revision.
//! Everything that must hold together is written in one [`Store::commit`]: it
//! happens whole under one revision, or not at all. Expectations on single keys
//! are the only locks there are, so that several replicas can share a store.
//! The contract is the part of etcd's that every home of records can honour.
//!
//! | keys | hold |
//! | --- | --- |
//! | `objects/<group>/<plural>/<namespace>/<name>` | what people wrote ([`object_key`]) |
//! | `tokens/<id>` | join tokens |
//! | `identities/<id>` | what was issued to whom |
//! | `endpoints/<id>` | what processes serve, under a lease |

#[cfg(test)]
mod contract;
pub(crate) mod decode;
pub mod lock;
pub mod memory;
pub mod redb;
mod state;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// The prefix of everything that people wrote.
pub const OBJECTS: &str = "objects/";

/// The key of an object: `objects/<group>/<plural>/<namespace>/<name>`.
///
/// The group of core objects is empty and the prefix then reads `objects//services/`.
#[must_use]
pub fn object_key(group: &str, plural: &str, namespace: &str, name: &str) -> String {
    format!("{OBJECTS}{group}/{plural}/{namespace}/{name}")
}

/// Any store, shared.
pub type SharedStore = Arc<dyn Store>;

/// Records, revisions and leases.
///
/// Reads see at least every commit that was acknowledged before they began.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Names this store among all others, past and future. What one remembers of a
    /// store with another name means nothing here.
    fn id(&self) -> &str;

    /// The record under `key`.
    ///
    /// The future fails with [`Unavailable`] when the store cannot be read.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, Unavailable>>;

    /// All records whose keys begin with `prefix`, in the order of their keys, at one revision.
    ///
    /// The future fails with [`Unavailable`] when the store cannot be read.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Unavailable>>;

    /// Writes all of `writes` under one new revision, which is returned, or nothing.
    ///
    /// Where nothing changes (no writes, or only deletions of what is absent), no revision is
    /// made and the latest one is returned. The future fails with [`CommitError`].
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, CommitError>>;

    /// The same for an administrator, who does not wait behind workloads where a store has a queue.
    fn commit_for_admin(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, CommitError>> {
        self.commit(writes)
    }

    /// Why nothing can be written at the moment, if that is known.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Waits until the store has ended, be it closed or broken.
    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Tells the latest revision, never a queue of them.
    fn watch(&self) -> watch::Receiver<u64>;

    /// What changed after `revision`, oldest first, all changes of one commit together.
    ///
    /// The future fails with [`ChangesError`] when that is not known any more: list anew then.
    fn changes_since(&self, revision: u64) -> BoxFuture<'_, Result<Changes, ChangesError>>;

    /// Opens a lease that lasts until it is dropped, or until the process that opened it ends.
    ///
    /// The future fails with [`Unavailable`] when the store cannot be written.
    fn grant_lease(&self) -> BoxFuture<'_, Result<LeaseId, Unavailable>>;

    /// Ends `lease` and removes all records attached to it in one commit.
    ///
    /// Returns the latest revision; a lease that is gone already changes nothing. The future
    /// fails with [`Unavailable`] when the store cannot be written; the lease then still lives.
    fn drop_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<u64, Unavailable>>;

    /// The lease of records whose lease ended with the process that opened it: a server that
    /// begins drops it once everyone had the time to come back. `None` where there are none.
    fn inherited_lease(&self) -> Option<LeaseId> {
        None
    }

    /// Finishes what was asked and lets go of files. What is asked later is refused.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Whose commits share a place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Workloads,
    Admins,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// Its bytes, shared and cheap to clone.
    pub value: Bytes,
    /// The revision of the commit that wrote it last.
    pub revision: u64,
}

/// Records at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The store's revision when the records were read.
    pub revision: u64,
    /// The records in the order of their keys.
    pub records: Vec<Record>,
}

/// What happened between two revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The store's revision that the changes lead to.
    pub revision: u64,
    /// The changes, oldest first.
    pub changes: Vec<Change>,
}

/// One key that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The bytes it now has; `None` if the record was removed.
    pub value: Option<Bytes>,
    /// The revision of the commit that did it.
    pub revision: u64,
}

/// Names a lease of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(u64);

impl LeaseId {
    /// For stores: the lease they know under this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number under which the store knows the lease.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What must be true of a key for a commit to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// There is no record.
    Absent,
    /// The record was last written at this revision.
    Revision(u64),
}

/// One change to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// The new bytes; `None` removes the record.
    pub value: Option<Bytes>,
    /// What must be true of the key.
    pub expect: Expect,
    /// The lease whose end removes the record. A write without one detaches the
    /// record from the lease it had.
    pub lease: Option<LeaseId>,
}

impl Write {
    /// Stores `value` under `key`, whatever was there.
    #[must_use]
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: Some(value.into()),
            expect: Expect::Any,
            lease: None,
        }
    }

    /// Removes what is under `key`, if anything.
    #[must_use]
    pub fn delete(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: None,
            expect: Expect::Any,
            lease: None,
        }
    }

    /// Happens only if this holds of the key.
    #[must_use]
    pub fn expecting(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }

    /// Ends with `lease`.
    #[must_use]
    pub fn leased(self, lease: LeaseId) -> Self {
        Self {
            lease: Some(lease),
            ..self
        }
    }
}

/// Why nothing of a commit was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// An expectation did not hold: read again and decide again.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// One commit writes one key twice, which has no meaning.
    #[error("the commit writes {key:?} twice: write each key once")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A write names a lease that has ended.
    #[error("lease {} has ended: grant a new one", lease.number())]
    UnknownLease {
        /// The lease.
        lease: LeaseId,
    },
    /// The store cannot be written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A key is not as a commit expected it to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key:?} has changed in between: read it again")]
pub struct Conflict {
    /// The first such key, in the order of the writes.
    pub key: String,
    /// The revision it has instead; `None` if it is absent.
    pub found: Option<u64>,
}

/// Why changes cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangesError {
    /// The history no longer reaches back so far.
    #[error(
        "the changes after revision {asked} are compacted, history begins after {oldest}: list anew"
    )]
    Compacted {
        /// The revision asked for.
        asked: u64,
        /// The oldest revision that would have been answered.
        oldest: u64,
    },
    /// The store has not come that far: the revision is another store's.
    #[error("revision {asked} is ahead of this store, which is at {latest}: list anew")]
    Ahead {
        /// The revision asked for.
        asked: u64,
        /// The latest revision.
        latest: u64,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The store cannot be reached, read or written at the moment.
#[derive(Debug, thiserror::Error)]
#[error("the store is unavailable: try again, and see the server's log if it stays so")]
pub struct Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Unavailable {
    /// Keeps what the store's own library said.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}
