//! Which port a `Server` means: the port it names, against a port as its workload knows it.
//!
//! A `Server` names a logical port or the container's port behind it, by number or by name; only
//! Services say which container's port stands behind which logical one. Both readings are tried,
//! and what they leave open is said: a [`Fit`] that is not [`Fit::Exact`] must never let a client in.

use mesh_policy::manifest::{PortSelector, Service, ServicePortSpec};
use mesh_policy::name::{ServiceAddress, ServicePort};

use super::Workload;
use super::services::Services;

/// Ports of Linkerd's proxy, which every pod has there and no process here.
const OF_THE_PROXY: [&str; 2] = ["linkerd-admin", "linkerd-proxy"];

/// How the port that a `Server` names stands to a served port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is this port.
    Exact,
    /// It may be this port: the Services can be read so.
    Unsure,
    /// No Service lists its name: it is another port if this one has a `Server` of its own.
    Unlisted,
    /// It is another port.
    Other,
}

/// A served port as its workload knows it.
#[derive(Clone, Debug)]
pub(super) struct PortFacts<'a> {
    number: u16,
    /// The number is a default that an edit to a Service can change.
    defaulted: bool,
    /// The service itself has an object; else `own` is what other Services say.
    applied: bool,
    /// What is listed under this number.
    own: Vec<&'a ServicePortSpec>,
    /// The other ports of the same Services.
    beside: Vec<&'a ServicePortSpec>,
    /// The ports of other Services that select the workload.
    elsewhere: Vec<&'a ServicePortSpec>,
}

impl<'a> PortFacts<'a> {
    /// What Services say of the port that `workload` means by `serves`.
    pub(super) fn new(
        services: &'a Services,
        serves: &ServiceAddress,
        workload: &Workload<'_>,
    ) -> Self {
        let ServicePort { service, port } = services.resolve(serves);
        let object = services.object(&service);
        // One without ports leaves them to its processes.
        let object = object.filter(|object| !object.ports.is_empty());
        let others = services.selecting(workload).into_iter();
        let others = others.filter(|(name, _)| **name != service);
        let elsewhere: Vec<_> = others.flat_map(|(_, other)| &other.ports).collect();
        let listed = |ports: &[&'a ServicePortSpec]| {
            let ports = ports.iter().copied();
            ports.partition::<Vec<_>, _>(|listed| listed.port == port)
        };
        let (own, beside, elsewhere) = match object {
            Some(Service { ports, .. }) => {
                let (own, beside) = listed(&ports.iter().collect::<Vec<_>>());
                (own, beside, elsewhere)
            }
            None => {
                let (own, elsewhere) = listed(&elsewhere);
                (own, Vec::new(), elsewhere)
            }
        };
        Self {
            number: port,
            defaulted: services.unsure(serves),
            applied: object.is_some(),
            own,
            beside,
            elsewhere,
        }
    }

    /// A port of which only this is known.
    pub(super) fn alone(port: &'a ServicePortSpec) -> Self {
        Self {
            number: port.port,
            defaulted: false,
            applied: true,
            own: vec![port],
            beside: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// How `wanted` stands to this port.
    pub(super) fn fit(&self, wanted: &PortSelector) -> Fit {
        let numbered = *wanted == PortSelector::Number(self.number);
        let logical = self.own.iter().any(|port| names(port, wanted));
        let container = self.own.iter().any(|port| targets(port, wanted));
        // The other reading may be meant where it leads to another port of the Service.
        let crossed = match (logical, container) {
            (true, false) => self.beside.iter().any(|port| targets(port, wanted)),
            (false, true) => self.beside.iter().any(|port| names(port, wanted)),
            (true, true) | (false, false) => false,
        };
        match (logical || container, numbered) {
            _ if crossed => Fit::Unsure,
            (_, true) => Fit::Exact,
            (true, false) if self.applied => Fit::Exact,
            (true, false) => Fit::Unsure,
            (false, false) => self.elsewhere(wanted),
        }
    }

    /// How a port stands to this one that is not listed here.
    fn elsewhere(&self, wanted: &PortSelector) -> Fit {
        let PortSelector::Name(name) = wanted else {
            return if self.defaulted {
                Fit::Unsure
            } else {
                Fit::Other
            };
        };
        let listed = self.beside.iter().chain(&self.elsewhere).copied();
        let called: Vec<_> = listed
            .filter(|port| names(port, wanted) || targets(port, wanted))
            .collect();
        let shared = |port: &ServicePortSpec| self.own.iter().any(|own| same_target(own, port));
        match called.as_slice() {
            [] if OF_THE_PROXY.contains(&name.as_str()) => Fit::Other,
            _ if self.defaulted => Fit::Unsure,
            [] => Fit::Unlisted,
            called if called.iter().any(|port| shared(port)) => Fit::Unsure,
            // Nothing says which container's port this one is.
            _ if !self.applied && self.own.is_empty() => Fit::Unlisted,
            _ => Fit::Other,
        }
    }
}

fn names(port: &ServicePortSpec, wanted: &PortSelector) -> bool {
    match wanted {
        PortSelector::Number(number) => port.port == *number,
        PortSelector::Name(name) => port.name.as_ref() == Some(name),
    }
}

fn targets(port: &ServicePortSpec, wanted: &PortSelector) -> bool {
    match (&port.target, wanted) {
        (Some(target), wanted) => target == wanted,
        (None, PortSelector::Number(number)) => port.port == *number,
        (None, PortSelector::Name(_)) => false,
    }
}

fn same_target(one: &ServicePortSpec, other: &ServicePortSpec) -> bool {
    match &other.target {
        Some(target) => targets(one, target),
        None => targets(one, &PortSelector::Number(other.port)),
    }
}

#[cfg(test)]
mod tests;
