//! Objects that this version cannot read close what they govern, and nothing else.
//!
//! A newer version, a stricter reader or another program may have stored them. Half of a
//! policy is none, so what such an object says of itself is used for one thing alone: to
//! find what it is about. Where that cannot be found either, a policy closes its namespace.
//!
//! | object | closes |
//! | --- | --- |
//! | a route | calls to the Services in `parentRefs`; else to those of its namespace |
//! | `TrafficSplit` | calls to `spec.service` where no route governs them |
//! | `Service` | calls to it, and what its workloads serve where a `Server` selects them |
//! | `Server` | what the selected workloads serve |
//! | another policy | what its `targetRef` names; else what its namespace serves |
//! | an authentication | nothing: a reference to it leads nowhere, and so grants nothing |

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mesh_policy::manifest::LabelSelector;
use mesh_policy::name::{ServiceAddress, ServiceName};
use mesh_policy::plan::inbound::InboundPlan;
use mesh_policy::plan::outbound::{PortPlan, ServicePlan};
use mesh_policy::plan::part::Part;
use serde_json::Value;

use super::inbound::{Policies, Workload};
use super::outbound::Routes;

const GATEWAY: &str = "gateway.networking.k8s.io";
const POLICY: &str = "policy.linkerd.io";
const SPLIT: &str = "split.smi-spec.io";

/// An object that is stored and that this version cannot read.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadableObject {
    /// Its API group; empty for core.
    pub group: String,
    /// Its kind as paths name it, such as `servers`.
    pub plural: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is stored, if that is JSON.
    pub json: Option<Value>,
}

/// `servers.policy.linkerd.io shop/api`.
impl fmt::Display for UnreadableObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plural)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        write!(f, " {}/{}", self.namespace, self.name)
    }
}

/// What an object is about, as far as that can be told.
#[derive(Clone, Debug, PartialEq)]
enum Governs {
    /// Calls to a service.
    CallsTo(ServiceName),
    /// Calls to all services of the object's namespace.
    CallsToNamespace,
    /// The workloads of the object's namespace that carry these labels.
    Workloads(LabelSelector),
    /// Those of them that a `Server` selects.
    GuardedWorkloads(LabelSelector),
    /// What serves this service, where a `Server` selects it.
    GuardedService(ServiceName),
    /// The workloads that this `Server` of the object's namespace governs.
    Server(String),
}

/// One object, with what it governs.
#[derive(Clone, Debug)]
struct Closing {
    object: Arc<UnreadableObject>,
    governs: Vec<Governs>,
}

/// All objects of a world that cannot be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreadable(Vec<Closing>);

impl Unreadable {
    pub(super) fn new(objects: impl IntoIterator<Item = Arc<UnreadableObject>>) -> Self {
        let closing = |object: Arc<UnreadableObject>| Closing {
            governs: object.governs(),
            object,
        };
        Self(objects.into_iter().map(closing).collect())
    }

    /// Whether callers of `namespace` have such a route of their own for `service`.
    pub(super) fn consumed_from(&self, service: &ServiceName, namespace: &str) -> bool {
        namespace != service.namespace.as_str()
            && self
                .governing_calls(service)
                .any(|object| object.namespace == namespace)
    }

    /// The objects that govern calls to `service`, from wherever.
    fn governing_calls<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> impl Iterator<Item = &'a UnreadableObject> {
        self.0.iter().filter_map(move |closing| {
            let object = &*closing.object;
            let own = object.namespace == service.namespace.as_str();
            let governs = closing.governs.iter().any(|governs| match governs {
                Governs::CallsTo(named) => named == service,
                Governs::CallsToNamespace => own,
                _ => false,
            });
            governs.then_some(object)
        })
    }

    /// Closes the ports of `service`, as callers of `namespace` see it, that are governed by what
    /// cannot be read. Of two namespaces whose `routes` compete the caller's counts, as ever.
    pub(super) fn close_calls(
        &self,
        plan: &mut ServicePlan,
        (service, namespace): (&ServiceName, &str),
        routes: &Routes,
    ) {
        let consumed = routes.consumed_from(service, namespace);
        for object in self.governing_calls(service) {
            let of_caller = object.namespace == namespace;
            let of_service = object.namespace == service.namespace.as_str() && !consumed;
            if !(of_caller || of_service || object.is("", "services")) {
                continue;
            }
            let is_split = object.is(SPLIT, "trafficsplits");
            let governed = |port: &&mut PortPlan| !(is_split && is_routed(port));
            for port in plan.ports.iter_mut().filter(governed) {
                port.routes.push(Part::closed(object.why()));
            }
        }
    }

    /// Closes `plan`, of what `workload` serves, if it is governed by what cannot be read.
    pub(super) fn close_inbound(
        &self,
        plan: Part<InboundPlan>,
        (serves, workload): (&ServiceAddress, &Workload<'_>),
        policies: &Policies,
    ) -> Part<InboundPlan> {
        let Ok(body) = plan.understood() else {
            return plan;
        };
        let narrowing = body.narrowed_by.iter().map(|narrowing| &narrowing.server);
        let servers = std::iter::once(&body.server).chain(narrowing);
        let guarded = || policies.selects(workload);
        let governs = |governs: &Governs| match governs {
            Governs::CallsTo(_) | Governs::CallsToNamespace => false,
            Governs::Workloads(selector) => selector.matches(workload.labels),
            Governs::GuardedWorkloads(selector) => selector.matches(workload.labels) && guarded(),
            Governs::GuardedService(service) => *service == serves.service && guarded(),
            Governs::Server(name) => servers
                .clone()
                .any(|server| server.kind == "Server" && server.name == *name),
        };
        let closing = self.0.iter().find(|closing| {
            closing.object.namespace == workload.namespace && closing.governs.iter().any(governs)
        });
        match closing {
            None => plan,
            Some(closing) => Part::closed(closing.object.why()),
        }
    }
}

