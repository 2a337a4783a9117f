//! The lines of one watch.
//!
//! The stream is pulled by the connection, only as fast as the reader takes it; in
//! between nothing is made. What is pending are references, written out one line at a time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use mesh_policy::plan::watch::{Change, Cursor, Event};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::feed::Feed;
use super::sessions::Open;
use crate::compile::World;
use crate::identity::token::seconds;
use crate::worlds::Worlds;

/// How long a watch is silent at most. Readers give up after 10 s.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// One watch, as it is being told.
pub(super) struct Telling {
    open: Open,
    worlds: watch::Receiver<Arc<World>>,
    ending: watch::Receiver<bool>,
    feed: Feed,
    /// Where the reader stands once it has been told all but the last pending step.
    stands: Cursor,
    /// Where it stands after that.
    leads: Cursor,
    welcome: Option<Change>,
    silent_since: Instant,
}

impl Telling {
    /// Begins a watch; a reader that knows a past world is told from there.
    pub(super) fn new(
        open: Open,
        worlds: &Worlds,
        resume: Option<&Cursor>,
        ending: watch::Receiver<bool>,
    ) -> Self {
        let mut follow = worlds.follow();
        follow.mark_changed();
        let known = resume.and_then(|cursor| worlds.at(cursor));
        let session = open.session();
        let feed = known
            .as_ref()
            .map(|then| Feed::resume(then, &session.wanted(), &session.workload()));
        let stands = match &known {
            Some(then) => then.cursor().clone(),
            // Before the beginning: whoever breaks off here has nothing.
            None => Cursor {
                store: worlds.latest().cursor().store.clone(),
                revision: 0,
            },
        };
        let welcome = Change::Welcome {
            watch: session.id().to_owned(),
            replica: REPLICA.to_owned(),
            now: seconds(SystemTime::now()),
            reset: known.is_none(),
        };
        Self {
            open,
            worlds: follow,
            ending,
            feed: feed.unwrap_or_default(),
            leads: stands.clone(),
            stands,
            welcome: Some(welcome),
            silent_since: Instant::now(),
        }
    }

    /// The lines, until the server ends.
    pub(super) fn lines(self) -> impl Stream<Item = Result<Bytes, serde_json::Error>> + Send {
        unfold(Some(self), |telling| async move {
            let mut telling = telling?;
            let event = telling.next().await?;
            match line(&event) {
                Ok(line) => Some((Ok(line), Some(telling))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next(&mut self) -> Option<Event> {
        let change = self.next_change().await?;
        self.silent_since = Instant::now();
        Some(Event {
            cursor: self.stands.clone(),
            change,
        })
    }

    async fn next_change(&mut self) -> Option<Change> {
        if let Some(welcome) = self.welcome.take() {
            return Some(welcome);
        }
        loop {
            if *self.ending.borrow() {
                return None;
            }
            if let Some(step) = self.feed.next_step() {
                if self.feed.is_told() {
                    self.stands = self.leads.clone();
                }
                return Some(step.into_change());
            }
            match self.wait().await {
                Wake::News => self.advance(),
                Wake::Silence => {
                    let now = seconds(SystemTime::now());
                    return Some(Change::Heartbeat { now });
                }
                Wake::End => return None,
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let heartbeat = self.silent_since + HEARTBEAT;
        tokio::select! {
            biased;
            _ = self.ending.wait_for(|ending| *ending) => Wake::End,
            changed = self.worlds.changed() => match changed {
                Ok(()) => Wake::News,
                Err(_) => Wake::End,
            },
            () = self.open.session().wants_change() => Wake::News,
            () = sleep_until(heartbeat) => Wake::Silence,
        }
    }

    fn advance(&mut self) {
        let world = self.worlds.borrow_and_update().clone();
        let session = self.open.session();
        let wanted = session.take_wanted();
        self.feed.advance(&world, wanted, &session.workload());
        self.leads = world.cursor().clone();
        if self.feed.is_told() {
            self.stands = self.leads.clone();
        }
    }
}

/// Why a watch that had nothing to tell goes on.
enum Wake {
    News,
    Silence,
    End,
}

/// The name of this server among those that share a store: the memory store is never shared.
const REPLICA: &str = "only";

fn line(event: &Event) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line.into())
}
