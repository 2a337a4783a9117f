//! What an object is called, and what is pinned to it.

use std::collections::BTreeMap;

use super::fields::At;
use super::kind::Kind;
use super::node::Value;
use super::problem::nearest;
use crate::name::Label;

/// The name of the Server annotation that says how long a request body may be silent.
pub(super) const REQUEST_BODY_IDLE: &str = "mesh.rs/request-body-idle";

/// Annotations under these prefixes change behaviour, so an unknown one is a mistake.
const MEANT_FOR_US: &[&str] = &[
    "mesh.rs/",
    "retry.linkerd.io/",
    "timeout.linkerd.io/",
    "balancer.linkerd.io/",
    "balancer.alpha.linkerd.io/",
    "config.linkerd.io/",
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

pub(super) fn read(kind: Kind, api_version: &str, at: &At<'_>) -> Option<Meta> {
    let mut fields = at.fields();
    let name = fields.need("name", "give the object a name")?;
    let text = name.text()?;
    let subdomain =
        |text: &str| text.len() <= 253 && text.split('.').all(|part| part.parse::<Label>().is_ok());
    let fits = match kind {
        Kind::Service => text.parse::<Label>().is_ok(),
        _ => subdomain(text),
    };
    if !fits {
        return name.refuse(
            format!("{text:?} is no name"),
            "write lower-case letters, digits and inner '-'",
        );
    }
    let namespace = match fields.take("namespace") {
        Some(at) => at.parse()?,
        None => "default".parse().ok()?,
    };
    *at.sink.object.borrow_mut() = Some(format!("{} {namespace}/{text}", kind.kind()));
    let labels = fields
        .take("labels")
        .map(|at| texts(&at))
        .unwrap_or_default();
    let annotations = fields.take("annotations");
    let annotations = annotations.map(|at| {
        refuse_unknown(kind, &at);
        texts(&at)
    });
    let resource_version = fields.take("resourceVersion").and_then(|at| at.text());
    fields.pass(&[
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "selfLink",
        "uid",
    ]);
    fields.finish();
    Some(Meta {
        kind,
        api_version: api_version.to_owned(),
        namespace,
        name: text.to_owned(),
        labels,
        annotations: annotations.unwrap_or_default(),
        resource_version: resource_version.map(ToOwned::to_owned),
    })
}

/// A map from text to text.
pub(super) fn texts(at: &At<'_>) -> BTreeMap<String, String> {
    let Value::Map(entries) = &at.node.value else {
        at.refuse::<()>("is not a map", "write fields as 'name: value'");
        return BTreeMap::new();
    };
    let pair = |(key, node)| {
        let (key, node): (&super::node::Key, _) = (key, node);
        let child = At {
            node,
            path: format!("{}[{:?}]", at.path, key.name),
            sink: at.sink,
        };
        Some((key.name.clone(), child.text()?.to_owned()))
    };
    entries
        .iter()
        .map(|(key, node)| (key, node))
        .filter_map(pair)
        .collect()
}

fn refuse_unknown(kind: Kind, at: &At<'_>) {
    let supported: &[&str] = match kind {
        Kind::Server => &[REQUEST_BODY_IDLE],
        _ => &[],
    };
    let Value::Map(entries) = &at.node.value else {
        return;
    };
    for (key, node) in entries {
        let name = key.name.as_str();
        let ours = MEANT_FOR_US.iter().any(|prefix| name.starts_with(prefix));
        if !ours || supported.contains(&name) {
            continue;
        }
        let remedy = match nearest(name, supported.iter().copied()) {
            Some(known) => format!("write {known}"),
            None => "leave it out".to_owned(),
        };
        let place = At {
            node,
            path: format!("{}[{name:?}]", at.path),
            sink: at.sink,
        };
        place.refuse::<()>(
            "is an annotation that this version does not honour here",
            remedy,
        );
    }
}
