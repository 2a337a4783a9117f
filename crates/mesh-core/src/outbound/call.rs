//! What the steps of the stack have decided about one request so far.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_policy::budget::Budget;
use mesh_policy::filter::Filters;
use mesh_policy::route::Rule;
use tokio::time::Instant;

use super::{DecidedRule, Trace};
use crate::plans::{Backend, InFlight, Port, Routes};

/// What the steps of the stack have decided about one request so far.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    port: Arc<Port>,
    rule: usize,
    deadline: Option<Instant>,
    backend: Option<Arc<Backend>>,
    /// Which place of the rule's split the backend has.
    place: usize,
    endpoint: Option<InFlight>,
    trace: Option<Trace>,
    /// What pays for retries.
    budget: Arc<Budget>,
    /// Where tries of this request went; shared by all of them.
    tried: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Call {
    /// A request that rule `rule` of `port` governs.
    pub(crate) fn new(port: Arc<Port>, rule: usize, budget: Arc<Budget>) -> Self {
        Self {
            port,
            rule,
            deadline: None,
            backend: None,
            place: 0,
            endpoint: None,
            trace: None,
            budget,
            tried: Arc::default(),
        }
    }

    /// Whoever sent the request wants to know what is decided.
    pub(crate) fn traced(self, trace: &Trace) -> Self {
        let rule = self
            .routes()
            .map(|(routes, rule)| &routes.table.rules()[rule]);
        trace.note(|decided| {
            decided.port = Some(self.port.address.clone());
            decided.route = rule.map(|rule| rule.source.clone());
            decided.rule = rule.map(|rule| DecidedRule {
                index: rule.index,
                name: rule.name.clone(),
            });
        });
        let trace = Some(trace.clone());
        Self { trace, ..self }
    }

    /// The logical port that the caller named.
    pub(crate) fn port(&self) -> &Port {
        &self.port
    }

    /// The port's routes, and which of their rules governs.
    pub(crate) fn routes(&self) -> Option<(&Routes, usize)> {
        let routes = self.port.routes.as_ref().ok()?;
        Some((routes, self.rule))
    }

    /// The rule that governs.
    pub(crate) fn rule(&self) -> Option<&Rule> {
        let (routes, rule) = self.routes()?;
        routes.table.rules().get(rule)
    }

    /// What pays for the service's retries.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Whether a try of this request went to `address`.
    pub(crate) fn has_tried(&self, address: SocketAddr) -> bool {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.contains(&address)
    }

    /// Whether this is not the first try.
    pub(crate) fn is_again(&self) -> bool {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        !tried.is_empty()
    }

    /// The rule's limit from call to response headers.
    pub(crate) fn request_timeout(&self) -> Option<Duration> {
        let (routes, rule) = self.routes()?;
        routes.table.rules()[rule].timeouts.request
    }

    /// Until when somebody waits for the response headers.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn set_deadline(&mut self, until: Option<Instant>) {
        self.deadline = until;
    }

    /// The chosen backend.
    pub(crate) fn backend(&self) -> Option<&Arc<Backend>> {
        self.backend.as_ref()
    }

    /// What the rule says is done on the way; `None` for nothing.
    pub(crate) fn filters(&self) -> Option<&Arc<Filters>> {
        let (routes, rule) = self.routes()?;
        let filters = &routes.table.rules()[rule].filters;
        (!filters.is_empty()).then_some(filters)
    }

    /// What the rule says is done on the way to the chosen backend; `None` for nothing.
    pub(crate) fn backend_filters(&self) -> Option<&Arc<Filters>> {
        self.backend.as_ref()?;
        let (routes, rule) = self.routes()?;
        let of_backends = &routes.table.rules()[rule].backend_filters;
        let filters = of_backends.get(self.place)?;
        (!filters.is_empty()).then_some(filters)
    }

    /// The backend at `place` of the rule's split is chosen.
    pub(crate) fn set_backend(&mut self, place: usize, backend: Arc<Backend>) {
        if let Some(trace) = &self.trace {
            trace.note(|decided| decided.backend = Some(backend.port().clone()));
        }
        self.place = place;
        self.backend = Some(backend);
    }

    pub(crate) fn set_endpoint(&mut self, endpoint: InFlight) {
        if let Some(trace) = &self.trace {
            trace.note(|decided| {
                decided.endpoint = Some(endpoint.endpoint().facts().address);
                decided.tls = None;
                decided.attempts += 1;
            });
        }
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.push(endpoint.endpoint().facts().address);
        drop(tried);
        self.endpoint = Some(endpoint);
    }

    /// A connection carried the request.
    pub(crate) fn carried(&self) {
        if let (Some(trace), Some(endpoint)) = (&self.trace, &self.endpoint) {
            let tls = endpoint.endpoint().pool().tls();
            trace.note(|decided| decided.tls = tls);
        }
    }

    /// The chosen backend and its chosen endpoint, once both are.
    pub(crate) fn chosen(&self) -> Option<(&Arc<Backend>, &InFlight)> {
        self.backend.as_ref().zip(self.endpoint.as_ref())
    }
}
