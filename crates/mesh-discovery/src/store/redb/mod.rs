//! A store in one file of the data directory: what is acknowledged is on the disk.
//!
//! ```text
//! commit ─▶ queue ─▶ writer thread: decide a batch ─▶ file, synced ─▶ memory ─▶ acknowledge
//! get, list, changes ◀──────────────────────────────────────────────── memory
//! ```
//!
//! Readers are told from memory and never see what is not on the disk yet, so no revision
//! can mean two things. Leased records are kept on the disk too: after a restart they
//! belong to the inherited lease until their processes have come back, or had the time to.
//! After the disk has failed, a new file is made of what memory holds.

#[cfg(test)]
mod fault;
mod file;
mod queue;
mod reserve;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::watch;

#[cfg(test)]
pub(crate) use self::fault::{FULL, PANIC, REFUSED};
pub use self::file::OpenError;
use self::file::{Content, StoreFile};
use self::queue::{Ask, Queue};
use self::writer::Writer;
use super::lock::DirectoryLock;
use super::memory::HistoryLimit;
use super::state::{FIRST_REVISION, State};
use super::{
    Changes, ChangesError, CommitError, Lane, LeaseId, Listing, Record, Store, Unavailable, Write,
};

/// Records in a file.
#[derive(Debug)]
pub struct Redb {
    id: String,
    shared: Arc<Shared>,
    queue: Queue,
    inherited: Option<LeaseId>,
}

/// What the writer tells readers.
#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    latest: watch::Sender<u64>,
    /// Why nothing can be written.
    trouble: Mutex<Option<String>>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl Redb {
    /// Opens the store in `directory`, or makes an empty one where there never was any.
    ///
    /// It blocks: the whole file is read and checked. `lock` is held until the file is closed;
    /// a caller that lives longer holds it too.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the file cannot be used, is damaged or was lost: nothing is ever
    /// mended by forgetting.
    pub fn open(directory: &Path, lock: Option<DirectoryLock>) -> Result<Self, OpenError> {
        let (file, content) = StoreFile::open(directory, FIRST_REVISION)?;
        let id = content.id.clone();
        let mut state = State::new(HistoryLimit::default(), content.revision);
        let lease = state.grant_lease();
        let inherited = content.records.iter().any(|(_, leased)| *leased);
        load(&mut state, content, lease);
        let latest = watch::Sender::new(state.revision());
        let state = RwLock::new(state);
        let shared = Arc::new(Shared {
            state,
            latest,
            trouble: Mutex::default(),
        });
        let (queue, backlog) = queue::queue();
        let file = (file, id.clone());
        let writer = Writer::new(directory.to_owned(), file, Arc::clone(&shared));
        let run = move || {
            writer.run(backlog);
            drop(lock);
        };
        thread::Builder::new()
            .name("mesh-store".to_owned())
            .spawn(run)
            .map_err(|source| OpenError::File {
                path: directory.to_owned(),
                source,
            })?;
        Ok(Self {
            id,
            shared,
            queue,
            inherited: inherited.then_some(lease),
        })
    }
}

/// Fills `state` with what a file holds; its leased records belong to `lease`.
fn load(state: &mut State, content: Content, lease: LeaseId) {
    for (record, leased) in content.records {
        state.load(record, leased.then_some(lease));
    }
}

impl Store for Redb {
    fn id(&self) -> &str {
        &self.id
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, Unavailable>> {
        let found = self.shared.read().record(key);
        ready(Ok(found)).boxed()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        let listing = self.shared.read().list(prefix);
        ready(Ok(listing)).boxed()
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, CommitError>> {
        let make = |reply| Ask::Commit { writes, reply };
        async move { self.queue.ask(Lane::Workloads, make).await? }.boxed()
    }

    fn commit_for_admin(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, CommitError>> {
        let make = |reply| Ask::Commit { writes, reply };
        async move { self.queue.ask(Lane::Admins, make).await? }.boxed()
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.shared.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        self.queue.ended().boxed()
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.shared.latest.subscribe()
    }

    fn changes_since(&self, revision: u64) -> BoxFuture<'_, Result<Changes, ChangesError>> {
        let changes = self.shared.read().changes_since(revision);
        ready(changes).boxed()
    }

    fn grant_lease(&self) -> BoxFuture<'_, Result<LeaseId, Unavailable>> {
        // A lease is a number of this process; only the records under it are on the disk.
        let mut state = self.shared.state.write();
        let lease = state.as_mut().map(|state| state.grant_lease());
        ready(lease.map_err(|_| Unavailable::new("the store is closed"))).boxed()
    }

    fn drop_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<u64, Unavailable>> {
        let make = move |reply| Ask::DropLease { lease, reply };
        async move { self.queue.ask(Lane::Workloads, make).await? }.boxed()
    }

    fn inherited_lease(&self) -> Option<LeaseId> {
        self.inherited
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        // If it cannot be asked, it is closed already.
        let closed = self.queue.ask(Lane::Admins, |reply| Ask::Close { reply });
        async move { drop(closed.await) }.boxed()
    }
}
