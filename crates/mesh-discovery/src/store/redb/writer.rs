//! The thread that writes: the only one that decides and the only one that waits for the disk.
//!
//! What comes while a batch is written is in the next one, so that many writers share one
//! sync. A batch is acknowledged, and shown to readers, once it is on the disk. Memory holds what
//! was acknowledged and nothing else: after the disk has failed, a new file is made of it.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::file::{Content, StoreFile, place};
use super::queue::{Ask, Backlog, Reply};
use super::reserve::{self, Reserve};
use crate::store::state::Ahead;
use crate::store::{CommitError, LeaseId, Unavailable, Write};

/// How often a disk that has failed is tried again: each time all records are written.
const RETRY: Duration = Duration::from_secs(1);
const FULL: &str = "the disk is full: only deletions are written until there is room";

/// What is answered once the batch is on the disk.
enum Answer {
    Commit(Reply<Result<u64, CommitError>>, Result<u64, CommitError>),
    DropLease(Reply<Result<u64, Unavailable>>, u64),
}

/// A batch that is decided.
pub(super) struct Decided {
    pub(super) commits: Vec<(Vec<Write>, u64)>,
    dropped: Vec<LeaseId>,
    answers: Vec<Answer>,
    revision: u64,
}

/// The writer of one file.
#[derive(Debug)]
pub(super) struct Writer {
    directory: PathBuf,
    id: String,
    /// `None` after the disk has failed, until there is a new file.
    file: Option<StoreFile>,
    retry_at: Instant,
    reserve: Reserve,
    /// Whether anything was deleted since the reserve is short.
    deleted: bool,
    shared: Arc<Shared>,
    #[cfg(test)]
    faults: super::fault::Faults,
}

