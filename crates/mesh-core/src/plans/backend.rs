//! Who serves a backend now.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use mesh_policy::name::ServicePort;
use mesh_policy::plan::endpoint::EndpointSet;
use metrics::{Counter, Label};

use super::endpoint::{Endpoint, Origin};
use crate::telemetry::errors::{Errors, OUTBOUND_TCP};
use crate::telemetry::{Recorder, Workload};
use crate::transport::connect::CurrentCredentials;

/// What every endpoint of this process is fitted out with.
#[derive(Clone, Debug)]
pub(crate) struct Outfit {
    pub(crate) credentials: CurrentCredentials,
    pub(crate) recorder: Recorder,
    pub(crate) workload: Arc<Workload>,
    /// Connections that could not be made.
    pub(crate) errors: Arc<Errors>,
    /// Requests that waited because their endpoint had as many connections as it may have.
    pub(crate) limited: Counter,
}

impl Outfit {
    pub(crate) fn new(
        credentials: CurrentCredentials,
        recorder: Recorder,
        workload: Arc<Workload>,
    ) -> Self {
        let errors = Errors::outbound(&recorder, &workload, OUTBOUND_TCP);
        let mut labels = workload.labels();
        labels.push(Label::from_static_parts("direction", "outbound"));
        let limited = recorder.counter("mesh_outbound_connections_limited_total", labels);
        Self {
            credentials,
            recorder,
            workload,
            errors: Arc::new(errors),
            limited,
        }
    }
}

/// One port of a service that rules send to.
pub(crate) struct Backend {
    origin: Arc<Origin>,
    /// In the order of their ids.
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
}

impl Backend {
    /// A backend of which no endpoint is known.
    pub(crate) fn new(port: ServicePort, outfit: &Outfit) -> Self {
        let outfit = outfit.clone();
        Self {
            origin: Arc::new(Origin { port, outfit }),
            endpoints: ArcSwap::default(),
        }
    }

    /// What it is called.
    pub(crate) fn port(&self) -> &ServicePort {
        &self.origin.port
    }

    /// Those that take traffic.
    pub(crate) fn endpoints(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.endpoints.load()
    }

    /// What its endpoints have in common.
    #[cfg(test)]
    pub(crate) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    #[cfg(test)]
    pub(crate) fn replace(&self, endpoints: Vec<Arc<Endpoint>>) {
        self.endpoints.store(Arc::new(endpoints));
    }

    /// Makes `set` the endpoints. Those that did not change keep their connections and
    /// what was learnt of them; those that left finish what they carry.
    pub(crate) fn update(&self, set: &EndpointSet) {
        let before = self.endpoints.load();
        // Both are in the order of the ids.
        let mut before = before.iter().peekable();
        let mut known = |id: &str| {
            while before.next_if(|endpoint| endpoint.id() < id).is_some() {}
            before.next_if(|endpoint| endpoint.id() == id)
        };
        let next = set.0.iter().filter(|(_, facts)| facts.weight > 0);
        let next = next.map(|(id, facts)| match known(id) {
            Some(same) if same.is_told_as(facts) => Arc::clone(same),
            Some(changed) if changed.is_reached_as(facts) => Arc::new(changed.with(facts)),
            Some(_) | None => Arc::new(Endpoint::new(id, facts, &self.origin)),
        });
        self.endpoints.store(Arc::new(next.collect()));
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("port", self.port())
            .field("endpoints", &self.endpoints)
            .finish()
    }
}
