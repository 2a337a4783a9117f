//! What an object is called, and what is pinned to it.

use std::collections::BTreeMap;

use super::fields::{At, cut};
use super::kind::Kind;
use super::node::{Key, Node, Value};
use super::resilience;
use crate::name::Label;
use crate::nearest::nearest;

/// The name of the Server annotation that says how long a request body may be silent.
pub(super) const REQUEST_BODY_IDLE: &str = "mesh.rs/request-body-idle";

/// Annotations under these prefixes change behaviour, so an unknown one is a mistake.
const MEANT_FOR_US: &[&str] = &[
    "mesh.rs/",
    "retry.linkerd.io/",
    "timeout.linkerd.io/",
    "balancer.linkerd.io/",
    "balancer.alpha.linkerd.io/",
    OF_THE_PROXY,
];
/// What configures Linkerd's proxy beside a pod, which a process of this mesh does not have.
const OF_THE_PROXY: &str = "config.linkerd.io/";
/// Linkerd's circuit breaker.
const WITHOUT_EFFECT: &[&str] = &[
    "balancer.linkerd.io/failure-accrual",
    "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio",
    "balancer.linkerd.io/failure-accrual-consecutive-max-failures",
    "balancer.linkerd.io/failure-accrual-consecutive-max-penalty",
    "balancer.linkerd.io/failure-accrual-consecutive-min-penalty",
];

/// What an object is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its kind.
    pub kind: Kind,
    /// The version it was written in, such as `policy.linkerd.io/v1beta3`.
    pub api_version: String,
    /// Its namespace; `default` where none was written.
    pub namespace: Label,
    /// Its name within the namespace.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The revision that the writer saw, for optimistic concurrency.
    pub resource_version: Option<String>,
}

/// Reads the head as far as it goes: where something is wrong, a problem is told and
/// the rest of the object is still read for its own.
pub(super) fn read(kind: Kind, api_version: &str, at: &At<'_>) -> Meta {
    let mut fields = at.fields();
    let name = fields
        .need("name", "give the object a name")
        .and_then(|at| match kind {
            Kind::Service => at.parse::<Label>().map(|name| name.to_string()),
            _ => at.object_name(),
        });
    let namespace = match fields.take("namespace") {
        Some(at) => at.parse(),
        None => None,
    };
    let namespace: Label = namespace.unwrap_or_else(default_namespace);
    if let Some(name) = &name {
        *at.sink.object.borrow_mut() = Some(format!("{} {namespace}/{name}", kind.kind()));
    }
    let labels = fields.take("labels").map(|at| labels(&at));
    let annotations = fields.take("annotations");
    let annotations = annotations.map(|at| {
        check_annotations(kind, &at);
        texts(&at)
    });
    let resource_version = fields.take("resourceVersion").and_then(|at| at.text());
    fields.pass(&[
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
        "selfLink",
        "uid",
    ]);
    fields.not_yet(&["generateName"]);
    fields.finish();
    Meta {
        kind,
        api_version: api_version.to_owned(),
        namespace,
        name: name.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        annotations: annotations.unwrap_or_default(),
        resource_version: resource_version.map(ToOwned::to_owned),
    }
}

fn default_namespace() -> Label {
    "default".parse().expect("default is a DNS label")
}

/// A map of labels, with Kubernetes' rule for their values: an object that a real
/// cluster would refuse is refused here too.
pub(super) fn labels(at: &At<'_>) -> BTreeMap<String, String> {
    let labels = texts(at);
    for (name, value) in &labels {
        if !is_label_value(value) {
            at.refuse::<()>(
                format!("gives {:?} the value {:?}", cut(name), cut(value)),
                "write at most 63 letters, digits and inner '-', '_' or '.'",
            );
        }
    }
    labels
}

/// Whether a label of Kubernetes can have this value; it may be empty.
pub(super) fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    value.len() <= 63
        && ends.into_iter().flatten().all(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// A map from text to text.
pub(super) fn texts(at: &At<'_>) -> BTreeMap<String, String> {
    let Value::Map(entries) = &at.node.value else {
        at.refuse::<()>("is not a map", "write fields as 'name: value'");
        return BTreeMap::new();
    };
    let pair = |(key, node): &(Key, Node)| {
        let child = At {
            node,
            path: format!("{}[{:?}]", at.path, cut(&key.name)),
            sink: at.sink,
        };
        Some((key.name.clone(), child.text()?.to_owned()))
    };
    entries.iter().filter_map(pair).collect()
}

/// Annotations that would change behaviour: what nobody knows is a mistake, and what is known
/// and has no effect on this kind is pointed at.
fn check_annotations(kind: Kind, at: &At<'_>) {
    let honoured: &[&str] = match kind {
        Kind::Server => &[REQUEST_BODY_IDLE],
        _ => resilience::supported(kind),
    };
    let Value::Map(entries) = &at.node.value else {
        return;
    };
    for (key, node) in entries {
        let name = key.name.as_str();
        let ours = MEANT_FOR_US.iter().any(|prefix| name.starts_with(prefix));
        if !ours || honoured.contains(&name) {
            continue;
        }
        let place = At {
            node,
            path: format!("{}[{:?}]", at.path, cut(name)),
            sink: at.sink,
        };
        let elsewhere = resilience::ANNOTATIONS.iter().chain(&[REQUEST_BODY_IDLE]);
        let known = elsewhere.chain(WITHOUT_EFFECT).copied();
        if known.clone().any(|known| known == name) || name.starts_with(OF_THE_PROXY) {
            place.warn(
                format!("has no effect on a {} in this version", kind.kind()),
                "leave it out",
            );
            continue;
        }
        let near = nearest(name, honoured.iter().copied()).or_else(|| nearest(name, known));
        let remedy = match near {
            Some(known) => format!("did you mean {known}?"),
            None => "leave it out".to_owned(),
        };
        place.refuse::<()>("is no annotation that is known", remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_those_of_kubernetes() {
        for value in ["", "a", "1.0", "a_B-c", &"x".repeat(63)] {
            assert!(is_label_value(value), "{value:?}");
        }
        for value in ["-a", "a-", ".", "a b", "a/b", "ä", &"x".repeat(64)] {
            assert!(!is_label_value(value), "{value:?}");
        }
    }
}
