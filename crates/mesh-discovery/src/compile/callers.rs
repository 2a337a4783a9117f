//! Whom the policy of a service admits, as far as identities decide: whose calls of it count.
//!
//! Where a client's socket may be is not asked: discovery sees another address than the server.

use std::sync::{Arc, PoisonError};

use mesh_policy::authorize::Policy;
use mesh_policy::identity::Identity;
use mesh_policy::name::ServicePort;

use super::World;

/// Kinds of workloads of one port whose policy is asked; what further ones would admit does not count.
const MAX_KINDS: usize = 64;

/// Whether a caller is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// At least one workload that serves the port lets it in.
    Admitted,
    /// Those that serve the port let it in nowhere.
    Refused,
    /// Nobody serves the port now, so there is no policy to ask.
    Unserved,
}

impl World {
    /// Whether `caller` can have called `service`, where `backend` was chosen.
    ///
    /// A backend that the caller's plan does not have (any more) says nothing: then every
    /// backend that it has must let the caller in.
    #[must_use]
    pub fn admits_call(
        &self,
        (service, backend): (&ServicePort, Option<&ServicePort>),
        caller: &Identity,
    ) -> Admission {
        let namespace = caller.workload().map_or("", |(namespace, _)| namespace);
        let Some(plan) = self.service_plan(&service.service, namespace) else {
            return Admission::Refused;
        };
        let backends = Self::backends(&plan);
        if let Some(backend) = backend.filter(|backend| backends.contains(backend)) {
            return self.admits(backend, Some(caller));
        }
        if backends.is_empty() {
            return self.admits(service, Some(caller));
        }
        let mut all = Admission::Admitted;
        for backend in &backends {
            match self.admits(backend, Some(caller)) {
                Admission::Admitted => {}
                Admission::Refused => return Admission::Refused,
                Admission::Unserved => all = Admission::Unserved,
            }
        }
        all
    }

    /// Whether those that serve `port` let a caller in, `None` for one that proved no identity.
    #[must_use]
    pub fn admits(&self, port: &ServicePort, caller: Option<&Identity>) -> Admission {
        let Some(policies) = self.policies_of(port) else {
            return Admission::Unserved;
        };
        if policies.iter().any(|policy| policy.admits(caller)) {
            Admission::Admitted
        } else {
            Admission::Refused
        }
    }

    /// The policies of those who serve `port`; `None` if nobody does.
    fn policies_of(&self, port: &ServicePort) -> Option<Arc<[Policy]>> {
        let mut known = self
            .admitting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(policies) = known.get(port) {
            return Some(Arc::clone(policies));
        }
        let of_port = self.workloads.iter().filter(|workload| {
            workload.serves.service == port.service && self.resolve(&workload.serves) == *port
        });
        let of_port: Vec<_> = of_port.take(MAX_KINDS).collect();
        if of_port.is_empty() {
            // Not remembered: callers choose which ports are asked about.
            return None;
        }
        let policies = of_port.into_iter().filter_map(|serving| {
            let plan = self.inbound_plan(&serving.serves, &serving.workload());
            // A listener that is closed lets nobody in.
            Policy::compile(plan.understood().ok()?).ok()
        });
        let policies: Arc<[Policy]> = policies.collect();
        known.insert(port.clone(), Arc::clone(&policies));
        Some(policies)
    }
}
