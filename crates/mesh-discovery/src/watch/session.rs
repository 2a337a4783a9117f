//! Open watches: whose they are, what they want, which lease is theirs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_policy::identity::Identity;
use mesh_policy::name::ServiceName;
use mesh_policy::plan::watch::{Subscriptions, WatchRequest};
use mesh_policy::report::traffic::{Direction, Traffic};
use mesh_policy::report::{Rejection, Report};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::routes::unknown_watch;
use super::wanted::{Wanted, Wants};
use crate::compile::Workload;
use crate::metrics::Metrics;
use crate::refused::Refused;
use crate::store::{LeaseId, SharedStore, Unavailable};
use crate::targets::Target;

/// Watches of one server.
const MAX_WATCHES: usize = 10_000;
/// Watches of one identity, so that one workload cannot take them all.
const MAX_WATCHES_OF_ONE: usize = 2_000;
/// Watches of one identity that are open, or ended a moment ago and may come back.
const MAX_KEPT_OF_ONE: usize = 2 * MAX_WATCHES_OF_ONE;
/// One watch.
#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    identity: Identity,
    labels: BTreeMap<String, String>,
    target: Option<Target>,
    lease: LeaseId,
    wants: Mutex<Wants>,
    changed: Notify,
    ended: Mutex<Option<Instant>>,
    report: Mutex<Option<Report>>,
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
        lock(&self.wants).take()
    }

    /// Replaces what is wanted.
    pub(super) fn want(&self, subscriptions: Subscriptions) {
        lock(&self.wants).replace(subscriptions);
        self.changed.notify_one();
    }

    /// Waits until something else is wanted.
    pub(super) async fn wants_change(&self) {
        self.changed.notified().await;
    }

    /// Whether the process asked for the policy of `service`, as those do that serve it.
    fn serves(&self, service: &ServiceName) -> bool {
        let wants = lock(&self.wants);
        let mut inbound = wants.subscriptions().inbound.iter();
        inbound.any(|served| served.service == *service)
    }

    /// Takes out the flows that the process can know nothing of; how many there were.
    pub(crate) fn keep_own(&self, traffic: &mut Traffic) -> usize {
        let told = traffic.flows.len();
        traffic.flows.retain(|flow| match flow.key.direction {
            Direction::Inbound => self.serves(&flow.key.service.service),
            Direction::Outbound => true,
        });
        told - traffic.flows.len()
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
    /// Holds the endpoints of watches that another run of this server held.
    inherited: Mutex<Option<LeaseId>>,
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
            inherited: Mutex::new(store.inherited_lease()),
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
        let namespace = identity.workload().map_or("", |(namespace, _)| namespace);
        let names = [
            ("__meta_mesh_namespace", namespace),
            ("__meta_mesh_deployment", &request.workload),
            ("__meta_mesh_pod", &request.instance),
        ];
        let admin = request.admin.as_deref();
        let session = Session {
            target: admin.and_then(|admin| Target::new(admin, names)),
            id: format!("{:032x}", fastrand::u128(..)),
            identity: identity.clone(),
            labels: request.labels,
            lease: self.store.grant_lease().await?,
            wants: Mutex::default(),
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
        // Those that ended and may come back do not count as open: else a blip that cuts every
        // watch would keep them all out. They have a bound of their own.
        let is_open = |session: &&Arc<Session>| lock(&session.ended).is_none();
        let open = all.values().filter(is_open).count();
        let kept = all.len();
        if open >= MAX_WATCHES || kept >= 2 * MAX_WATCHES {
            let message = format!(
                "this server holds {kept} watches, {open} of them open, and no more than {MAX_WATCHES} can be: try another replica, or in a moment"
            );
            return Err(Refused::too_many(message));
        }
        let own = all.values().filter(|session| session.identity == *identity);
        if own.clone().filter(is_open).count() >= MAX_WATCHES_OF_ONE {
            let message = format!(
                "{identity} holds {MAX_WATCHES_OF_ONE} watches: one for each process is enough"
            );
            return Err(Refused::too_many(message));
        }
        if own.count() >= MAX_KEPT_OF_ONE {
            let message = format!(
                "{identity} opened {MAX_KEPT_OF_ONE} watches within seconds: try again in a moment"
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

    /// The admin ports of the processes whose watches are open.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let all = lock(&self.all);
        let open = all.values().filter(|s| lock(&s.ended).is_none());
        open.filter_map(|session| session.target.clone()).collect()
    }

    /// The watches that ended at least `grace` ago.
    pub(super) fn ended(&self, now: Instant, grace: Duration) -> Vec<Arc<Session>> {
        let is_over = |session: &&Arc<Session>| {
            let ended = *lock(&session.ended);
            ended.is_some_and(|ended| now >= ended + grace)
        };
        lock(&self.all).values().filter(is_over).cloned().collect()
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
        let Session { id, identity, .. } = session;
        self.store.drop_lease(session.lease).await?;
        lock(&self.all).remove(id);
        self.metrics.watches_expired.increment(1);
        tracing::info!(%identity, watch = id, "a watch's endpoints left");
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

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
}