impl Writer {
    pub(super) fn new(
        directory: PathBuf,
        (file, id): (StoreFile, String),
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            reserve: Reserve::keep(&directory, &place(&directory)),
            directory,
            id,
            file: Some(file),
            retry_at: Instant::now(),
            deleted: false,
            shared,
            #[cfg(test)]
            faults: super::fault::Faults::default(),
        }
    }

    /// Writes until it is closed, or nobody can ask any more.
    pub(super) fn run(mut self, mut backlog: Backlog) {
        let mut closing = Vec::new();
        while let Some(batch) = backlog.next() {
            self.serve(batch.asks, &mut closing);
            if !closing.is_empty() {
                backlog.close();
            }
        }
        drop(self.file.take());
        for reply in closing {
            // The caller may have left.
            reply.send(()).ok();
        }
    }

    /// Serves a batch; those who close are answered once the file is closed.
    fn serve(&mut self, asks: Vec<Ask>, closing: &mut Vec<Reply<()>>) {
        let mended = self.mend();
        self.find_room();
        let decided = self.decide(asks, closing);
        let written = mended.and_then(|()| self.write(&decided));
        match written {
            Ok(()) => {
                if !decided.commits.is_empty() && !self.reserve.is_short() {
                    self.reserve.keep_up(&place(&self.directory));
                }
                let short = self.reserve.is_short();
                self.deleted |= short && !decided.commits.is_empty();
                self.shared.set_trouble(short.then(|| FULL.to_owned()));
                self.publish(decided);
            }
            Err(error) => {
                let cause = error.source().map(ToString::to_string);
                tracing::error!(%error, cause, "nothing can be written to the store's file");
                self.shared.set_trouble(cause);
                for answer in decided.answers {
                    answer.refuse();
                }
            }
        }
    }

    /// On a full disk: sees by and by whether there is room again, be it that others gave some back
    /// or that a new file without what was deleted is smaller.
    fn find_room(&mut self) {
        if !self.reserve.is_short() || Instant::now() < self.retry_at {
            return;
        }
        self.retry_at = Instant::now() + RETRY;
        self.reserve.keep_up(&place(&self.directory));
        if !self.reserve.is_short() || !self.deleted {
            return;
        }
        self.deleted = false;
        self.reserve.lend();
        // The old file stays in use where there is no room for another.
        if let Ok(file) = StoreFile::replace(&self.directory, &self.content()) {
            self.file = Some(file);
            self.reserve.keep_up(&place(&self.directory));
        }
    }

    /// All that is acknowledged.
    fn content(&self) -> Content {
        let state = self.shared.read();
        Content {
            id: self.id.clone(),
            revision: state.revision(),
            records: state.content(),
        }
    }

    fn decide(&self, asks: Vec<Ask>, closing: &mut Vec<Reply<()>>) -> Decided {
        let state = self.shared.read();
        let mut ahead = Ahead::of(&state);
        let mut commits = Vec::new();
        let mut dropped = Vec::new();
        let mut answers = Vec::new();
        for ask in asks {
            match ask {
                Ask::Commit { writes, reply }
                    if self.reserve.is_short() && !only_deletes(&writes) =>
                {
                    let refused = Unavailable::new(FULL);
                    answers.push(Answer::Commit(reply, Err(refused.into())));
                }
                Ask::Commit { writes, reply } => {
                    let decided = ahead.decide(&state, &writes);
                    let answer = decided.map(|made| {
                        commits.extend(made.map(|revision| (writes, revision)));
                        ahead.revision()
                    });
                    answers.push(Answer::Commit(reply, answer));
                }
                Ask::DropLease { lease, reply } => {
                    let (writes, revision) = ahead.drop_lease(&state, lease);
                    if !writes.is_empty() {
                        commits.push((writes, revision));
                    }
                    dropped.push(lease);
                    answers.push(Answer::DropLease(reply, revision));
                }
                Ask::Close { reply } => closing.push(reply),
            }
        }
        Decided {
            commits,
            dropped,
            answers,
            revision: ahead.revision(),
        }
    }

    /// Writes a batch. One that only deletes is tried once more with the room that was reserved.
    fn write(&mut self, decided: &Decided) -> Result<(), Unavailable> {
        let written = self.try_write(decided);
        let Err(error) = written else {
            return Ok(());
        };
        let deletes = decided
            .commits
            .iter()
            .all(|(writes, _)| only_deletes(writes));
        if !is_full(&error) || !self.reserve.lend() {
            return Err(error);
        }
        tracing::warn!("{FULL}");
        self.retry_at = Instant::now();
        self.mend()?;
        if deletes {
            self.try_write(decided)
        } else {
            Err(error)
        }
    }

    fn try_write(&mut self, decided: &Decided) -> Result<(), Unavailable> {
        if decided.commits.is_empty() {
            return Ok(());
        }
        let Some(file) = &self.file else {
            return Err(Unavailable::new("the store's file is closed"));
        };
        let written = file.write(&decided.commits, decided.revision);
        #[cfg(test)]
        let written = self.faults.say(decided, written);
        written.map_err(|error| {
            // How much of it reached the disk is not known: a new file takes its place.
            self.file = None;
            Unavailable::new(error)
        })
    }

    /// Shows a batch to readers and answers those who wait for it.
    fn publish(&self, decided: Decided) {
        let mut state = self.shared.state.write();
        let state = state.as_mut().unwrap_or_else(|poison| poison.get_mut());
        for lease in decided.dropped {
            state.forget_lease(lease);
        }
        for (writes, revision) in decided.commits {
            state.apply(writes, revision);
        }
        // Told under the lock, so that the revision never goes back.
        self.shared.latest.send_if_modified(|latest| {
            let newer = *latest != state.revision();
            *latest = state.revision();
            newer
        });
        for answer in decided.answers {
            answer.send();
        }
    }

    /// After the disk has failed: makes a new file of what memory holds. What was refused is not
    /// in it, however much of it had reached the old one.
    fn mend(&mut self) -> Result<(), Unavailable> {
        if self.file.is_some() {
            return Ok(());
        }
        if Instant::now() < self.retry_at {
            return Err(Unavailable::new("the disk failed a moment ago"));
        }
        self.retry_at = Instant::now() + RETRY;
        let file = StoreFile::replace(&self.directory, &self.content());
        self.file = Some(file.map_err(Unavailable::new)?);
        tracing::info!("a new store file was made of what is acknowledged");
        Ok(())
    }
}

fn only_deletes(writes: &[Write]) -> bool {
    writes.iter().all(|write| write.value.is_none())
}

/// Whether a full disk is the cause.
fn is_full(error: &Unavailable) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let io = match error.downcast_ref::<::redb::Error>() {
            Some(::redb::Error::Io(error)) => Some(error.kind()),
            _ => io,
        };
        if io.is_some_and(reserve::is_full) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Answer {
    // The caller may have left: what was decided counts all the same.

    fn send(self) {
        match self {
            Self::Commit(reply, result) => drop(reply.send(result)),
            Self::DropLease(reply, revision) => drop(reply.send(Ok(revision))),
        }
    }

    fn refuse(self) {
        let failed = || Unavailable::new("the disk refused it: see the server's log");
        match self {
            Self::Commit(reply, _) => drop(reply.send(Err(failed().into()))),
            Self::DropLease(reply, _) => drop(reply.send(Err(failed()))),
        }
    }
}
