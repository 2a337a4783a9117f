//! What the steps of the stack have decided about one request so far.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use mesh_policy::budget::Budget;
use mesh_policy::filter::Filters;
use mesh_policy::retry::Tries;
use mesh_policy::route::Rule;
use tokio::time::Instant;

use super::{DecidedRule, Trace};
use crate::answer::Protocol;
use crate::layers::retry::Series;
use crate::layers::timeout::Limit;
use crate::plans::{Backend, InFlight, Port, Routes};
use crate::telemetry::{Route, RouteMetrics};

/// What the steps of the stack have decided about one request so far.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    routed: Arc<Routed>,
    begun: Instant,
    tried_at: Instant,
    protocol: Protocol,
    deadline: Option<Instant>,
    lifetime: Option<(Instant, Limit)>,
    backend: Option<Arc<Backend>>,
    /// Which place of the rule's split the backend has.
    place: usize,
    endpoint: Option<InFlight>,
    is_last: bool,
}

/// What is decided before the first try, and what was learnt of the tries before this one.
#[derive(Clone, Debug)]
struct Routed {
    port: Arc<Port>,
    rule: usize,
    trace: Option<Trace>,
    /// What pays for retries.
    budget: Arc<Budget>,
    made: Tries,
    /// Where earlier tries went.
    tried: Vec<SocketAddr>,
    /// Where this one went: whoever tries again has no other way to learn it.
    went: OnceLock<SocketAddr>,
}

impl Call {
    /// A request that rule `rule` of `port` governs, made now.
    pub(crate) fn new(
        port: Arc<Port>,
        rule: usize,
        budget: Arc<Budget>,
        protocol: Protocol,
    ) -> Self {
        let now = Instant::now();
        let routed = Routed {
            port,
            rule,
            trace: None,
            budget,
            made: Tries::default(),
            tried: Vec::new(),
            went: OnceLock::new(),
        };
        Self {
            routed: Arc::new(routed),
            begun: now,
            tried_at: now,
            protocol,
            deadline: None,
            lifetime: None,
            backend: None,
            place: 0,
            endpoint: None,
            is_last: false,
        }
    }

    /// The same request, which was made at `begun`: what it has waited for since then counts.
    pub(crate) fn begun_at(self, begun: Instant) -> Self {
        Self { begun, ..self }
    }

    /// The same request for the try that follows, `made` being all after the first.
    pub(crate) fn again(&self, made: Tries) -> Self {
        let before = &self.routed;
        let routed = Routed {
            made,
            tried: before
                .tried
                .iter()
                .chain(before.went.get())
                .copied()
                .collect(),
            went: OnceLock::new(),
            ..Routed::clone(before)
        };
        Self {
            routed: Arc::new(routed),
            backend: None,
            endpoint: None,
            is_last: false,
            ..*self
        }
    }

    /// Whoever sent the request wants to know what is decided.
    pub(crate) fn traced(self, trace: &Trace) -> Self {
        let rule = self
            .routes()
            .map(|(routes, rule)| &routes.table.rules()[rule]);
        trace.note(|decided| {
            decided.port = Some(self.routed.port.address.clone());
            decided.route = rule.map(|rule| rule.source.clone());
            decided.rule = rule.map(|rule| DecidedRule {
                index: rule.index,
                name: rule.name.clone(),
            });
        });
        let routed = Routed {
            trace: Some(trace.clone()),
            ..Routed::clone(&self.routed)
        };
        Self {
            routed: Arc::new(routed),
            ..self
        }
    }

    /// The logical port that the caller named.
    pub(crate) fn port(&self) -> &Port {
        &self.routed.port
    }

    /// The port's routes, and which of their rules governs.
    pub(crate) fn routes(&self) -> Option<(&Routes, usize)> {
        let routes = self.routed.port.routes.as_ref().ok()?;
        Some((routes, self.routed.rule))
    }

    /// The rule that governs.
    pub(crate) fn rule(&self) -> Option<&Rule> {
        let (routes, rule) = self.routes()?;
        routes.table.rules().get(rule)
    }

    /// The series of the rule, once they are registered.
    pub(crate) fn route_metrics(&self) -> Option<&RouteMetrics> {
        let (routes, rule) = self.routes()?;
        routes.metrics(rule)?.get()
    }

    /// The series of the rule, registered at its first request.
    pub(crate) fn register_route(&self, series: &Series) -> Option<&RouteMetrics> {
        let (routes, rule) = self.routes()?;
        let place = routes.metrics(rule)?;
        let rule = self.rule()?;
        Some(place.get_or_init(|| {
            series.route(Route {
                port: &self.port().address,
                source: &rule.source,
                index: rule.index,
                name: rule.name.as_deref(),
            })
        }))
    }

    /// What pays for the service's retries.
    pub(crate) fn budget(&self) -> &Budget {
        &self.routed.budget
    }

    /// Whether an earlier try of this request went to `address`.
    pub(crate) fn has_tried(&self, address: SocketAddr) -> bool {
        self.routed.tried.contains(&address)
    }

    /// Whether an earlier try came as far as an endpoint.
    pub(crate) fn is_again(&self) -> bool {
        !self.routed.tried.is_empty()
    }

    /// The tries after the first, this one included.
    pub(crate) fn made(&self) -> Tries {
        self.routed.made
    }

    /// Whether another try may follow if this one takes too long.
    pub(crate) fn may_be_followed(&self) -> bool {
        !self.is_last
    }

    /// No other try can follow this one.
    pub(crate) fn set_last(&mut self) {
        self.is_last = true;
    }

    /// What kind of call it is.
    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// When the call was made.
    pub(crate) const fn begun(&self) -> Instant {
        self.begun
    }

    /// When this try began; the first began with the call.
    pub(crate) const fn tried_at(&self) -> Instant {
        self.tried_at
    }

    /// This try begins `now`.
    pub(crate) const fn begin_try(&mut self, now: Instant) {
        self.tried_at = now;
    }

    /// Until when somebody waits for the response headers.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Until when somebody waits for the end of the response.
    pub(crate) fn lifetime(&self) -> Option<(Instant, Limit)> {
        self.lifetime
    }

    /// Notes until when the response's headers and until when its end is waited for.
    pub(crate) fn set_lifetime(
        &mut self,
        deadline: Option<Instant>,
        lifetime: Option<(Instant, Limit)>,
    ) {
        self.deadline = deadline;
        self.lifetime = lifetime;
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
        if let Some(trace) = &self.routed.trace {
            trace.note(|decided| decided.backend = Some(backend.port().clone()));
        }
        self.place = place;
        self.backend = Some(backend);
    }

    pub(crate) fn set_endpoint(&mut self, endpoint: InFlight) {
        if let Some(trace) = &self.routed.trace {
            trace.note(|decided| {
                decided.endpoint = Some(endpoint.endpoint().facts().address);
                decided.tls = None;
                decided.attempts += 1;
            });
        }
        // A try has one endpoint, so that nothing is there already.
        let went = endpoint.endpoint().facts().address;
        self.routed.went.get_or_init(|| went);
        self.endpoint = Some(endpoint);
    }

    /// A connection carried the request.
    pub(crate) fn carried(&self) {
        if let (Some(trace), Some(endpoint)) = (&self.routed.trace, &self.endpoint) {
            let tls = endpoint.endpoint().pool().tls();
            trace.note(|decided| decided.tls = tls);
        }
    }

    /// The chosen endpoint, once there is one.
    pub(crate) fn chosen(&self) -> Option<&InFlight> {
        self.endpoint.as_ref()
    }
}
