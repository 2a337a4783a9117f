//! All watches of one server: how many there may be, and whose each one is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_policy::identity::Identity;
use mesh_policy::plan::watch::WatchRequest;
use tokio::time::Instant;

use super::routes::unknown_watch;
use super::session::{Session, State};
use crate::metrics::Metrics;
use crate::quota::{Bounds, Quota};
use crate::refused::Refused;
use crate::store::{LeaseId, SharedStore, Unavailable};
use crate::targets::Target;

/// Watches of one server.
const MAX_WATCHES: usize = 10_000;
/// Watches of one identity, so that one workload cannot take them all.
const MAX_WATCHES_OF_ONE: usize = 2_000;
/// Watches of one identity that are open, or ended a moment ago and may come back.
const MAX_KEPT_OF_ONE: usize = 2 * MAX_WATCHES_OF_ONE;
/// What watches hold: subscriptions, labels, what was rejected; those too that ended a moment ago.
const BYTES: Bounds = Bounds {
    of: "watches",
    one: 32 * 1024 * 1024,
    all: 512 * 1024 * 1024,
};

/// All watches of one server.
#[derive(Debug)]
pub(crate) struct Sessions {
    store: SharedStore,
    metrics: Arc<Metrics>,
    quota: Arc<Quota>,
    table: Arc<Mutex<Table>>,
    /// Holds the endpoints of watches that another run of this server held.
    inherited: Mutex<Option<LeaseId>>,
}

/// The watches, and how many of them are whose.
#[derive(Debug, Default)]
struct Table {
    all: BTreeMap<String, Arc<Session>>,
    open: usize,
    of: BTreeMap<Identity, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    open: usize,
    kept: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// Those that ended and may come back do not count as open: else a blip that cuts every watch
    /// would keep them all out. They have a bound of their own.
    fn check_room(&self, identity: &Identity) -> Result<(), Refused> {
        let (open, kept) = (self.open, self.all.len());
        if open >= MAX_WATCHES || kept >= 2 * MAX_WATCHES {
            let message = format!(
                "this server holds {kept} watches, {open} of them open, and no more than {MAX_WATCHES} can be: try another replica, or in a moment"
            );
            return Err(Refused::too_many(message));
        }
        let own = self.of.get(identity).copied().unwrap_or_default();
        if own.open >= MAX_WATCHES_OF_ONE {
            let message = format!(
                "{identity} holds {MAX_WATCHES_OF_ONE} watches: one for each process is enough"
            );
            return Err(Refused::too_many(message));
        }
        if own.kept >= MAX_KEPT_OF_ONE {
            let message = format!(
                "{identity} opened {MAX_KEPT_OF_ONE} watches within seconds: try again in a moment"
            );
            return Err(Refused::too_many(message));
        }
        Ok(())
    }

    fn insert(&mut self, session: &Arc<Session>) {
        let count = self.of.entry(session.identity().clone()).or_default();
        count.open += 1;
        count.kept += 1;
        self.open += 1;
        self.all
            .insert(session.id().to_owned(), Arc::clone(session));
    }

    fn end(&mut self, session: &Session) {
        self.open -= 1;
        if let Some(count) = self.of.get_mut(session.identity()) {
            count.open -= 1;
        }
    }

    fn remove(&mut self, session: &Session) {
        if self.all.remove(session.id()).is_none() {
            return;
        }
        if let Some(count) = self.of.get_mut(session.identity()) {
            count.kept -= 1;
            if count.kept == 0 {
                self.of.remove(session.identity());
            }
        }
    }
}

/// Holds a watch open; dropping it ends the watch.
#[derive(Debug)]
pub(super) struct Open {
    session: Arc<Session>,
    metrics: Arc<Metrics>,
    table: Arc<Mutex<Table>>,
}

impl Open {
    pub(super) fn session(&self) -> &Session {
        &self.session
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.session.end();
        lock(&self.table).end(&self.session);
        self.metrics.watches.decrement(1);
        let (identity, watch) = (self.session.identity(), self.session.id());
        tracing::info!(%identity, watch, "a watch ended");
    }
}

impl Sessions {
    pub(crate) fn new(store: SharedStore, metrics: Arc<Metrics>) -> Self {
        Self {
            inherited: Mutex::new(store.inherited_lease()),
            quota: Quota::new(BYTES, metrics.watch_bytes.clone()),
            store,
            metrics,
            table: Arc::default(),
        }
    }

