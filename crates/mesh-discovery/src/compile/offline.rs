//! Questions about manifests with no server: the same compiler, and nobody who serves.
//!
//! Files do not say all that a mesh knows: not which processes run, not what labels they have
//! beside those that a Service selects, and not which of two objects is older. What they leave open
//! is tried in every way, and what an answer then rests on is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_policy::explain::answer::Explanation;
use mesh_policy::explain::{Known, Possible, Question, explain};
use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::Manifest;
use mesh_policy::name::{ServiceAddress, ServiceName, ServicePort};
use mesh_policy::plan::watch::Cursor;

use super::effect::NO_WORKLOAD;
use super::inbound::{Candidates, Decision, ServerObject};
use super::ports::PortFacts;
use super::{Change, DEFAULT_PORT, Ineffective, Sources, Workload, World};

/// What a set of manifests means.
///
/// Services are those that have a `Service` here, and the labels of their workloads are its
/// `selector`.
#[derive(Debug)]
pub struct Offline {
    sources: Sources,
}

impl Offline {
    /// Takes manifests as discovery would, once they are applied.
    #[must_use]
    pub fn new(domain: TrustDomain, manifests: Vec<Manifest>) -> Self {
        Self {
            sources: Sources {
                cursor: Cursor {
                    store: "offline".to_owned(),
                    revision: 0,
                },
                domain,
                objects: manifests.into_iter().map(Arc::new).collect(),
                registrations: Vec::new(),
                served: [].into(),
            },
        }
    }

    /// Takes these ports to be served by processes.
    #[must_use]
    pub fn serving(mut self, ports: impl IntoIterator<Item = ServicePort>) -> Self {
        self.sources.served.extend(ports);
        self
    }

    /// Explains what becomes of a request from `namespace`.
    #[must_use]
    pub fn explain(&self, asked: &Question<'_>, namespace: &str) -> Explanation {
        let mut world = World::new(self.sources.clone());
        let service = &asked.to.service;
        let unknown = !world.services.knows(service);
        let port = ServicePort {
            service: service.clone(),
            port: asked.to.port.unwrap_or(DEFAULT_PORT),
        };
        if unknown {
            let mut sources = self.sources.clone();
            sources.served.insert(port.clone());
            world = World::new(sources);
        }
        let plan = world.service_plan(service, namespace);
        let known = Known {
            service: plan.as_deref(),
            inbound: |port: &ServicePort| possible(&world, port),
        };
        let mut answer = explain(asked, &known);
        if unknown {
            answer.guess(format!(
                "no file holds a Service {service}: processes are taken to serve {port}"
            ));
        }
        for guess in missing(&world, &answer) {
            answer.guess(guess);
        }
        answer
    }
}

/// Which of `manifests` would have no effect where all of them are applied at once, as far as
/// they say so: not what the labels of processes decide.
#[must_use]
pub fn ineffective(domain: TrustDomain, manifests: &[Manifest]) -> Vec<Ineffective> {
    let nothing = World::new(Offline::new(domain, Vec::new()).sources);
    let mut found = nothing.ineffective(&Change {
        written: manifests,
        deleted: None,
    });
    found.retain(|one| one.reason != NO_WORKLOAD);
    found
}

/// What is guessed of backends that are nowhere in the files.
fn missing(world: &World, answer: &Explanation) -> Vec<String> {
    let backends = answer.backends.iter().filter(|backend| !backend.valid);
    let names = backends.map(|backend| format!("{}.{}", backend.name, backend.namespace));
    let missing = names.filter(|name| {
        let name = name.parse();
        name.is_ok_and(|name| !world.services.knows(&name))
    });
    missing
        .map(|name| {
            format!(
                "no file holds a Service {name}, and nobody is taken to serve it: \
                 where processes do, say --served {name}:PORT"
            )
        })
        .collect()
}

