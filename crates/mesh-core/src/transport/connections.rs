//! All connections of a listener: counted, looked at now and then, and ended.
//!
//! One look every few seconds at all of them replaces timers on each, and one
//! list is what a drain waits for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_tls::accept::descriptors::{self, Descriptor};
use mesh_tls::accept::places::{Place, Places};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::activity::{Activity, Phase};
use super::limits::Limits;
use super::seen::{Fate, Patience, Seen};

/// How long a connection without a request, and without a word to write, may take to close once
/// it drains.
///
/// HTTP/2 waits for the client's word before it closes, and a client that is gone has none.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a connection that makes room for another is waited for.
const CLOSING: Duration = Duration::from_millis(5);

/// The living connections of a listener.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: Limits,
    files: Files,
    /// Of clients that have not finished their handshakes.
    half_open: Arc<Places>,
    /// Of clients without an identity whom policy refuses.
    refused: Arc<Places>,
    living: Mutex<Living>,
    emptied: Notify,
    /// Told whenever a connection is over.
    left: Notify,
}

/// Which of the process's files connections may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    /// Those that all listeners share.
    Shared,
    /// Those that listeners leave for everything else.
    Reserve,
}

#[derive(Debug, Default)]
struct Living {
    draining: bool,
    next: u64,
    by_id: HashMap<u64, Tracked>,
}

#[derive(Debug)]
struct Tracked {
    activity: Arc<Activity>,
    task: Option<AbortHandle>,
    seen: Seen,
}

impl Connections {
    /// Those of a listener.
    pub(crate) fn new(limits: Limits) -> Self {
        Self::with(limits, Files::Shared)
    }

    /// Those of a port that stays open when the listeners of the process are full.
    pub(crate) fn from_reserve(mut limits: Limits) -> Self {
        limits.connections = limits.connections.min(descriptors::limit() / 8);
        Self::with(limits, Files::Reserve)
    }

    fn with(limits: Limits, files: Files) -> Self {
        let strangers = match files {
            Files::Shared => limits.connections / 2,
            // Nobody proves anything there.
            Files::Reserve => limits.connections,
        };
        Self {
            half_open: Places::new(limits.handshakes.min(strangers)),
            refused: Places::new(strangers / 2),
            limits,
            files,
            living: Mutex::default(),
            emptied: Notify::new(),
            left: Notify::new(),
        }
    }

    /// Takes in one more connection, if need be in place of a client that has not proved who it
    /// is; `None` while draining, and at the limit where there is no such client.
    pub(crate) async fn take_in(self: &Arc<Self>) -> Option<Ticket> {
        loop {
            let left = self.left.notified();
            if let Some(ticket) = self.admit() {
                return Some(ticket);
            }
            if self.living().draining || !self.make_room() {
                return None;
            }
            // The other one closes when its task runs next. Its file may go to another listener.
            drop(tokio::time::timeout(CLOSING, left).await);
        }
    }

    /// Takes in one more connection; `None` at the limit and while draining.
    fn admit(self: &Arc<Self>) -> Option<Ticket> {
        let activity = Arc::new(Activity::default());
        let mut living = self.living();
        if living.draining {
            return None;
        }
        if living.by_id.len() >= self.limits.connections {
            return None;
        }
        let file = match self.files {
            Files::Shared => Some(Descriptor::take()?),
            Files::Reserve => None,
        };
        let id = living.next;
        living.next += 1;
        let tracked = Tracked {
            activity: Arc::clone(&activity),
            task: None,
            seen: Seen::new(activity.glance(), Instant::now()),
        };
        living.by_id.insert(id, tracked);
        Some(Ticket {
            id,
            activity,
            connections: Arc::clone(self),
            file,
        })
    }

    /// Has a connection closed whose client has not proved who it is; false if there is none.
    pub(crate) fn make_room(&self) -> bool {
        // Of those that are half-open some may be members.
        self.refused.evict() || self.half_open.evict()
    }

    /// A place for a client until it has proved who it is.
    pub(crate) fn half_open(&self, client: IpAddr) -> Place {
        self.half_open.take(client)
    }

    /// A place for a client without an identity whom policy refuses.
    pub(crate) fn refused(&self, client: IpAddr) -> Place {
        self.refused.take(client)
    }

    /// Names the task of a connection, so that it can be cut.
    pub(crate) fn attach(&self, id: u64, task: AbortHandle) {
        // A connection that is over already has left the list.
        if let Some(tracked) = self.living().by_id.get_mut(&id) {
            tracked.task = Some(task);
        }
    }

    /// Looks at all connections for ever.
    pub(crate) async fn watch(&self) {
        loop {
            tokio::time::sleep(self.limits.tick()).await;
            self.look(Instant::now());
        }
    }

