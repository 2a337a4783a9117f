//! What one reader has been told, and what it has yet to be told.
//!
//! What is kept grows with what exists, not with what is asked for: names that nobody serves are
//! neither copied nor looked up again until the names of services change, and their lines are
//! made one at a time.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use mesh_policy::name::{ServiceAddress, ServiceName, ServicePort};
use mesh_policy::plan::endpoint::{EndpointDelta, EndpointSet};
use mesh_policy::plan::inbound::InboundPlan;
use mesh_policy::plan::outbound::ServicePlan;
use mesh_policy::plan::part::Part;
use mesh_policy::plan::watch::{Change, Subscriptions};

use super::wanted::{Left, Resend, Wanted};
use crate::compile::{Workload, World};

/// What a reader has been told, and the steps that it has yet to be told.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// What was wanted then: what is not in `services` was told to be unknown.
    told: Arc<Subscriptions>,
    /// Up to which generation of names.
    generation: u64,
    services: BTreeMap<ServiceName, Arc<ServicePlan>>,
    inbound: BTreeMap<ServiceAddress, Arc<Part<InboundPlan>>>,
    sets: BTreeMap<ServicePort, Told>,
    pending: VecDeque<Step>,
    unknown: Option<Unknown>,
}

/// An endpoint set that a reader knows.
#[derive(Debug)]
struct Told {
    set: Arc<EndpointSet>,
    /// A reader that came back may have missed it: it is told again, as a delta that is
    /// empty where nothing has changed, and asks for the whole set if it does not fit.
    again: bool,
}

/// Names that are wanted and unknown, and of which the reader has not been told so.
#[derive(Debug)]
struct Unknown {
    wanted: Arc<Subscriptions>,
    /// What was told before, less `left`, is not told again.
    before: Arc<Subscriptions>,
    left: BTreeSet<ServiceName>,
    /// The name that was told last.
    last: Option<ServiceName>,
}

/// One thing to tell, small until it is written out.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Service(ServiceName, Option<Arc<ServicePlan>>),
    Inbound(ServiceAddress, Arc<Part<InboundPlan>>),
    Endpoints {
        port: ServicePort,
        from: Option<Arc<EndpointSet>>,
        to: Arc<EndpointSet>,
    },
}

impl Step {
    /// The step as it is sent.
    pub(super) fn into_change(self) -> Change {
        match self {
            Self::Service(service, plan) => Change::Service {
                service,
                plan: plan.map(Arc::unwrap_or_clone),
            },
            Self::Inbound(serves, plan) => Change::Inbound {
                serves,
                plan: Arc::unwrap_or_clone(plan),
            },
            Self::Endpoints { port, from, to } => Change::Endpoints {
                port,
                delta: delta(from.as_deref(), &to),
            },
        }
    }
}

fn delta(from: Option<&EndpointSet>, to: &EndpointSet) -> EndpointDelta {
    match from {
        Some(from) => from.delta(to),
        None => to.whole(),
    }
}

impl Feed {
    /// For a reader that was told all that `then` says of what it wants.
    ///
    /// Plans are small and told again. A set is told as the difference: a reader that
    /// knows another set notices by its hash, and asks for the whole.
    pub(super) fn resume(then: &World, wanted: &Subscriptions, reader: &Workload<'_>) -> Self {
        let plans = wanted
            .services
            .iter()
            .filter_map(|service| then.service_plan(service, reader.namespace));
        let ports: BTreeSet<_> = plans.flat_map(|plan| World::backends(&plan)).collect();
        let told = |port: ServicePort| {
            let set = then.endpoints(&port);
            (port, Told { set, again: true })
        };
        Self {
            sets: ports.into_iter().map(told).collect(),
            ..Self::default()
        }
    }

    /// The next step; `None` once the reader has been told everything.
    pub(super) fn next_step(&mut self) -> Option<Step> {
        if let Some(step) = self.pending.pop_front() {
            return Some(step);
        }
        let unknown = self.unknown.as_mut()?;
        match unknown.next(&self.services) {
            Some(service) => Some(Step::Service(service, None)),
            None => {
                self.unknown = None;
                None
            }
        }
    }

    /// Whether the reader has been told everything.
    pub(super) fn is_told(&mut self) -> bool {
        if !self.pending.is_empty() {
            return false;
        }
        let services = &self.services;
        self.unknown
            .take_if(|unknown| unknown.peek(services).is_none());
        self.unknown.is_none()
    }

