//! What one reader has been told, and what it has yet to be told.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mesh_policy::name::{ServiceAddress, ServiceName, ServicePort};
use mesh_policy::plan::endpoint::{EndpointDelta, EndpointSet};
use mesh_policy::plan::inbound::InboundPlan;
use mesh_policy::plan::outbound::ServicePlan;
use mesh_policy::plan::part::Part;
use mesh_policy::plan::watch::{Change, Subscriptions};

use super::wanted::Resend;
use crate::compile::{Workload, World};

/// What a reader has been told.
#[derive(Debug, Default)]
pub(super) struct Feed {
    services: BTreeMap<ServiceName, Option<Arc<ServicePlan>>>,
    inbound: BTreeMap<ServiceAddress, Arc<Part<InboundPlan>>>,
    sets: BTreeMap<ServicePort, Told>,
}

/// An endpoint set that a reader knows.
#[derive(Debug)]
struct Told {
    set: Arc<EndpointSet>,
    /// A reader that came back may have missed it: it is told again, as a delta that is
    /// empty where nothing has changed, and asks for the whole set if it does not fit.
    again: bool,
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

    /// The next time these sets are told, they are told whole, and what `left` names is told
    /// anew: its reader has forgotten it.
    pub(super) fn forget(&mut self, resend: &Resend, left: &BTreeSet<ServiceName>) {
        for service in left {
            if let Some(Some(plan)) = self.services.remove(service) {
                self.forget_sets(World::backends(&plan));
            }
        }
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

    /// What the reader has to be told to know what `world` says of what it wants. It counts
    /// as told from here on.
    pub(super) fn advance(
        &mut self,
        world: &World,
        wanted: &Subscriptions,
        reader: &Workload<'_>,
    ) -> VecDeque<Step> {
        let mut steps = VecDeque::new();
        self.advance_inbound(world, &wanted.inbound, reader, &mut steps);
        self.services
            .retain(|name, _| wanted.services.contains(name));
        let mut needed = BTreeSet::new();
        for service in &wanted.services {
            let plan = world.service_plan(service, reader.namespace);
            if let Some(plan) = &plan {
                needed.extend(World::backends(plan));
            }
            if self.services.get(service) != Some(&plan) {
                self.services.insert(service.clone(), plan.clone());
                steps.push_back(Step::Service(service.clone(), plan));
            }
        }
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
            steps.push_back(Step::Endpoints { port, from, to });
        }
        steps
    }