    /// Opens a watch for `identity`.
    pub(super) async fn open(
        &self,
        identity: &Identity,
        mut request: WatchRequest,
    ) -> Result<Open, Refused> {
        lock(&self.table).check_room(identity)?;
        let state = State::new(&mut request, self.quota.open(identity))?;
        let lease = self.store.grant_lease().await?;
        let session = Arc::new(Session::new(identity, request, (state, lease)));
        lock(&self.table).insert(&session);
        self.metrics.watches.increment(1);
        Ok(Open {
            session,
            metrics: Arc::clone(&self.metrics),
            table: Arc::clone(&self.table),
        })
    }

    /// The open watch of this id, if it is `identity`'s.
    pub(crate) fn find(&self, id: &str, identity: &Identity) -> Result<Arc<Session>, Refused> {
        let found = self.find_kept(id, identity)?;
        if found.is_open() {
            Ok(found)
        } else {
            Err(unknown_watch())
        }
    }

    /// The watch of this id, if it is `identity`'s, also if it ended a moment ago: the last report
    /// of a process may arrive after its watch has ended.
    pub(crate) fn find_kept(&self, id: &str, identity: &Identity) -> Result<Arc<Session>, Refused> {
        let found = lock(&self.table).all.get(id).cloned();
        let own = found.filter(|session| session.identity() == identity);
        // Whose it is and whether it exists is nobody else's business.
        own.ok_or_else(unknown_watch)
    }

    /// How many processes `identity` has here: watches that are open, and one for those that
    /// ended a moment ago.
    pub(crate) fn processes(&self, identity: &Identity) -> usize {
        let table = lock(&self.table);
        let count = table.of.get(identity).copied().unwrap_or_default();
        count.open.max(1)
    }

