//! Which services there are, and their logical ports.

use std::collections::{BTreeMap, BTreeSet};

use mesh_policy::manifest::{Manifest, Resilience, Service, Spec};
use mesh_policy::name::{ServiceAddress, ServiceName, ServicePort};

use super::Workload;

/// The port that is meant where neither a process nor a Service says one.
pub(crate) const DEFAULT_PORT: u16 = 80;

/// Every service that was applied or ever served.
#[derive(Clone, Debug, Default)]
pub(super) struct Services(BTreeMap<ServiceName, Ports>);

/// The logical ports of one service.
#[derive(Clone, Debug, Default)]
struct Ports {
    /// What its Service object lists; empty without one.
    applied: BTreeSet<u16>,
    object: Option<Service>,
    served: BTreeSet<u16>,
}

impl Services {
    pub(super) fn new<'a>(
        manifests: impl IntoIterator<Item = &'a Manifest>,
        served: &BTreeSet<ServicePort>,
    ) -> Self {
        let mut services = Self::default();
        for manifest in manifests {
            let Spec::Service(spec) = &manifest.spec else {
                continue;
            };
            let Ok(name) = manifest.meta.name.parse() else {
                continue;
            };
            let name = ServiceName {
                namespace: manifest.meta.namespace.clone(),
                name,
            };
            let ports = services.0.entry(name).or_default();
            ports.applied = spec.ports.iter().map(|port| port.port).collect();
            ports.object = Some(spec.clone());
        }
        for port in served {
            let ports = services.0.entry(port.service.clone()).or_default();
            ports.served.insert(port.port);
        }
        services
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.0.keys()
    }

    pub(super) fn knows(&self, service: &ServiceName) -> bool {
        self.0.contains_key(service)
    }

    /// What the annotations of the service's object say, if it has one.
    pub(super) fn resilience(&self, service: &ServiceName) -> Option<&Resilience> {
        Some(&self.object(service)?.resilience)
    }

    /// The logical ports: what the Service object lists, else what was served.
    pub(super) fn ports(&self, service: &ServiceName) -> impl Iterator<Item = u16> {
        let ports = self.0.get(service).map(|ports| {
            if ports.applied.is_empty() {
                &ports.served
            } else {
                &ports.applied
            }
        });
        ports.into_iter().flatten().copied()
    }

    /// The service's port of this name.
    pub(super) fn named(&self, service: &ServiceName, name: &str) -> Option<u16> {
        let mut ports = self.object(service)?.ports.iter();
        let named = ports.find(|port| port.name.as_deref() == Some(name));
        named.map(|port| port.port)
    }

    /// What its Service object says, if it has one.
    pub(super) fn object(&self, service: &ServiceName) -> Option<&Service> {
        self.0.get(service)?.object.as_ref()
    }

    /// All services that have an object.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&ServiceName, &Service)> {
        let all = self.0.iter();
        all.filter_map(|(name, ports)| Some((name, ports.object.as_ref()?)))
    }

    /// The Service objects that select `workload`, as a cluster's would.
    pub(super) fn selecting(&self, workload: &Workload<'_>) -> Vec<(&ServiceName, &Service)> {
        let objects = self.objects();
        let selecting = objects.filter(|(name, Service { selector, .. })| {
            let mut wanted = selector.iter();
            name.namespace.as_str() == workload.namespace
                && !selector.is_empty()
                && wanted.all(|(key, value)| workload.labels.get(key) == Some(value))
        });
        selecting.collect()
    }

    /// The service's port if it has just one.
    pub(super) fn only_port(&self, service: &ServiceName) -> Option<u16> {
        let mut ports = self.ports(service);
        let only = ports.next()?;
        ports.next().is_none().then_some(only)
    }

    /// Whether an edit to a Service can leave the process that serves `address` on another
    /// port: it names none, and the Service does not have just one.
    pub(super) fn unsure(&self, address: &ServiceAddress) -> bool {
        let applied = self
            .0
            .get(&address.service)
            .map(|ports| ports.applied.len());
        address.port.is_none() && applied != Some(1)
    }

    /// The logical port that a process means which says it serves `address`: the one it
    /// names, else the applied Service's only port, else 80.
    pub(super) fn resolve(&self, address: &ServiceAddress) -> ServicePort {
        let applied = self.0.get(&address.service).map(|ports| &ports.applied);
        let only = applied
            .filter(|ports| ports.len() == 1)
            .and_then(|ports| ports.first());
        ServicePort {
            service: address.service.clone(),
            port: address.port.or(only.copied()).unwrap_or(DEFAULT_PORT),
        }
    }
}
