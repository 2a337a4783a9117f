//! A store that lives and ends with its process: for tests, demos and embedding.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::watch;

pub use super::state::HistoryLimit;
use super::state::{Ahead, FIRST_REVISION, State};
use super::{
    Changes, ChangesError, CommitError, LeaseId, Listing, Record, Store, Unavailable, Write,
};

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
        let state = State::new(limit, FIRST_REVISION);
        Self {
            id: format!("{:032x}", fastrand::u128(..)),
            latest: watch::Sender::new(state.revision()),
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
        let result = commit(&mut state, writes);
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
        let revision = drop_lease(&mut state, lease);
        self.publish(&state);
        drop(state);
        ready(Ok(revision)).boxed()
    }
}

impl Memory {
    fn publish(&self, state: &State) {
        self.latest.send_if_modified(|latest| {
            let newer = *latest != state.revision();
            *latest = state.revision();
            newer
        });
    }
}

fn commit(state: &mut State, writes: Vec<Write>) -> Result<u64, CommitError> {
    let mut ahead = Ahead::of(state);
    if let Some(revision) = ahead.decide(state, &writes)? {
        state.apply(writes, revision);
    }
    Ok(state.revision())
}

fn drop_lease(state: &mut State, lease: LeaseId) -> u64 {
    let mut ahead = Ahead::of(state);
    let (writes, revision) = ahead.drop_lease(state, lease);
    state.forget_lease(lease);
    state.apply(writes, revision);
    state.revision()
}