/// Whether a route governs the port, so that no split does.
fn is_routed(port: &PortPlan) -> bool {
    let mut routes = port
        .routes
        .iter()
        .filter_map(|route| route.understood().ok());
    routes.any(|route| route.source.kind != "TrafficSplit" && route.source.kind != "default")
}

impl UnreadableObject {
    /// The object at `<group>/<plural>/<namespace>/<name>`; `None` if the path is none.
    pub(crate) fn at(path: &str, json: Option<Value>) -> Option<Self> {
        let parts: Vec<_> = path.split('/').collect();
        let [group, plural, namespace, name] = *parts.as_slice() else {
            return None;
        };
        Some(Self {
            group: group.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            json,
        })
    }

    fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    fn why(&self) -> String {
        format!(
            "discovery cannot read {self}, which governs this: update discovery, or replace or delete that object"
        )
    }

    /// What it is about. Nothing is read but names: what they are to do there is not understood.
    fn governs(&self) -> Vec<Governs> {
        let spec = self
            .json
            .as_ref()
            .map_or(&Value::Null, |json| &json["spec"]);
        let everything = LabelSelector::default;
        match (self.group.as_str(), self.plural.as_str()) {
            ("", "services") => self.of_service(spec),
            (POLICY, "servers") => {
                let selector = match_labels(&spec["podSelector"]);
                vec![Governs::Workloads(selector.unwrap_or_else(everything))]
            }
            (POLICY, "serverauthorizations") => match spec["server"]["name"].as_str() {
                Some(name) => vec![Governs::Server(name.to_owned())],
                None => vec![Governs::Workloads(everything())],
            },
            (POLICY, "meshtlsauthentications" | "networkauthentications" | "egressnetworks") => {
                Vec::new()
            }
            (SPLIT, "trafficsplits") => match self.service(&spec["service"]) {
                Some(service) => vec![Governs::CallsTo(service)],
                None => vec![Governs::CallsToNamespace],
            },
            (group, plural) => self.of_references(spec).unwrap_or_else(|| {
                if plural.ends_with("routes") && (group == GATEWAY || group == POLICY) {
                    vec![Governs::CallsToNamespace]
                } else if group == POLICY {
                    vec![Governs::Workloads(everything())]
                } else {
                    Vec::new()
                }
            }),
        }
    }

    fn of_service(&self, spec: &Value) -> Vec<Governs> {
        let named = self.service(&Value::from(&*self.name));
        let mut governs = Vec::new();
        governs.extend(named.clone().map(Governs::CallsTo));
        governs.extend(named.map(Governs::GuardedService));
        let selector = match &spec["selector"] {
            // Without one it selects nothing; what does not read may have said anything.
            Value::Null if spec.is_object() => return governs,
            selector => labels(selector).map(LabelSelector::of_labels),
        };
        governs.push(Governs::GuardedWorkloads(selector.unwrap_or_default()));
        governs
    }

    /// What `parentRefs`, `targetRefs` or `targetRef` name; `None` where they name nothing, or
    /// something of which it is not known what that governs.
    fn of_references(&self, spec: &Value) -> Option<Vec<Governs>> {
        let lists = ["parentRefs", "targetRefs"].map(|field| spec[field].as_array());
        let listed = lists.into_iter().flatten().flatten();
        let one = spec.get("targetRef");
        let references: Vec<_> = listed.chain(one).collect();
        if references.is_empty() {
            return None;
        }
        let of_one = |reference: &&Value| self.of_reference(reference);
        let all: Option<Vec<_>> = references.iter().map(of_one).collect();
        Some(all?.concat())
    }

    fn of_reference(&self, reference: &Value) -> Option<Vec<Governs>> {
        let name = reference["name"].as_str()?;
        let kind = reference["kind"].as_str().unwrap_or("Service");
        match (reference["group"].as_str().unwrap_or_default(), kind) {
            ("" | "core", "Service") => {
                let service = ServiceName {
                    namespace: match &reference["namespace"] {
                        Value::Null => self.namespace.parse().ok()?,
                        namespace => namespace.as_str()?.parse().ok()?,
                    },
                    name: name.parse().ok()?,
                };
                Some(vec![Governs::CallsTo(service)])
            }
            ("" | "core", "Namespace") => Some(vec![Governs::Workloads(LabelSelector::default())]),
            (POLICY, "Server") => Some(vec![Governs::Server(name.to_owned())]),
            // A gateway's traffic is none of the mesh's.
            (GATEWAY, "Gateway") => Some(Vec::new()),
            _ => None,
        }
    }

    /// The service that `name` means, in the object's own namespace unless it says another.
    fn service(&self, name: &Value) -> Option<ServiceName> {
        let name = name.as_str()?.split('.').next()?;
        Some(ServiceName {
            namespace: self.namespace.parse().ok()?,
            name: name.parse().ok()?,
        })
    }
}

/// A selector of labels alone, of which every other field would have to be understood.
fn match_labels(selector: &Value) -> Option<LabelSelector> {
    let fields = selector.as_object()?;
    if fields.keys().any(|field| field != "matchLabels") {
        return None;
    }
    let labels = match fields.get("matchLabels") {
        None => BTreeMap::new(),
        Some(found) => labels(found)?,
    };
    Some(LabelSelector::of_labels(labels))
}

fn labels(value: &Value) -> Option<BTreeMap<String, String>> {
    let label = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    value.as_object()?.iter().map(label).collect()
}

#[cfg(test)]
mod tests;
