//! What each `Server` guards: counted from the decisions that processes are told.

use std::collections::{BTreeMap, BTreeSet};

use mesh_policy::manifest::{Manifest, PortSelector, ServicePortSpec};
use mesh_policy::name::{ServiceAddress, ServicePort};

use super::Workload;
use super::inbound::{Candidates, Policies, ServerObject};
use super::ports::PortFacts;
use super::services::Services;

/// A kind of process that serves: all that policy can tell of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serving {
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) serves: ServiceAddress,
}

impl Serving {
    pub(super) fn workload(&self) -> Workload<'_> {
        Workload {
            namespace: &self.namespace,
            labels: &self.labels,
        }
    }
}

/// What one `Server` does; each field is the first port where it does so.
#[derive(Clone, Debug, Default)]
pub(super) struct Effect {
    /// Its authorizations say who may call.
    pub(super) governs: Option<ServicePort>,
    /// It may mean this port, and only takes away.
    pub(super) narrows: Option<ServicePort>,
    /// An older `Server` of this name governs the port; no port where no workload is there yet.
    pub(super) loses: Option<(String, Option<ServicePort>)>,
    /// It selects a workload that serves this.
    pub(super) selects: Option<ServicePort>,
}

/// Another `Server` governs every port that one selects.
pub(super) const SUPERSEDED: &str = "Superseded";
/// No process has the labels that a `Server` selects.
pub(super) const NO_WORKLOAD: &str = "NoMatchingWorkload";
/// No selected process has the port that a `Server` names.
const NO_PORT: &str = "NoMatchingPort";

/// Why a `Server` governs no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unguarded {
    /// In one word.
    pub(super) reason: &'static str,
    /// In a sentence, with the remedy.
    pub(super) message: String,
}

impl Effect {
    /// Why a `Server` of this effect, for the port `wanted`, governs no port; `None` if it does.
    pub(super) fn unguarded(&self, wanted: &PortSelector) -> Option<Unguarded> {
        if self.governs.is_some() {
            return None;
        }
        let (reason, message) = match (&self.loses, &self.narrows, &self.selects) {
            (Some((_, Some(_))), None, _) => return self.superseded(),
            (_, Some(port), _) => (
                NO_PORT,
                format!(
                    "no Service says that {port} is its port {wanted}: it only takes away from whom others let in; give the port this name or targetPort in a Service, or correct spec.port"
                ),
            ),
            (_, None, Some(port)) => (
                NO_PORT,
                format!(
                    "the processes that it selects serve {port}, and {wanted} is no port of theirs: it guards nothing; write the logical port, or give a Service of theirs this targetPort"
                ),
            ),
            (_, None, None) => (
                NO_WORKLOAD,
                "no process of its namespace has the labels that it selects: it guards nothing; set MESH_LABELS of the processes, or correct spec.podSelector"
                    .to_owned(),
            ),
        };
        Some(Unguarded { reason, message })
    }

    /// Which `Server` governs a port in place of one of this effect.
    pub(super) fn superseded(&self) -> Option<Unguarded> {
        let (winner, port) = self.loses.as_ref()?;
        let port = port
            .as_ref()
            .map_or_else(|| "the same port".to_owned(), ToString::to_string);
        Some(Unguarded {
            reason: SUPERSEDED,
            message: format!(
                "{} governs {port} in its place: remove one of the two",
                first(winner)
            ),
        })
    }
}

/// The one of two that counts: its age decides, or its name where both came at once.
fn first(winner: &str) -> String {
    format!("the Server {winner}, older or first by name,")
}

/// What all `Server`s of a mesh do.
#[derive(Debug)]
pub(super) struct Effects(BTreeMap<(String, String), Effect>);

