//! Applies what discovery tells.
//!
//! A plan becomes current only once the endpoints of all its backends are known:
//! a split that moved traffic to a backend before its endpoints arrived would
//! answer 503 for what was fine a moment ago.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_policy::name::{ServiceAddress, ServiceName, ServicePort};
use mesh_policy::plan::endpoint::{EndpointDelta, EndpointSet};
use mesh_policy::plan::inbound::InboundPlan;
use mesh_policy::plan::outbound::ServicePlan;
use mesh_policy::plan::part::Part;
use mesh_policy::plan::watch::{Change, Cursor, Event};
use mesh_policy::report::Rejection;
use serde_json::{Value, json};

use super::Served;
use crate::plans::{Answer, Backend, Outfit, Plans, Service, needs};

/// Applies events; what it has applied stays in force when the watch is lost.
#[derive(Debug)]
pub(super) struct Follower {
    plans: Arc<Plans>,
    served: Arc<Served>,
    outfit: Outfit,
    services: BTreeMap<ServiceName, Followed>,
    sets: BTreeMap<ServicePort, Set>,
    /// Sets whose delta did not fit.
    misfits: BTreeSet<ServicePort>,
    progress: Progress,
    /// Up to where what was told is in force.
    applied: Option<Cursor>,
}

/// A service that was told.
#[derive(Debug, Default)]
struct Followed {
    /// The plan in force.
    plan: Option<ServicePlan>,
    /// What the plan in force needs.
    current: BTreeSet<ServicePort>,
    /// A newer plan, and what it needs.
    pending: Option<(ServicePlan, BTreeSet<ServicePort>)>,
    rejections: Vec<Rejection>,
    /// The plan in force as it is compiled.
    compiled: Option<Arc<Service>>,
}

/// The endpoints of a backend.
#[derive(Debug)]
struct Set {
    endpoints: EndpointSet,
    backend: Arc<Backend>,
    /// Whether they were told since the last reset.
    arrived: bool,
}

/// How far a reader has come.
///
/// Several events may share a revision, and a stream may break between two of
/// them: a revision is known to be whole only when a later one, or a heartbeat, comes.
#[derive(Debug, Default)]
struct Progress {
    whole: Option<Cursor>,
    begun: Option<Cursor>,
}

impl Follower {
    pub(super) fn new(plans: Arc<Plans>, served: Arc<Served>, outfit: Outfit) -> Self {
        Self {
            plans,
            served,
            outfit,
            services: BTreeMap::new(),
            sets: BTreeMap::new(),
            misfits: BTreeSet::new(),
            progress: Progress::default(),
            applied: None,
        }
    }

    /// Where a new watch may resume. Discovery tells it every plan again, and every endpoint set
    /// as the difference from that cursor: a set that was on its way does not fit, and is asked
    /// for whole. So a large set that breaks off does not bring the others with it.
    pub(super) fn resume(&self) -> Option<Cursor> {
        self.progress.whole.clone()
    }

    /// What was told may be half applied: the next watch begins anew. All of it stays in force.
    pub(super) fn distrust(&mut self) {
        self.progress = Progress::default();
        self.forget();
    }

    /// Up to where everything that was told is in force: a plan that waits for endpoints and a
    /// set that did not fit hold it back.
    pub(super) fn applied(&self) -> Option<&Cursor> {
        self.applied.as_ref()
    }

    /// Whether something was told that is not in force.
    fn is_behind(&self) -> bool {
        let pending = |service: &Followed| service.pending.is_some();
        !self.misfits.is_empty() || self.services.values().any(pending)
    }

    /// Notes that everything up to `cursor` is in force. A watch that begins anew tells again
    /// what is: nothing goes back for that, unless the store is another one.
    fn note_applied(&mut self, cursor: &Cursor) {
        let older = self
            .applied
            .as_ref()
            .is_some_and(|now| now.store == cursor.store && now.revision > cursor.revision);
        if !older && !self.is_behind() {
            self.applied = Some(cursor.clone());
        }
    }

    /// What had to be closed.
    pub(super) fn rejections(&self) -> Vec<Rejection> {
        let services = self.services.values().flat_map(|s| s.rejections.clone());
        services.chain(self.served.rejections()).collect()
    }

    /// The sets to be sent whole.
    pub(super) fn misfits(&self) -> &BTreeSet<ServicePort> {
        &self.misfits
    }

    /// Everything in force, for people.
    pub(super) fn show(&self) -> Value {
        let plans = self.services.iter().filter_map(|(name, service)| {
            let plan = service.plan.as_ref()?;
            Some((name.to_string(), json!(plan)))
        });
        let sets = self.sets.iter();
        let endpoints = sets.map(|(port, set)| (port.to_string(), json!(set.endpoints)));
        json!({
            "applied": self.applied(),
            "services": plans.collect::<serde_json::Map<_, _>>(),
            "endpoints": endpoints.collect::<serde_json::Map<_, _>>(),
            "inbound": self.served.show(),
            "rejections": self.rejections(),
        })
    }

