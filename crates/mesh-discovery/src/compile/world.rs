//! Everything at one revision, immutable, with plans made when they are first asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mesh_policy::authorize::Policy;
use mesh_policy::manifest::Manifest;
use mesh_policy::name::{ServiceAddress, ServiceName, ServicePort};
use mesh_policy::plan::endpoint::{Endpoint, EndpointSet, HttpVersions};
use mesh_policy::plan::inbound::InboundPlan;
use mesh_policy::plan::outbound::{ServicePlan, TargetPlan};
use mesh_policy::plan::part::Part;
use mesh_policy::plan::watch::Cursor;

use super::effect::{Effects, Serving};
use super::inbound::{Policies, Workload};
use super::outbound::Routes;
use super::services::Services;
use super::unreadable::{Unreadable, UnreadableObject};
use super::{Registered, Sources};

/// The mesh at one revision.
///
/// Watches compare what two worlds say; equal input gives equal bytes, so what
/// has not changed is not sent.
#[derive(Debug)]
pub struct World {
    cursor: Cursor,
    pub(super) services: Services,
    pub(super) routes: Routes,
    pub(super) policies: Policies,
    unreadable: Unreadable,
    endpoints: BTreeMap<ServicePort, Arc<EndpointSet>>,
    nobody: Arc<EndpointSet>,
    pub(super) objects: Vec<Arc<Manifest>>,
    pub(super) served: BTreeSet<ServicePort>,
    /// Every kind of process that serves now.
    pub(super) workloads: BTreeSet<Serving>,
    /// What each `Server` guards, once somebody asks.
    effects: OnceLock<Effects>,
    /// Bounded by the services that exist and the namespaces that have routes of their own.
    plans: Mutex<BTreeMap<Reading, Arc<ServicePlan>>>,
    names: Names,
    /// Made when a caller of the port is first asked about.
    pub(super) admitting: Mutex<BTreeMap<ServicePort, Arc<[Policy]>>>,
}

/// How the names of services changed, so that a reader need not look up again every name that
/// nobody serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Grows when a service appears or disappears.
    pub generation: u64,
    /// Names that appeared or disappeared with this generation.
    pub changed: Arc<BTreeSet<ServiceName>>,
}

/// A service, and the namespace of its callers where routes of their own make a difference.
type Reading = (ServiceName, Option<String>);