impl Effects {
    /// Over all `workloads`, and those that Services select where nobody serves these yet.
    pub(super) fn new(
        services: &Services,
        policies: &Policies,
        workloads: &BTreeSet<Serving>,
    ) -> Self {
        let mut effects = Self(BTreeMap::new());
        let served: BTreeSet<_> = workloads.iter().map(|one| &one.serves.service).collect();
        for serving in workloads {
            effects.count(services, policies, serving);
        }
        for (name, service) in services.objects() {
            if served.contains(name) || service.selector.is_empty() {
                continue;
            }
            for port in &service.ports {
                let serving = Serving {
                    namespace: name.namespace.to_string(),
                    labels: service.selector.clone(),
                    serves: ServiceAddress {
                        service: name.clone(),
                        port: Some(port.port),
                    },
                };
                effects.count(services, policies, &serving);
            }
        }
        for namespace in policies.namespaces() {
            effects.compete(namespace, policies);
        }
        effects
    }

    /// What the `Server` that `manifest` is does.
    pub(super) fn of(&self, manifest: &Manifest) -> Effect {
        self.0.get(&key(manifest)).cloned().unwrap_or_default()
    }

    /// Why none of `servers` governs a port, where there are any.
    pub(super) fn of_all(&self, servers: &[ServerObject<'_>]) -> Option<Unguarded> {
        let unguarded = servers.iter().map(|one| {
            let Unguarded { reason, message } =
                self.of(one.manifest).unguarded(&one.server.port)?;
            let message = format!("of its Server {}: {message}", one.manifest.meta.name);
            Some(Unguarded { reason, message })
        });
        let all: Option<Vec<_>> = unguarded.collect();
        all?.into_iter().next()
    }

    fn entry(&mut self, object: &ServerObject<'_>) -> &mut Effect {
        self.0.entry(key(object.manifest)).or_default()
    }

    fn count(&mut self, services: &Services, policies: &Policies, serving: &Serving) {
        let port = services.resolve(&serving.serves);
        for object in policies.servers(&serving.namespace) {
            if object.server.selector.matches(&serving.labels) {
                let effect = self.entry(&object);
                effect.selects.get_or_insert_with(|| port.clone());
            }
        }
        let candidates = policies.candidates(services, &serving.serves, &serving.workload());
        let decided = candidates.decide();
        if let Some(governs) = &decided.governs {
            let effect = self.entry(governs);
            effect.governs.get_or_insert_with(|| port.clone());
            self.lose(&candidates, Some(&port));
        }
        for narrows in &decided.narrowed_by {
            let effect = self.entry(narrows);
            effect.narrows.get_or_insert_with(|| port.clone());
        }
    }

    /// All but the oldest of those that name one port lose it.
    fn lose(&mut self, candidates: &Candidates<'_>, port: Option<&ServicePort>) {
        let Some((first, rest)) = candidates.exact.split_first() else {
            return;
        };
        for object in rest {
            let winner = first.manifest.meta.name.clone();
            let effect = self.entry(object);
            effect.loses.get_or_insert((winner, port.cloned()));
        }
    }

    /// Which `Server`s would lose, of those that select no workload: a process with the labels
    /// that such a one names is taken to serve the port that it names.
    fn compete(&mut self, namespace: &str, policies: &Policies) {
        for object in policies.servers(namespace) {
            let Some(labels) = object.server.selector.example() else {
                continue;
            };
            if self.entry(&object).selects.is_some() {
                continue;
            }
            let port = example(&object.server.port);
            let facts = PortFacts::alone(&port);
            let mut candidates = Candidates::default();
            let selecting = policies.servers(namespace);
            selecting
                .filter(|other| other.server.selector.matches(&labels))
                .for_each(|other| candidates.consider(other, &facts));
            self.lose(&candidates, None);
        }
    }
}

fn key(manifest: &Manifest) -> (String, String) {
    let meta = &manifest.meta;
    (meta.namespace.to_string(), meta.name.clone())
}

/// A port that `wanted` means, and of which nothing else is known.
fn example(wanted: &PortSelector) -> ServicePortSpec {
    let (port, name) = match wanted {
        PortSelector::Number(number) => (*number, None),
        PortSelector::Name(name) => (0, Some(name.clone())),
    };
    ServicePortSpec {
        name,
        port,
        target: None,
        app_protocol: None,
    }
}