    fn look(&self, now: Instant) {
        let mut living = self.living();
        let patience = Patience {
            head: self.limits.header,
            rest: if living.draining {
                FAREWELL.min(self.limits.idle)
            } else {
                self.limits.idle
            },
            unread: self.limits.unread,
            draining: living.draining,
        };
        for tracked in living.by_id.values_mut() {
            let glance = tracked.activity.glance();
            match tracked.seen.judge(glance, now, patience) {
                Fate::Keep => {}
                Fate::End => tracked.activity.end(),
                Fate::Cut => tracked.cut(),
            }
        }
    }

    /// Lets requests in flight finish, for as long as the limits say, then cuts what is left.
    pub(crate) async fn drain(&self) {
        {
            let mut living = self.living();
            living.draining = true;
            for tracked in living.by_id.values() {
                // A handshake has no request in flight to wait for.
                if tracked.activity.glance().phase != Phase::Handshake {
                    tracked.activity.end();
                } else {
                    tracked.cut();
                }
            }
        }
        if tokio::time::timeout(self.limits.drain, self.emptied())
            .await
            .is_err()
        {
            let living = self.living();
            tracing::warn!(
                connections = living.by_id.len(),
                limit = ?self.limits.drain,
                "requests still in flight at the end of the drain are cut"
            );
            living.by_id.values().for_each(Tracked::cut);
        }
    }

    /// Cuts every connection once the guard is dropped: the tasks of a listener end with it.
    pub(crate) fn cut_on_drop(self: &Arc<Self>) -> CutOnDrop {
        CutOnDrop(Arc::clone(self))
    }

    async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.living().by_id.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn living(&self) -> std::sync::MutexGuard<'_, Living> {
        // Nothing under this lock leaves the list half changed.
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Made by [`Connections::cut_on_drop`].
#[derive(Debug)]
pub(crate) struct CutOnDrop(Arc<Connections>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.living().by_id.values().for_each(Tracked::cut);
    }
}

impl Tracked {
    fn cut(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        // The task of an upgraded connection has ended already.
        self.activity.cut();
    }
}

/// A place among the living connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: u64,
    activity: Arc<Activity>,
    connections: Arc<Connections>,
    /// `None` of the reserve, which is not counted.
    file: Option<Descriptor>,
}

impl Ticket {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.connections.limits
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut living = self.connections.living();
        living.by_id.remove(&self.id);
        self.file = None;
        self.connections.left.notify_waiters();
        if living.by_id.is_empty() {
            self.connections.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::*;

    #[tokio::test]
    async fn one_connection_too_many_is_not_admitted_until_another_leaves() {
        let limits = Limits {
            connections: 1,
            ..Limits::default()
        };
        let connections = Arc::new(Connections::new(limits));
        let ticket = connections.admit().expect("the first fits");
        assert!(connections.admit().is_none());
        drop(ticket);
        assert!(connections.admit().is_some());
    }

    #[tokio::test]
    async fn p13_a_client_that_proved_nothing_gives_its_place_to_the_next_one() {
        let limits = Limits {
            connections: 2,
            ..Limits::default()
        };
        let connections = Arc::new(Connections::new(limits));
        let _member = connections.admit().expect("the first fits");
        let stranger = connections.admit().expect("the second fits");
        let place = connections.half_open([192, 0, 2, 1].into());
        let closing = async {
            place.evicted().await;
            drop(stranger);
        };
        let (next, ()) = tokio::join!(connections.take_in(), closing);
        assert!(next.is_some());
        assert!(
            connections.take_in().await.is_none(),
            "the others are members"
        );
        let place = connections.refused([192, 0, 2, 1].into());
        let closing = async {
            place.evicted().await;
            drop(next);
        };
        let (next, ()) = tokio::join!(connections.take_in(), closing);
        assert!(next.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_its_limit_and_then_cuts() {
        let connections = Arc::new(Connections::new(Limits::default()));
        let ticket = connections.admit().expect("it fits");
        ticket.activity().serves();
        let (id, activity) = (ticket.id(), Arc::clone(ticket.activity()));
        let task = tokio::spawn(async move {
            let _held = ticket;
            std::future::pending::<()>().await;
        });
        connections.attach(id, task.abort_handle());
        let started = Instant::now();
        connections.drain().await;
        assert_eq!(started.elapsed(), Duration::from_secs(120));
        assert!(activity.poll_end(&Context::from_waker(std::task::Waker::noop())));
        assert!(task.await.expect_err("it was cut").is_cancelled());
        assert!(
            connections.admit().is_none(),
            "a drained listener admits nobody"
        );
    }
}