impl World {
    /// Puts a world together.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let manifests = sources.objects.iter().map(|manifest| &**manifest);
        let services = Services::new(manifests, &sources.served);
        let policies = Policies::new(sources.domain, &sources.objects);
        let (endpoints, workloads) = endpoints(&services, &policies, &sources.registrations);
        Self {
            cursor: sources.cursor,
            routes: Routes::new(&sources.objects),
            services,
            policies,
            unreadable: Unreadable::default(),
            endpoints,
            nobody: Arc::default(),
            objects: sources.objects,
            served: sources.served,
            workloads,
            effects: OnceLock::new(),
            plans: Mutex::default(),
            names: Names::default(),
            admitting: Mutex::default(),
        }
    }

    /// The world in which these objects are stored as well: what they govern is closed.
    #[must_use]
    pub fn with_unreadable(self, objects: impl IntoIterator<Item = Arc<UnreadableObject>>) -> Self {
        Self {
            unreadable: Unreadable::new(objects),
            ..self
        }
    }

    /// The same world as the successor of `before`.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        if self.services().eq(before.services()) {
            self.names = before.names.clone();
            return self;
        }
        let now: BTreeSet<_> = self.services().collect();
        let then: BTreeSet<_> = before.services().collect();
        let changed = now.symmetric_difference(&then).copied().cloned();
        self.names = Names {
            generation: before.names.generation + 1,
            changed: Arc::new(changed.collect()),
        };
        self
    }

    /// How the names of services changed up to this world.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Where in the store's history it stands.
    #[must_use]
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The plan of a service as callers of `namespace` see it; `None` if nobody ever applied or served it.
    #[must_use]
    pub fn service_plan(&self, service: &ServiceName, namespace: &str) -> Option<Arc<ServicePlan>> {
        if !self.services.knows(service) {
            return None;
        }
        let own = self.routes.consumed_from(service, namespace)
            || self.unreadable.consumed_from(service, namespace);
        let key = (service.clone(), own.then(|| namespace.to_owned()));
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = plans.entry(key).or_insert_with(|| {
            let mut plan = self.routes.plan(&self.services, service, namespace);
            let reading = (service, namespace);
            self.unreadable
                .close_calls(&mut plan, reading, &self.routes);
            Arc::new(plan)
        });
        Some(plan.clone())
    }

    /// Whose endpoints a plan needs.
    #[must_use]
    pub fn backends(plan: &ServicePlan) -> BTreeSet<ServicePort> {
        let routes = plan.ports.iter().flat_map(|port| &port.routes);
        let rules = routes
            .filter_map(|route| route.understood().ok())
            .flat_map(|route| &route.rules);
        rules
            .flat_map(|rule| &rule.backends)
            .filter_map(|backend| match &backend.target {
                TargetPlan::Service(port) => Some(port.clone()),
                TargetPlan::Invalid { .. } => None,
            })
            .collect()
    }

    /// Who serves a port now.
    #[must_use]
    pub fn endpoints(&self, port: &ServicePort) -> Arc<EndpointSet> {
        self.endpoints.get(port).unwrap_or(&self.nobody).clone()
    }

    /// Every service that was applied or ever served, in order.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.names()
    }

    /// The ports of whose endpoints calls of `service` end: its own, and those of its backends.
    #[must_use]
    pub fn behind(&self, service: &ServiceName) -> BTreeSet<ServicePort> {
        let own = self.endpoints.keys();
        let own = own.filter(|port| port.service == *service).cloned();
        let plan = self.service_plan(service, service.namespace.as_str());
        let backends = plan.map(|plan| Self::backends(&plan)).unwrap_or_default();
        own.chain(backends).collect()
    }

    /// Who serves any port of a service now.
    pub fn endpoints_of(&self, service: &ServiceName) -> impl Iterator<Item = Endpoint> {
        let ports = self.endpoints.iter();
        let own = ports.filter(move |(port, _)| port.service == *service);
        own.flat_map(|(_, set)| set.0.values().map(|endpoint| Endpoint::clone(endpoint)))
    }

    /// The logical port that a process means which says it serves `address`.
    #[must_use]
    pub fn resolve(&self, address: &ServiceAddress) -> ServicePort {
        self.services.resolve(address)
    }

    /// The policy of what `workload` serves.
    #[must_use]
    pub fn inbound_plan(
        &self,
        serves: &ServiceAddress,
        workload: &Workload<'_>,
    ) -> Part<InboundPlan> {
        let plan = self.policies.plan(&self.services, serves, workload);
        self.unreadable
            .close_inbound(plan, (serves, workload), &self.policies)
    }

    /// What each `Server` guards. Costs the kinds of processes times the `Server`s of their
    /// namespaces, once a world.
    pub(super) fn effects(&self) -> &Effects {
        self.effects
            .get_or_init(|| Effects::new(&self.services, &self.policies, &self.workloads))
    }
}

/// Who serves each port, and every kind of process that serves. Processes that policy cannot
/// tell apart are asked for once.
fn endpoints(
    services: &Services,
    policies: &Policies,
    registrations: &[Registered],
) -> (BTreeMap<ServicePort, Arc<EndpointSet>>, BTreeSet<Serving>) {
    let mut sets: BTreeMap<ServicePort, EndpointSet> = BTreeMap::new();
    let mut kinds: BTreeMap<_, HttpVersions> = BTreeMap::new();
    for registered in registrations {
        let registration = &registered.registration;
        let serves = &registration.serves;
        let workload = Workload::new(&registered.identity, &registration.labels);
        let kind = (workload.namespace, workload.labels, serves);
        let http = kinds.entry(kind).or_insert_with(|| {
            let candidates = policies.candidates(services, serves, &workload);
            candidates.decide().http()
        });
        let endpoint = Endpoint {
            address: registration.address,
            identity: Some(registered.identity.clone()),
            http: *http,
            weight: registration.weight,
            workload: registration.workload.clone(),
            instance: registration.instance.clone(),
            zone: registration.zone.clone(),
        };
        let set = sets.entry(services.resolve(serves)).or_default();
        let id = registered.id.as_str().into();
        set.0.insert(id, Arc::new(endpoint));
    }
    let sets = sets.into_iter();
    let kinds = kinds
        .into_keys()
        .map(|(namespace, labels, serves)| Serving {
            namespace: namespace.to_owned(),
            labels: labels.clone(),
            serves: serves.clone(),
        });
    (
        sets.map(|(port, set)| (port, Arc::new(set))).collect(),
        kinds.collect(),
    )
}
