//! A service's plan, compiled: what the rules decide, and the backends they decide for.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use mesh_policy::budget::BudgetLimits;
use mesh_policy::name::{ServiceName, ServicePort};
use mesh_policy::plan::outbound::{ServicePlan, TargetPlan};
use mesh_policy::report::Rejection;
use mesh_policy::route::{ClosedPort, Rule, Table};
use mesh_policy::split::{Split, Target};

use super::Backend;
use crate::telemetry::{Recorder, RetryMetrics, RouteMetrics, Workload};

/// A service as its plan has it. Immutable: a change is another one.
#[derive(Debug)]
pub(crate) struct Service {
    numbers: Vec<u16>,
    ports: Vec<Arc<Port>>,
    budget: BudgetLimits,
}

/// One logical port of a service.
#[derive(Debug)]
pub(crate) struct Port {
    /// What the caller named.
    pub(crate) address: ServicePort,
    /// Where its requests go, or why nothing goes anywhere.
    pub(crate) routes: Result<Routes, ClosedPort>,
    retries: OnceLock<RetryMetrics>,
}

impl Port {
    /// The series of its retries, which stay for as long as the plan.
    pub(crate) fn retries(&self, recorder: &Recorder, workload: &Workload) -> &RetryMetrics {
        let register = || RetryMetrics::register(recorder, workload, &self.address);
        self.retries.get_or_init(register)
    }
}

/// The rules of a port, and the backends that they name.
#[derive(Debug)]
pub(crate) struct Routes {
    /// What decides.
    pub(crate) table: Table,
    /// By rule, then by place in its split; `None` for one that cannot be called.
    backends: Vec<Vec<Option<Arc<Backend>>>>,
    /// By rule; registered at its first request.
    metrics: Vec<OnceLock<RouteMetrics>>,
}

impl Service {
    /// Compiles a plan; `backend` gives the backend of a port.
    pub(crate) fn compile(
        name: &ServiceName,
        plan: &ServicePlan,
        mut backend: impl FnMut(&ServicePort) -> Arc<Backend>,
    ) -> Self {
        let port = |port: &mesh_policy::plan::outbound::PortPlan| {
            let address = ServicePort {
                service: name.clone(),
                port: port.port,
            };
            let routes = Table::compile(port).map(|table| {
                let splits = table.rules().iter().map(|rule| &rule.split);
                let backends = splits.map(|split| resolve(split, &mut backend)).collect();
                let metrics = table.rules().iter().map(|_| OnceLock::new()).collect();
                Routes {
                    table,
                    backends,
                    metrics,
                }
            });
            Arc::new(Port {
                address,
                routes,
                retries: OnceLock::new(),
            })
        };
        Self {
            numbers: plan.ports.iter().map(|port| port.port).collect(),
            ports: plan.ports.iter().map(port).collect(),
            budget: BudgetLimits::from(plan.budget),
        }
    }

    /// Goes on with the series of those rules that `before` had too: a rule that is rarely
    /// used must not lose its counts because another one changed.
    pub(crate) fn keep_counting(&self, before: &Self) {
        for port in &self.ports {
            let same = before.port(port.address.port);
            let same = same.and_then(|port| port.routes.as_ref().ok());
            if let (Ok(now), Some(before)) = (&port.routes, same) {
                now.keep_counting(before);
            }
        }
    }

    /// How much retries may add to its load.
    pub(crate) const fn budget(&self) -> BudgetLimits {
        self.budget
    }

    /// Shows the series of its ports before anything has happened: a rate needs a zero before
    /// the one.
    pub(crate) fn announce(&self, recorder: &Recorder, workload: &Workload) {
        for port in &self.ports {
            port.retries(recorder, workload);
        }
    }

    /// The logical ports' numbers, in ascending order.
    pub(crate) fn numbers(&self) -> &[u16] {
        &self.numbers
    }

    /// The port of that number.
    pub(crate) fn port(&self, number: u16) -> Option<&Arc<Port>> {
        let mut ports = self.ports.iter();
        ports.find(|port| port.address.port == number)
    }

    /// What had to be closed, for discovery to show.
    pub(crate) fn rejections(&self) -> impl Iterator<Item = Rejection> {
        self.ports.iter().filter_map(|port| {
            let why = port.routes.as_ref().err()?.to_string();
            let subject = port.address.to_string();
            Some(Rejection { subject, why })
        })
    }
}

impl Routes {
    fn keep_counting(&self, before: &Self) {
        let name = |rule: &Rule| (rule.source.clone(), rule.index, rule.name.clone());
        let known = before.table.rules().iter().zip(&before.metrics);
        let known: HashMap<_, _> = known
            .filter_map(|(rule, metrics)| Some((name(rule), metrics.get()?)))
            .collect();
        for (rule, metrics) in self.table.rules().iter().zip(&self.metrics) {
            if let Some(known) = known.get(&name(rule)) {
                metrics.get_or_init(|| RouteMetrics::clone(known));
            }
        }
    }

    /// The place of the series of rule `rule`.
    pub(crate) fn metrics(&self, rule: usize) -> Option<&OnceLock<RouteMetrics>> {
        self.metrics.get(rule)
    }

    /// The backend at `place` in the split of rule `rule`; `None` for one that cannot be called.
    pub(crate) fn backend(&self, rule: usize, place: usize) -> Option<&Arc<Backend>> {
        self.backends.get(rule)?.get(place)?.as_ref()
    }
}

fn resolve(
    split: &Split,
    backend: &mut impl FnMut(&ServicePort) -> Arc<Backend>,
) -> Vec<Option<Arc<Backend>>> {
    let targets = split.backends().iter().map(|backend| &backend.target);
    targets
        .map(|target| match target {
            Target::Service(port) => Some(backend(port)),
            Target::Invalid { .. } => None,
        })
        .collect()
}

/// The backends that a plan needs to be current: those of every part that is understood.
pub(crate) fn needs(plan: &ServicePlan) -> BTreeSet<ServicePort> {
    let routes = plan.ports.iter().flat_map(|port| &port.routes);
    let understood = routes.filter_map(|route| route.understood().ok());
    let backends = understood.flat_map(|route| route.rules.iter().flat_map(|rule| &rule.backends));
    backends
        .filter_map(|backend| match &backend.target {
            TargetPlan::Service(port) => Some(port.clone()),
            TargetPlan::Invalid { .. } => None,
        })
        .collect()
}
