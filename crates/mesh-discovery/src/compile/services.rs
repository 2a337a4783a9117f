//! Which services there are, and their logical ports.

use std::collections::{BTreeMap, BTreeSet};

use mesh_policy::manifest::{Manifest, Resilience, Spec};
use mesh_policy::name::{ServiceAddress, ServiceName, ServicePort};

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
    named: BTreeMap<String, u16>,
    served: BTreeSet<u16>,
    /// What the annotations of its Service object say.
    resilience: Option<Resilience>,
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
            ports.resilience = Some(spec.resilience.clone());
            for port in &spec.ports {
                ports.applied.insert(port.port);
                ports
                    .named
                    .extend(port.name.clone().map(|name| (name, port.port)));
            }
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
        self.0.get(service)?.resilience.as_ref()
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
        self.0.get(service)?.named.get(name).copied()
    }

    /// The service's port if it has just one.
    pub(super) fn only_port(&self, service: &ServiceName) -> Option<u16> {
        let mut ports = self.ports(service);
        let only = ports.next()?;
        ports.next().is_none().then_some(only)
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