/// Every policy that `port` may have where processes serve it, the likeliest first.
fn possible(world: &World, port: &ServicePort) -> Vec<Possible> {
    let mut possible = Vec::new();
    for (number, guess) in [
        (Some(port.port), String::new()),
        (
            None,
            format!(
                "a process that serves {} may name its port, or not",
                port.service
            ),
        ),
    ] {
        let serves = ServiceAddress {
            service: port.service.clone(),
            port: number,
        };
        if world.resolve(&serves) != *port {
            continue;
        }
        for (place, labels) in labels_of(world, &port.service).into_iter().enumerate() {
            let guess = match place {
                0 => guess.clone(),
                _ => format!(
                    "processes of {} may have any labels: no file says which",
                    port.service
                ),
            };
            let decisions = decisions(world, &serves, labels).into_iter();
            possible.extend(decisions.map(|(decided, why)| Possible {
                plan: world.policies.plan_of(port.clone(), &decided),
                guess: if why.is_empty() { guess.clone() } else { why },
            }));
        }
    }
    possible
}

/// Labels that processes which serve `service` may have: those that it selects, else none, or
/// those that any other Service of the namespace selects.
fn labels_of<'a>(world: &'a World, service: &ServiceName) -> Vec<&'a BTreeMap<String, String>> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let selected = world.services.object(service);
    let selected = selected.map(|object| &object.selector);
    if let Some(selector) = selected.filter(|selector| !selector.is_empty()) {
        return vec![selector];
    }
    let objects = world.services.objects();
    let beside = objects.filter(|(name, _)| name.namespace == service.namespace);
    let mut labels: Vec<_> = beside.map(|(_, object)| &object.selector).collect();
    labels.retain(|selector| !selector.is_empty());
    labels.sort();
    labels.dedup();
    labels.insert(0, &NONE);
    labels
}

/// What may be decided of a process that serves `serves`, each with what has to be so for it.
fn decisions<'a>(
    world: &'a World,
    serves: &ServiceAddress,
    labels: &BTreeMap<String, String>,
) -> Vec<(Decision<'a>, String)> {
    let service = &serves.service;
    let workload = Workload {
        namespace: service.namespace.as_str(),
        labels,
    };
    let facts = PortFacts::new(&world.services, serves, &workload);
    let (mut all, mut sure, mut perhaps) =
        <(Candidates<'_>, Candidates<'_>, Candidates<'_>)>::default();
    for server in world.policies.servers(workload.namespace) {
        let selects = server.server.selector.matches_with_more(labels);
        if selects.unwrap_or_else(|| server.server.selector.matches(labels)) {
            all.consider(server, &facts);
        }
        match selects {
            Some(true) => sure.consider(server, &facts),
            Some(false) => {}
            None => perhaps.consider(server, &facts),
        }
    }
    let likeliest = all.decide();
    let name = |one: &ServerObject<'_>| one.manifest.meta.name.clone();
    let mut decisions = vec![(likeliest.clone(), String::new())];
    let mut add = |governs: Option<ServerObject<'a>>, more: Option<ServerObject<'a>>, why| {
        let narrowed_by = likeliest.narrowed_by.iter().copied().chain(more).collect();
        decisions.push((
            Decision {
                governs,
                narrowed_by,
            },
            why,
        ));
    };
    if let Some((first, rest)) = all.exact.split_first() {
        let rest = rest.iter().filter(|other| !(aged(first) && aged(other)));
        for other in rest {
            let (first, second) = (name(first), name(other));
            let why = format!(
                "the files do not say which of the Servers {first} and {second} is the older one, which governs"
            );
            add(Some(*other), None, why);
        }
    }
    let carries = |one: &ServerObject<'_>| {
        format!(
            "processes of {service} may have labels by which the Server {} selects them, or not",
            name(one)
        )
    };
    for one in &perhaps.exact {
        add(Some(*one), None, carries(one));
    }
    for one in perhaps.unsure.iter().chain(&perhaps.unlisted) {
        add(likeliest.governs, Some(*one), carries(one));
    }
    let all = perhaps
        .exact
        .iter()
        .chain(&perhaps.unsure)
        .chain(&perhaps.unlisted);
    if let Some(one) = all.into_iter().next() {
        decisions.push((sure.decide(), carries(one)));
    }
    decisions
}

/// Whether the object says since when it is there, as one that was applied does.
fn aged(one: &ServerObject<'_>) -> bool {
    let created = &one.manifest.raw["metadata"]["creationTimestamp"];
    created.as_str().is_some_and(|created| !created.is_empty())
}