    /// Applies one event.
    pub(super) fn apply(&mut self, event: Event) {
        let Event { cursor, change } = event;
        match change {
            Change::Welcome { reset, .. } => {
                self.progress.reopen(reset);
                if reset {
                    self.forget();
                }
                self.enter(cursor.store);
                return;
            }
            Change::Service { service, plan } => self.told(&service, plan),
            Change::Endpoints { port, delta } => self.changed(port, &delta),
            Change::Inbound { serves, plan } => self.governed(&serves, &plan),
            Change::Heartbeat { .. } => {
                self.progress.settle(&cursor);
                self.sweep();
            }
            Change::Unknown => tracing::debug!("discovery says something newer: passed over"),
        }
        self.note_applied(&cursor);
        self.progress.advance(cursor);
    }

    /// A watch of `store` has begun. Of one that was not known nothing is in force yet.
    fn enter(&mut self, store: String) {
        if self.applied.as_ref().is_none_or(|now| now.store != store) {
            self.applied = Some(Cursor { store, revision: 0 });
        }
    }

    /// Nothing that was told counts as told any more; all of it stays in force.
    fn forget(&mut self) {
        for service in self.services.values_mut() {
            service.pending = None;
        }
        for set in self.sets.values_mut() {
            set.arrived = false;
        }
        self.misfits.clear();
    }

    fn told(&mut self, name: &ServiceName, plan: Option<ServicePlan>) {
        let Some(plan) = plan else {
            self.services.remove(name);
            self.plans.answer(name, Answer::Unknown);
            return;
        };
        let needed = needs(&plan);
        let service = self.services.entry(name.clone()).or_default();
        service.pending = Some((plan, needed));
        self.settle(name);
    }

    /// Makes the pending plan of a service current if all it needs has arrived.
    fn settle(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let arrived = |port: &ServicePort| self.sets.get(port).is_some_and(|set| set.arrived);
        let Some((plan, needed)) = service.pending.take_if(|(_, n)| n.iter().all(arrived)) else {
            return;
        };
        let sets = &self.sets;
        let compiled = Service::compile(name, &plan, |port| Arc::clone(&sets[port].backend));
        service.rejections = compiled.rejections().collect();
        for rejection in &service.rejections {
            tracing::warn!(subject = rejection.subject, why = rejection.why, "closed");
        }
        if let Some(before) = &service.compiled {
            compiled.keep_counting(before);
        }
        let Outfit {
            recorder, workload, ..
        } = &self.outfit;
        compiled.announce(recorder, workload);
        service.current = needed;
        service.plan = Some(plan);
        let compiled = Arc::new(compiled);
        service.compiled = Some(Arc::clone(&compiled));
        self.plans.answer(name, Answer::Known(compiled));
    }

    /// Lets the sets go that no plan needs any more.
    ///
    /// Only at a heartbeat, when nothing is half told: within a step a set can pass from one
    /// service to another, and discovery, which looks at whole steps, would not tell it again.
    fn sweep(&mut self) {
        let services = &self.services;
        let needed = |port: &ServicePort| {
            services.values().any(|service| {
                let pending = service.pending.as_ref();
                service.current.contains(port)
                    || pending.is_some_and(|(_, needed)| needed.contains(port))
            })
        };
        self.sets.retain(|port, _| needed(port));
        self.misfits.retain(needed);
    }

    fn changed(&mut self, port: ServicePort, delta: &EndpointDelta) {
        let set = self.sets.entry(port.clone()).or_insert_with(|| Set {
            endpoints: EndpointSet::default(),
            backend: Arc::new(Backend::new(port.clone(), &self.outfit)),
            arrived: false,
        });
        match set.endpoints.apply(delta) {
            Ok(endpoints) => {
                set.backend.update(&endpoints);
                set.endpoints = endpoints;
                set.arrived = true;
                self.misfits.remove(&port);
            }
            // What resuming repeats.
            Err(_) if set.arrived && set.endpoints.hash() == delta.hash => return,
            Err(misfit) => {
                tracing::debug!(%port, %misfit, "asked for whole");
                self.misfits.insert(port);
                return;
            }
        }
        let waiting = self.services.iter().filter(|(_, service)| {
            let pending = service.pending.as_ref();
            pending.is_some_and(|(_, needed)| needed.contains(&port))
        });
        let waiting: Vec<ServiceName> = waiting.map(|(name, _)| name.clone()).collect();
        for name in waiting {
            self.settle(&name);
        }
    }

    fn governed(&self, serves: &ServiceAddress, plan: &Part<InboundPlan>) {
        if let Err(why) = plan.understood() {
            tracing::warn!(%serves, %why, "closed");
        }
        self.served.tell(serves, plan);
    }
}

impl Progress {
    /// A new watch: what was begun and not finished will be told again.
    fn reopen(&mut self, reset: bool) {
        if reset {
            self.whole = None;
        }
        self.begun.clone_from(&self.whole);
    }

    fn advance(&mut self, cursor: Cursor) {
        if self.begun.as_ref() != Some(&cursor) {
            self.whole = self.begun.replace(cursor);
        }
    }

    fn settle(&mut self, cursor: &Cursor) {
        self.whole = Some(cursor.clone());
        self.begun = Some(cursor.clone());
    }
}

#[cfg(test)]
mod tests;