    /// The admin ports of the processes whose watches are open.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let table = lock(&self.table);
        let targets = table.all.values().filter_map(|session| session.target());
        targets.cloned().collect()
    }

    /// The watches that ended at least `grace` ago.
    pub(super) fn ended(&self, now: Instant, grace: Duration) -> Vec<Arc<Session>> {
        let table = lock(&self.table);
        let all = table.all.values();
        all.filter(|session| session.is_over(now, grace))
            .cloned()
            .collect()
    }

    /// Removes the endpoints from before the start whose processes have not come back.
    pub(super) async fn drop_inherited(&self) -> Result<(), Unavailable> {
        let Some(lease) = *lock(&self.inherited) else {
            return Ok(());
        };
        self.store.drop_lease(lease).await?;
        *lock(&self.inherited) = None;
        tracing::info!("endpoints from before the start that did not come back have left");
        Ok(())
    }

    /// Removes what `session` registered, and then the watch itself.
    pub(super) async fn remove(&self, session: &Session) -> Result<(), Unavailable> {
        self.store.drop_lease(session.lease()).await?;
        lock(&self.table).remove(session);
        self.metrics.watches_expired.increment(1);
        let (identity, watch) = (session.identity(), session.id());
        tracing::info!(%identity, watch, "a watch's endpoints left");
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use mesh_policy::plan::watch::Subscriptions;
    use mesh_policy::report::Rejection;

    use super::*;
    use crate::store::memory::Memory;

    pub(in crate::watch) fn identity(account: &str) -> Identity {
        let text = format!("spiffe://mesh.local/ns/shop/sa/{account}");
        text.parse().unwrap()
    }

    pub(in crate::watch) fn request() -> WatchRequest {
        WatchRequest {
            version: 1,
            capabilities: BTreeSet::new(),
            library: "test".into(),
            workload: "api".into(),
            instance: "api-1".into(),
            labels: BTreeMap::new(),
            admin: None,
            resume: None,
            subscriptions: Subscriptions::default(),
        }
    }

    fn sessions() -> Sessions {
        Sessions::new(Arc::new(Memory::new()), Arc::new(Metrics::new()))
    }

    #[tokio::test]
    async fn a_watch_is_its_own_identitys_and_ends_with_its_stream() {
        let sessions = sessions();
        let open = sessions.open(&identity("api"), request()).await.unwrap();
        let id = open.session().id().to_owned();
        assert!(sessions.find(&id, &identity("api")).is_ok());
        assert!(sessions.find(&id, &identity("web")).is_err());
        assert!(sessions.find("other", &identity("api")).is_err());
        drop(open);
        assert!(sessions.find(&id, &identity("api")).is_err());
    }

    #[tokio::test]
    async fn one_identity_cannot_take_all_watches() {
        let sessions = sessions();
        let mut held = Vec::new();
        for _ in 0..MAX_WATCHES_OF_ONE {
            held.push(sessions.open(&identity("api"), request()).await.unwrap());
        }
        assert!(sessions.open(&identity("api"), request()).await.is_err());
        assert!(sessions.open(&identity("web"), request()).await.is_ok());
        // A blip cuts all of them: each may come back at once, while its lease still waits for it.
        held.clear();
        for _ in 0..MAX_WATCHES_OF_ONE {
            held.push(sessions.open(&identity("api"), request()).await.unwrap());
        }
    }

    #[tokio::test]
    async fn one_identity_cannot_leave_ended_watches_without_end() {
        let sessions = sessions();
        for _ in 0..2 * MAX_WATCHES_OF_ONE {
            drop(sessions.open(&identity("api"), request()).await.unwrap());
        }
        let refused = sessions.open(&identity("api"), request()).await;
        let refused = format!("{:?}", refused.expect_err("they are too many"));
        assert!(refused.contains("4000 watches"), "{refused}");
        assert!(sessions.open(&identity("web"), request()).await.is_ok());
    }

    /// A request for `count` names of 127 bytes that nobody serves.
    fn made_up(count: usize) -> WatchRequest {
        let name = |number| format!("{number:a>63}.{}", "b".repeat(63));
        let services = (0..count).map(|number| name(number).parse().unwrap());
        WatchRequest {
            subscriptions: Subscriptions {
                services: services.collect(),
                ..Subscriptions::default()
            },
            ..request()
        }
    }

    #[tokio::test]
    async fn one_identity_cannot_fill_memory_with_made_up_names() {
        let sessions = sessions();
        let eve = identity("eve");
        let mut held = Vec::new();
        let refused = loop {
            match sessions.open(&eve, made_up(4_000)).await {
                Ok(open) => held.push(open),
                Err(refused) => break format!("{refused:?}"),
            }
        };
        assert!(held.len() < 25, "{} watches", held.len());
        let bound = format!("at most {} bytes of watches are kept", BYTES.one);
        assert!(
            refused.contains("429") && refused.contains(&bound),
            "{refused}"
        );
        // Those that are open cannot grow either, and go on as they were.
        let first = held[0].session();
        let before = made_up(4_000).subscriptions;
        assert!(first.want(made_up(5_000).subscriptions).is_err());
        assert_eq!(first.wanted().services, before.services);
        assert!(sessions.open(&identity("web"), made_up(1)).await.is_ok());
        // What they held is free once they are removed.
        held.clear();
        for session in sessions.ended(Instant::now(), Duration::ZERO) {
            sessions.remove(&session).await.unwrap();
        }
        assert!(sessions.open(&eve, made_up(4_000)).await.is_ok());
    }

    #[tokio::test]
    async fn a_watch_that_ended_is_known_to_the_last_report_and_to_nothing_else() {
        let sessions = sessions();
        let open = sessions.open(&identity("api"), request()).await.unwrap();
        let id = open.session().id().to_owned();
        drop(open);
        assert!(sessions.find(&id, &identity("api")).is_err());
        assert!(sessions.find_kept(&id, &identity("api")).is_ok());
        assert!(sessions.find_kept(&id, &identity("web")).is_err());
        for session in sessions.ended(Instant::now(), Duration::ZERO) {
            sessions.remove(&session).await.unwrap();
        }
        assert!(sessions.find_kept(&id, &identity("api")).is_err());
    }

    #[tokio::test]
    async fn only_hashes_of_what_was_rejected_are_kept() {
        let sessions = sessions();
        let open = sessions.open(&identity("api"), request()).await.unwrap();
        let rejection = |number: usize| Rejection {
            subject: format!("{number}"),
            why: "x".repeat(1_000),
        };
        let all: Vec<_> = (0..1_000).map(rejection).collect();
        let before = sessions.quota.kept();
        assert_eq!(open.session().reject(&all).unwrap().len(), 1_000);
        assert_eq!(open.session().reject(&all).unwrap().len(), 0);
        assert_eq!(open.session().reject(&all[1..]).unwrap().len(), 0);
        assert_eq!(open.session().reject(&all[..2]).unwrap(), [&all[0]]);
        drop(open.session().reject(&all));
        assert!(sessions.quota.kept() - before <= 16_000);
    }
}