    fn advance_inbound(
        &mut self,
        world: &World,
        wanted: &BTreeSet<ServiceAddress>,
        reader: &Workload<'_>,
        steps: &mut VecDeque<Step>,
    ) {
        self.inbound.retain(|serves, _| wanted.contains(serves));
        for serves in wanted {
            let plan = world.inbound_plan(serves, reader);
            if self.inbound.get(serves).is_some_and(|told| **told == plan) {
                continue;
            }
            let plan = Arc::new(plan);
            self.inbound.insert(serves.clone(), Arc::clone(&plan));
            steps.push_back(Step::Inbound(serves.clone(), plan));
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_policy::plan::registration::Registration;
    use mesh_policy::plan::watch::Cursor;

    use super::*;
    use crate::compile::{Registered, Sources};

    /// A world in which `ports` of `api.shop` are served, one endpoint each for `served` ids.
    fn world(revision: u64, served: &[&str]) -> World {
        let registered = |id: &&str| Registered {
            id: (*id).to_owned(),
            identity: "spiffe://mesh.local/ns/shop/sa/api".parse().unwrap(),
            registration: Registration {
                watch: "w".into(),
                serves: "api.shop".parse().unwrap(),
                address: ([127, 0, 0, 1], 1).into(),
                workload: "api".into(),
                instance: (*id).to_owned(),
                labels: BTreeMap::new(),
                zone: None,
                weight: 100,
            },
        };
        World::new(Sources {
            cursor: Cursor {
                store: "s".into(),
                revision,
            },
            domain: "mesh.local".parse().unwrap(),
            objects: Vec::new(),
            registrations: served.iter().map(registered).collect(),
            served: BTreeSet::from(["api.shop:80".parse().unwrap()]),
        })
    }

    fn wants(services: &[&str]) -> Subscriptions {
        Subscriptions {
            services: services.iter().map(|s| s.parse().unwrap()).collect(),
            ..Subscriptions::default()
        }
    }

    fn told(steps: VecDeque<Step>) -> Vec<String> {
        let text = |step: Step| match step.into_change() {
            Change::Service { service, plan } => format!("{service} {}", plan.is_some()),
            Change::Endpoints { port, delta } => {
                let put: Vec<_> = delta.put.0.keys().map(|id| format!("+{id}")).collect();
                let gone: Vec<_> = delta.gone.iter().map(|id| format!("-{id}")).collect();
                let whole = if delta.base.is_none() {
                    "whole"
                } else {
                    "delta"
                };
                format!("{port} {whole} {}{}", put.concat(), gone.concat())
            }
            Change::Inbound { serves, .. } => format!("inbound {serves}"),
            other => format!("{other:?}"),
        };
        steps.into_iter().map(text).collect()
    }

    fn reader(labels: &BTreeMap<String, String>) -> Workload<'_> {
        Workload {
            namespace: "shop",
            labels,
        }
    }

    #[test]
    fn a_reader_is_told_everything_once_and_then_what_changes() {
        let labels = BTreeMap::new();
        let reader = reader(&labels);
        let wanted = wants(&["api.shop", "nobody.shop"]);
        let mut feed = Feed::default();
        let first = told(feed.advance(&world(1, &["a"]), &wanted, &reader));
        let all = ["api.shop true", "nobody.shop false", "api.shop:80 whole +a"];
        assert_eq!(first, all);

        let nothing = told(feed.advance(&world(2, &["a"]), &wanted, &reader));
        assert_eq!(nothing, [""; 0]);
        let change = told(feed.advance(&world(3, &["b"]), &wanted, &reader));
        assert_eq!(change, ["api.shop:80 delta +b-a"]);
    }

    #[test]
    fn worlds_that_a_slow_reader_missed_are_never_told() {
        let labels = BTreeMap::new();
        let reader = reader(&labels);
        let wanted = wants(&["api.shop"]);
        let mut feed = Feed::default();
        feed.advance(&world(1, &["a"]), &wanted, &reader);
        for revision in 2..1_000 {
            // Worlds come and go while nobody asks.
            drop(world(revision, &["x"]));
        }
        let change = told(feed.advance(&world(1_000, &["a", "b"]), &wanted, &reader));
        assert_eq!(change, ["api.shop:80 delta +b"]);
    }

    #[test]
    fn a_subscription_that_comes_back_is_told_anew() {
        let labels = BTreeMap::new();
        let reader = reader(&labels);
        let world = world(1, &["a"]);
        let mut feed = Feed::default();
        feed.advance(&world, &wants(&["api.shop"]), &reader);
        assert_eq!(told(feed.advance(&world, &wants(&[]), &reader)), [""; 0]);
        let again = told(feed.advance(&world, &wants(&["api.shop"]), &reader));
        assert_eq!(again, ["api.shop true", "api.shop:80 whole +a"]);
    }

    #[test]
    fn a_reader_that_resumes_is_told_sets_as_the_difference() {
        let labels = BTreeMap::new();
        let reader = reader(&labels);
        let wanted = wants(&["api.shop"]);
        let mut feed = Feed::resume(&world(1, &["a"]), &wanted, &reader);
        let change = told(feed.advance(&world(2, &["a", "b"]), &wanted, &reader));
        assert_eq!(change, ["api.shop true", "api.shop:80 delta +b"]);

        // A set that has not changed is told as an empty difference, which shows who lacks it.
        let mut feed = Feed::resume(&world(1, &["a"]), &wanted, &reader);
        let change = told(feed.advance(&world(2, &["a"]), &wanted, &reader));
        assert_eq!(change, ["api.shop true", "api.shop:80 delta "]);
        let nothing = told(feed.advance(&world(3, &["a"]), &wanted, &reader));
        assert_eq!(nothing, [""; 0]);
    }

    #[test]
    fn a_set_that_is_asked_for_comes_whole() {
        let labels = BTreeMap::new();
        let reader = reader(&labels);
        let wanted = wants(&["api.shop"]);
        let mut feed = Feed::default();
        feed.advance(&world(1, &["a"]), &wanted, &reader);
        let these = Resend::These(BTreeSet::from(["api.shop:80".parse().unwrap()]));
        for resend in [these, Resend::All] {
            feed.forget(&resend, &BTreeSet::new());
            let whole = told(feed.advance(&world(1, &["a"]), &wanted, &reader));
            assert_eq!(whole, ["api.shop:80 whole +a"]);
        }
    }

    #[test]
    fn a_service_that_was_let_go_between_two_looks_is_told_anew() {
        let labels = BTreeMap::new();
        let reader = reader(&labels);
        let wanted = wants(&["api.shop", "nobody.shop"]);
        let mut feed = Feed::default();
        let first = told(feed.advance(&world(1, &["a"]), &wanted, &reader));
        feed.forget(&Resend::default(), &wanted.services);
        let again = told(feed.advance(&world(1, &["a"]), &wanted, &reader));
        assert_eq!(again, first);
    }

    #[test]
    fn inbound_policy_is_told_when_it_is_wanted_and_when_it_changes() {
        let labels = BTreeMap::new();
        let reader = reader(&labels);
        let wanted = Subscriptions {
            inbound: BTreeSet::from(["api.shop".parse().unwrap()]),
            ..Subscriptions::default()
        };
        let mut feed = Feed::default();
        let first = told(feed.advance(&world(1, &[]), &wanted, &reader));
        assert_eq!(first, ["inbound api.shop"]);
        assert_eq!(
            told(feed.advance(&world(2, &["a"]), &wanted, &reader)),
            [""; 0]
        );
    }
}
