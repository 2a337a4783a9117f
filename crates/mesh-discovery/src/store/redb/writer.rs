//! The thread that writes: the only one that decides and the only one that waits for the disk.
//!
//! Whoever waits while a batch is written is in the next one, so that many writers
//! share one sync. A batch is acknowledged, and shown to readers, once it is on the disk.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::file::StoreFile;
use super::{Shared, load};
use crate::store::memory::HistoryLimit;
use crate::store::state::{Ahead, State};
use crate::store::{CommitError, LeaseId, Unavailable, Write};

/// Commits that are written at once. Each may hold an apply of 8 MiB.
const BATCH: usize = 64;

type Reply<T> = oneshot::Sender<T>;

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Ask {
    Commit {
        writes: Vec<Write>,
        reply: Reply<Result<u64, CommitError>>,
    },
    DropLease {
        lease: LeaseId,
        reply: Reply<Result<u64, Unavailable>>,
    },
    Close {
        reply: Reply<()>,
    },
}

/// What is told once the batch is on the disk.
enum Answer {
    Commit(Reply<Result<u64, CommitError>>, Result<u64, CommitError>),
    DropLease(Reply<Result<u64, Unavailable>>, u64),
}

/// A batch that is decided.
struct Decided {
    commits: Vec<(Vec<Write>, u64)>,
    dropped: Vec<LeaseId>,
    answers: Vec<Answer>,
    revision: u64,
}

/// The writer of one file.
#[derive(Debug)]
pub(super) struct Writer {
    directory: PathBuf,
    /// `None` after the disk has failed, until it is opened anew.
    file: Option<StoreFile>,
    shared: Arc<Shared>,
    inherited: LeaseId,
}

impl Writer {
    pub(super) const fn new(
        directory: PathBuf,
        file: StoreFile,
        shared: Arc<Shared>,
        inherited: LeaseId,
    ) -> Self {
        Self {
            directory,
            file: Some(file),
            shared,
            inherited,
        }
    }

    /// Writes until it is told to close, or nobody can ask any more.
    pub(super) fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        while let Some(first) = asked.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = asked.try_recv()
            {
                batch.push(next);
            }
            let closing = self.serve(batch);
            if !closing.is_empty() {
                // What is asked from here on finds nobody.
                asked.close();
                drop(self.file.take());
                for reply in closing {
                    // Whoever asked may have left.
                    reply.send(()).ok();
                }
                return;
            }
        }
    }

    /// Serves a batch; who is to be told once the file is closed.
    fn serve(&mut self, batch: Vec<Ask>) -> Vec<Reply<()>> {
        let mut closing = Vec::new();
        let reopened = self.reopen();
        let decided = self.decide(batch, &mut closing);
        let written = reopened.and_then(|()| self.write(&decided));
        match written {
            Ok(()) => self.publish(decided),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "nothing can be written to the store's file");
                for answer in decided.answers {
                    answer.refuse();
                }
            }
        }
        closing
    }

    fn decide(&self, batch: Vec<Ask>, closing: &mut Vec<Reply<()>>) -> Decided {
        let state = self.shared.read();
        let mut ahead = Ahead::of(&state);
        let mut commits = Vec::new();
        let mut dropped = Vec::new();
        let mut answers = Vec::new();
        for ask in batch {
            match ask {
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

    fn write(&mut self, decided: &Decided) -> Result<(), Unavailable> {
        if decided.commits.is_empty() {
            return Ok(());
        }
        let Some(file) = &self.file else {
            return Err(Unavailable::new("the store's file is closed"));
        };
        file.write(&decided.commits, decided.revision)
            .map_err(|error| {
                // What of it reached the disk is found when the file is read anew.
                self.file = None;
                Unavailable::new(error)
            })
    }

    /// Shows a batch to readers and tells who waits for it.
    fn publish(&self, decided: Decided) {
        let mut state = self.shared.state.write();
        let state = state.as_mut().unwrap_or_else(|poison| poison.get_mut());
        for lease in decided.dropped {
            state.forget_lease(lease);
        }
        for (writes, revision) in decided.commits {
            state.apply(writes, revision);
        }
        self.tell(state.revision());
        for answer in decided.answers {
            answer.send();
        }
    }

    /// Told under the lock, so that the revision never goes back.
    fn tell(&self, revision: u64) {
        self.shared.latest.send_if_modified(|latest| {
            let newer = *latest != revision;
            *latest = revision;
            newer
        });
    }

    /// After the disk has failed: opens the file anew and takes from it what it holds, which may
    /// be more than was acknowledged.
    fn reopen(&mut self) -> Result<(), Unavailable> {
        if self.file.is_some() {
            return Ok(());
        }
        let opened = StoreFile::open(&self.directory, 0);
        let (file, content) = opened.map_err(Unavailable::new)?;
        let shared = self.shared.state.write();
        let mut shared = shared.unwrap_or_else(PoisonError::into_inner);
        if content.revision < shared.revision() {
            // Another file lies there, or none did: what was acknowledged is not in it.
            let message = "the store's file is older than what was acknowledged: put it back, or start the server anew";
            return Err(Unavailable::new(message));
        }
        let mut state = State::new(HistoryLimit::default(), content.revision);
        state.keep_leases(&shared);
        let inherited = self.inherited;
        load(&mut state, content, |key| {
            shared.lease_of(key).unwrap_or(inherited)
        });
        *shared = state;
        self.tell(shared.revision());
        self.file = Some(file);
        Ok(())
    }
}

impl Answer {
    // Whoever asked may have left: what was decided counts all the same.

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