    /// Finds what the reader has to be told to know what `world` says of what it wants. It
    /// counts as told from here on; the steps before have all been taken.
    pub(super) fn advance(&mut self, world: &World, wanted: Wanted, reader: &Workload<'_>) {
        let Wanted {
            subscriptions: wanted,
            resend,
            left,
        } = wanted;
        self.forget(&resend, &left);
        self.advance_inbound(world, &wanted.inbound, reader);
        let before = std::mem::replace(&mut self.told, Arc::clone(&wanted));
        let names = world.names();
        let since = std::mem::replace(&mut self.generation, names.generation);
        if !Arc::ptr_eq(&before, &wanted) || !left.services.is_empty() {
            self.look_up(world, wanted.services.iter(), reader);
            self.unknown = Some(Unknown {
                wanted,
                before,
                left: left.services,
                last: None,
            });
        } else if since == names.generation {
            self.look_up(world, [], reader);
        } else if since + 1 == names.generation {
            let changed = names.changed.intersection(&wanted.services);
            self.look_up(world, changed, reader);
        } else {
            self.look_up(world, wanted.services.iter(), reader);
        }
        self.advance_sets(world);
    }

    /// Tells of the plans of `services`, and of those that the reader knows.
    fn look_up<'a>(
        &mut self,
        world: &World,
        services: impl IntoIterator<Item = &'a ServiceName>,
        reader: &Workload<'_>,
    ) {
        let wanted = Arc::clone(&self.told);
        self.services
            .retain(|name, _| wanted.services.contains(name));
        let mut gone = Vec::new();
        for (service, told) in &mut self.services {
            match world.service_plan(service, reader.namespace) {
                Some(plan) if plan == *told => {}
                Some(plan) => {
                    *told = Arc::clone(&plan);
                    let step = Step::Service(service.clone(), Some(plan));
                    self.pending.push_back(step);
                }
                None => gone.push(service.clone()),
            }
        }
        for service in gone {
            self.services.remove(&service);
            self.pending.push_back(Step::Service(service, None));
        }
        for service in services {
            if self.services.contains_key(service) {
                continue;
            }
            if let Some(plan) = world.service_plan(service, reader.namespace) {
                self.services.insert(service.clone(), Arc::clone(&plan));
                let step = Step::Service(service.clone(), Some(plan));
                self.pending.push_back(step);
            }
        }
    }

    /// The next time these sets are told, they are told whole, and what `left` names is told
    /// anew: its reader has forgotten it.
    fn forget(&mut self, resend: &Resend, left: &Left) {
        for service in &left.services {
            if let Some(plan) = self.services.remove(service) {
                self.forget_sets(World::backends(&plan));
            }
        }
        self.inbound
            .retain(|serves, _| !left.inbound.contains(serves));
        match resend {
            Resend::These(ports) => self.forget_sets(ports),
            Resend::All => self.sets.clear(),
        }
    }

    fn forget_sets(&mut self, ports: impl IntoIterator<Item = impl Borrow<ServicePort>>) {
        for port in ports {
            self.sets.remove(port.borrow());
        }
    }

    fn advance_sets(&mut self, world: &World) {
        let plans = self.services.values();
        let needed: BTreeSet<_> = plans.flat_map(|plan| World::backends(plan)).collect();
        // A reader drops a set that no plan needs, and so does this.
        self.sets.retain(|port, _| needed.contains(port));
        for port in needed {
            let to = world.endpoints(&port);
            let before = self.sets.get(&port);
            if before.is_some_and(|told| !told.again && told.set == to) {
                continue;
            }
            let from = before.map(|told| Arc::clone(&told.set));
            let set = Arc::clone(&to);
            self.sets.insert(port.clone(), Told { set, again: false });
            self.pending.push_back(Step::Endpoints { port, from, to });
        }
    }

    fn advance_inbound(
        &mut self,
        world: &World,
        wanted: &BTreeSet<ServiceAddress>,
        reader: &Workload<'_>,
    ) {
        self.inbound.retain(|serves, _| wanted.contains(serves));
        for serves in wanted {
            let plan = world.inbound_plan(serves, reader);
            if self.inbound.get(serves).is_some_and(|told| **told == plan) {
                continue;
            }
            let plan = Arc::new(plan);
            self.inbound.insert(serves.clone(), Arc::clone(&plan));
            self.pending.push_back(Step::Inbound(serves.clone(), plan));
        }
    }
}

impl Unknown {
    /// The next name, with `known` those that have a plan.
    fn peek(&self, known: &BTreeMap<ServiceName, Arc<ServicePlan>>) -> Option<&ServiceName> {
        let start = match &self.last {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        let mut rest = self.wanted.services.range((start, Bound::Unbounded));
        rest.find(|name| {
            let told = self.before.services.contains(*name) && !self.left.contains(*name);
            !told && !known.contains_key(*name)
        })
    }

    fn next(&mut self, known: &BTreeMap<ServiceName, Arc<ServicePlan>>) -> Option<ServiceName> {
        let next = self.peek(known).cloned();
        self.last.clone_from(&next);
        next
    }
}

#[cfg(test)]
mod tests;
