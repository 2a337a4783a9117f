//! One watch: whose it is, what it wants, which lease is its own.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_policy::identity::Identity;
use mesh_policy::name::ServiceName;
use mesh_policy::plan::watch::{Subscriptions, WatchRequest};
use mesh_policy::report::Rejection;
use mesh_policy::report::traffic::Direction;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::wanted::{Wanted, Wants};
use crate::compile::Workload;
use crate::quota::{Charge, OverQuota};
use crate::store::LeaseId;
use crate::targets::Target;

/// What a watch costs beside what its process chooses.
const BASE_BYTES: usize = 4_096;
/// What a label costs beside its bytes.
const LABEL_BYTES: usize = 96;
/// What is kept of a rejection.
const REJECTION_BYTES: usize = 16;

/// One watch.
#[derive(Debug)]
pub(crate) struct Session {
    id: String,
    identity: Identity,
    labels: BTreeMap<String, String>,
    target: Option<Target>,
    lease: LeaseId,
    state: Mutex<State>,
    changed: Notify,
}

/// What changes while a watch is open.
#[derive(Debug)]
pub(super) struct State {
    wants: Wants,
    /// Rejections of the latest report, hashed: whether one is new is all that is asked.
    rejections: BTreeSet<u64>,
    hasher: RandomState,
    ended: Option<Instant>,
    /// The bytes of all this.
    charge: Charge,
    /// The part of them that does not change.
    fixed: usize,
}

impl State {
    /// What `request` asks to be kept, taken out of it, as far as `charge` has room for it.
    ///
    /// # Errors
    ///
    /// [`OverQuota`] where the identity, or all of them, hold too much.
    pub(super) fn new(request: &mut WatchRequest, charge: Charge) -> Result<Self, OverQuota> {
        let labels = request.labels.iter();
        let labels = labels.map(|(key, value)| LABEL_BYTES + key.len() + value.len());
        let mut state = Self {
            wants: Wants::default(),
            rejections: BTreeSet::new(),
            hasher: RandomState::new(),
            ended: None,
            charge,
            fixed: BASE_BYTES + labels.sum::<usize>(),
        };
        state.want(std::mem::take(&mut request.subscriptions))?;
        Ok(state)
    }

    fn want(&mut self, subscriptions: Subscriptions) -> Result<(), OverQuota> {
        let mut wants = self.wants.clone();
        wants.replace(subscriptions);
        let bytes = self.bytes(&wants);
        self.charge.resize(bytes)?;
        self.wants = wants;
        Ok(())
    }

    fn bytes(&self, wants: &Wants) -> usize {
        self.fixed + wants.bytes() + self.rejections.len() * REJECTION_BYTES
    }

    /// Makes the charge what is kept, where that can only be less.
    fn shrink(&mut self) {
        let bytes = self.bytes(&self.wants);
        let shrunk = self.charge.resize(bytes);
        debug_assert!(shrunk.is_ok(), "less is never refused");
    }
}

impl Session {
    /// A watch of `identity`.
    pub(super) fn new(
        identity: &Identity,
        request: WatchRequest,
        (state, lease): (State, LeaseId),
    ) -> Self {
        let namespace = identity.workload().map_or("", |(namespace, _)| namespace);
        let names = [
            ("__meta_mesh_namespace", namespace),
            ("__meta_mesh_deployment", &request.workload),
            ("__meta_mesh_pod", &request.instance),
        ];
        let admin = request.admin.as_deref();
        Self {
            target: admin.and_then(|admin| Target::new(admin, names)),
            id: format!("{:032x}", fastrand::u128(..)),
            identity: identity.clone(),
            labels: request.labels,
            lease,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the registrations of this watch are bound to.
    pub(crate) const fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The process, as selectors see it.
    pub(super) fn workload(&self) -> Workload<'_> {
        Workload::new(&self.identity, &self.labels)
    }

    /// The admin port of the process, while the watch is open.
    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref().filter(|_| self.is_open())
    }

    /// What is wanted now.
    pub(super) fn wanted(&self) -> Arc<Subscriptions> {
        Arc::clone(self.state().wants.subscriptions())
    }

    /// What is wanted now; what is to be sent again is told once.
    pub(super) fn take_wanted(&self) -> Wanted {
        let mut state = self.state();
        let wanted = state.wants.take();
        state.shrink();
        wanted
    }

    /// Replaces what is wanted.
    ///
    /// # Errors
    ///
    /// [`OverQuota`] where that is too much; then it stays what it was.
    pub(super) fn want(&self, subscriptions: Subscriptions) -> Result<(), OverQuota> {
        self.state().want(subscriptions)?;
        self.changed.notify_one();
        Ok(())
    }

    /// Waits until something else is wanted.
    pub(super) async fn wants_change(&self) {
        self.changed.notified().await;
    }

    /// Whether the process can know of traffic of `service`: it receives what it serves, so asks
    /// for its policy, and sends to names that it asks for.
    pub(crate) fn knows(&self, direction: Direction, service: &ServiceName) -> bool {
        let state = self.state();
        let wanted = state.wants.subscriptions();
        match direction {
            Direction::Inbound => wanted.inbound.iter().any(|own| own.service == *service),
            Direction::Outbound => wanted.services.contains(service),
        }
    }

    /// Takes the rejections of the latest report; those that the one before did not have.
    ///
    /// # Errors
    ///
    /// [`OverQuota`] where they are too many to be kept.
    pub(crate) fn reject<'a>(
        &self,
        rejections: &'a [Rejection],
    ) -> Result<Vec<&'a Rejection>, OverQuota> {
        let mut state = self.state();
        let hashed = rejections.iter();
        let hashed = hashed.map(|one| state.hasher.hash_one((&one.subject, &one.why)));
        let hashed: Vec<u64> = hashed.collect();
        let known = |hash: &u64| state.rejections.contains(hash);
        let new = rejections.iter().zip(&hashed);
        let new = new.filter(|(_, hash)| !known(hash)).map(|(one, _)| one);
        let new = new.collect();
        let hashed: BTreeSet<u64> = hashed.into_iter().collect();
        let bytes = state.fixed + state.wants.bytes() + hashed.len() * REJECTION_BYTES;
        state.charge.resize(bytes)?;
        state.rejections = hashed;
        Ok(new)
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().ended.is_none()
    }

    /// Whether it ended at least `grace` ago.
    pub(super) fn is_over(&self, now: Instant, grace: Duration) -> bool {
        let ended = self.state().ended;
        ended.is_some_and(|ended| now >= ended + grace)
    }

    /// Ends it: only what a last report is checked against is kept.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = Some(Instant::now());
        state.wants.end();
        state.rejections.clear();
        state.shrink();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
