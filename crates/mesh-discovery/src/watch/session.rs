//! Open watches, their leases, and how they end.
//!
//! A watch that ends is not gone: for a grace its endpoints stay, so that a process
//! that lost its connection opens another watch and registers again without a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_policy::identity::Identity;
use mesh_policy::name::ServicePort;
use mesh_policy::plan::watch::{Subscriptions, WatchRequest};
use mesh_policy::report::{Rejection, Report};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::routes::unknown_watch;
use crate::compile::Workload;
use crate::metrics::Metrics;
use crate::refused::Refused;
use crate::store::{LeaseId, SharedStore};

/// How long the endpoints of a watch outlive it.
const GRACE: Duration = Duration::from_secs(5);
/// How often ended watches are looked at.
const TICK: Duration = Duration::from_millis(500);
/// A tick so late means that this server itself was stopped or starved.
const STALL: Duration = Duration::from_secs(3);
/// How long nobody is expired after a stall: everyone's connection looks dead at once then.
const INDULGENCE: Duration = Duration::from_secs(30);
/// Watches of one server.
const MAX_WATCHES: usize = 10_000;
/// Watches of one identity, so that one workload cannot take them all.
const MAX_WATCHES_OF_ONE: usize = 2_000;

/// One watch.
#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    identity: Identity,
    labels: BTreeMap<String, String>,
    lease: LeaseId,
    wanted: Mutex<Wanted>,
    changed: Notify,
    ended: Mutex<Option<Instant>>,
    report: Mutex<Option<Report>>,
}

/// What a reader wants to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) subscriptions: Arc<Subscriptions>,
    /// Sets to be told whole; those of several requests until they are taken.
    pub(super) resend: BTreeSet<ServicePort>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What the registrations of this watch are bound to.
    pub(crate) const fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The process, as selectors see it.
    pub(super) fn workload(&self) -> Workload<'_> {
        Workload::new(&self.identity, &self.labels)
    }

    /// What is wanted now; what is to be sent again is told once.
    pub(super) fn take_wanted(&self) -> Wanted {
        let mut wanted = lock(&self.wanted);
        let resend = std::mem::take(&mut wanted.resend);
        Wanted {
            subscriptions: Arc::clone(&wanted.subscriptions),
            resend,
        }
    }

    /// Replaces what is wanted.
    pub(super) fn want(&self, mut subscriptions: Subscriptions) {
        let resend = std::mem::take(&mut subscriptions.resend);
        let mut wanted = lock(&self.wanted);
        wanted.resend.extend(resend);
        // Bounded: only what is subscribed to can be sent again, and that is.
        if wanted.subscriptions.services != subscriptions.services
            || wanted.subscriptions.inbound != subscriptions.inbound
        {
            wanted.subscriptions = Arc::new(subscriptions);
        }
        drop(wanted);
        self.changed.notify_one();
    }

    /// Waits until something else is wanted.
    pub(super) async fn wants_change(&self) {
        self.changed.notified().await;
    }

    /// Keeps the latest report; what it rejects that the one before did not.
    pub(crate) fn report(&self, report: Report) -> Vec<Rejection> {
        let mut kept = lock(&self.report);
        let before = kept.as_ref().map_or(&[][..], |before| &before.rejections);
        let new = report.rejections.iter();
        let new = new.filter(|rejection| !before.contains(rejection));
        let new = new.cloned().collect();
        *kept = Some(report);
        new
    }
}

/// All watches of one server.
#[derive(Debug)]
pub(crate) struct Sessions {
    store: SharedStore,
    metrics: Arc<Metrics>,
    all: Mutex<BTreeMap<String, Arc<Session>>>,
}

/// Holds a watch open; dropping it ends the watch.
#[derive(Debug)]
pub(super) struct Open {
    session: Arc<Session>,
    metrics: Arc<Metrics>,
}

impl Open {
    pub(super) fn session(&self) -> &Session {
        &self.session
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        *lock(&self.session.ended) = Some(Instant::now());
        self.metrics.watches.decrement(1);
        let Session { id, identity, .. } = &*self.session;
        tracing::info!(%identity, watch = id, "a watch ended");
    }
}

impl Sessions {
    pub(crate) fn new(store: SharedStore, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            metrics,
            all: Mutex::default(),
        }
    }

    /// Opens a watch for `identity`.
    pub(super) async fn open(
        &self,
        identity: &Identity,
        request: WatchRequest,
    ) -> Result<Open, Refused> {
        self.check_room(identity)?;
        let session = Session {
            id: format!("{:032x}", fastrand::u128(..)),
            identity: identity.clone(),
            labels: request.labels,
            lease: self.store.grant_lease().await?,
            wanted: Mutex::default(),
            changed: Notify::new(),
            ended: Mutex::new(None),
            report: Mutex::new(None),
        };
        session.want(request.subscriptions);
        let session = Arc::new(session);
        lock(&self.all).insert(session.id.clone(), Arc::clone(&session));
        self.metrics.watches.increment(1);
        Ok(Open {
            session,
            metrics: Arc::clone(&self.metrics),
        })
    }

    fn check_room(&self, identity: &Identity) -> Result<(), Refused> {
        let all = lock(&self.all);
        if all.len() >= MAX_WATCHES {
            let message = format!("this server holds {MAX_WATCHES} watches: try another replica");
            return Err(Refused::too_many(message));
        }
        let own = all.values().filter(|session| session.identity == *identity);
        if own.count() >= MAX_WATCHES_OF_ONE {
            let message = format!(
                "{identity} holds {MAX_WATCHES_OF_ONE} watches: one for each process is enough"
            );
            return Err(Refused::too_many(message));
        }
        Ok(())
    }

    /// The open watch of this id, if it is `identity`'s.
    pub(crate) fn find(&self, id: &str, identity: &Identity) -> Result<Arc<Session>, Refused> {
        let found = lock(&self.all).get(id).cloned();
        let own =
            found.filter(|session| session.identity == *identity && lock(&session.ended).is_none());
        // Whose it is and whether it exists is nobody else's business.
        own.ok_or_else(unknown_watch)
    }

    /// Removes the endpoints of the watches whose grace is over.
    async fn expire(&self, now: Instant) {
        let over: Vec<_> = lock(&self.all)
            .values()
            .filter(|session| {
                let ended = *lock(&session.ended);
                ended.is_some_and(|ended| now >= ended + GRACE)
            })
            .cloned()
            .collect();
        for session in over {
            let Session { id, identity, .. } = &*session;
            match self.store.drop_lease(session.lease).await {
                Ok(_) => {
                    lock(&self.all).remove(id);
                    self.metrics.watches_expired.increment(1);
                    tracing::info!(%identity, watch = id, "a watch's endpoints left");
                }
                // The lease still lives: the next tick tries again.
                Err(error) => tracing::warn!(%error, watch = id, "a lease could not be ended"),
            }
        }
    }
}

/// Ends leases as their time comes, until the server ends.
pub(crate) async fn expire(sessions: Arc<Sessions>, mut ending: watch::Receiver<bool>) {
    let mut last = Instant::now();
    let mut indulgent_until = last;
    loop {
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let now = Instant::now();
        if now - last > TICK + STALL {
            tracing::warn!(stalled = ?(now - last), "this server was stopped: nobody expires for a while");
            indulgent_until = now + INDULGENCE;
        }
        last = now;
        if now >= indulgent_until {
            sessions.expire(now).await;
        }
    }
}

#[cfg(test)]
mod tests;
