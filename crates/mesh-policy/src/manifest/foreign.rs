//! Objects of kinds that this version does not serve: what a cluster keeps and a mesh passes over.
//!
//! Files of policy often hold more than policy. A kind of a group that is not the mesh's, and a kind
//! that its specification has in one of the mesh's groups, is skipped and listed; a kind that
//! nobody has in one of these groups is a mistake.

use std::fmt;

use super::fields::{At, Sink, cut};
use super::kind::Kind;
use super::later;
use super::node::Node;
use crate::nearest::nearest;

/// An object that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its version, such as `apps/v1`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, if it says one.
    pub namespace: Option<String>,
    /// Its name; empty if it says none.
    pub name: String,
}

impl Skipped {
    /// All of them in one line, the first ones by name.
    #[must_use]
    pub fn list(skipped: &[Self]) -> String {
        const MOST: usize = 50;
        let mut names: Vec<_> = skipped.iter().take(MOST).map(ToString::to_string).collect();
        if let more @ 1.. = skipped.len().saturating_sub(MOST) {
            names.push(format!("and {more} more"));
        }
        names.join(", ")
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{} ({})", self.name, self.api_version)
    }
}

/// The groups that the mesh serves, wholly or in part, and their kinds that it does not serve.
const GROUPS: [(&str, &[&str]); 12] = [
    (
        "",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "ServiceAccount",
        ],
    ),
    (
        "authorization.k8s.io",
        &[
            "LocalSubjectAccessReview",
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        ],
    ),
    ("discovery.k8s.io", &["EndpointSlice"]),
    (
        "gateway.networking.k8s.io",
        &[
            "BackendLBPolicy",
            "BackendTLSPolicy",
            "GRPCRoute",
            "Gateway",
            "GatewayClass",
            "ListenerSet",
            "ReferenceGrant",
            "TCPRoute",
            "TLSRoute",
            "UDPRoute",
        ],
    ),
    (
        "gateway.networking.x-k8s.io",
        &["XBackendTrafficPolicy", "XListenerSet", "XMesh"],
    ),
    ("linkerd.io", &["ServiceProfile"]),
    (
        "mesh.rs",
        &[
            "Fault",
            "JwtAuthentication",
            "Link",
            "Quota",
            "Rollout",
            "ServicePolicy",
            "Slo",
            "Workload",
        ],
    ),
    (
        "policy.linkerd.io",
        &[
            "EgressNetwork",
            "HTTPLocalConcurrencyLimitPolicy",
            "HTTPLocalRateLimitPolicy",
            "HTTPRoute",
            "UnmeshedNetwork",
        ],
    ),
    (
        "policy.networking.k8s.io",
        &[
            "AdminNetworkPolicy",
            "BaselineAdminNetworkPolicy",
            "ClusterNetworkPolicy",
        ],
    ),
    (
        "specs.smi-spec.io",
        &["HTTPRouteGroup", "TCPRoute", "UDPRoute"],
    ),
    ("split.smi-spec.io", &[]),
    ("workload.linkerd.io", &["ExternalWorkload"]),
];

/// Parts of the names of kinds that say who may call whom, in any group.
const RESTRICTING: [&str; 12] = [
    "AccessPolicy",
    "Authentication",
    "AuthorizationPolicy",
    "EgressNetwork",
    "Intentions",
    "LimitPolicy",
    "NetworkPolicy",
    "NetworkSet",
    "SecurityPolicy",
    "ServerAuthorization",
    "TrafficPermission",
    "TrafficTarget",
];
/// Linkerd's groups, whose routes and profiles limit what may be called.
const LINKERD: [&str; 3] = ["linkerd.io", "policy.linkerd.io", "workload.linkerd.io"];
/// Our own kinds that limit what may be called.
const OWN: [&str; 3] = ["JwtAuthentication", "Quota", "ServicePolicy"];

/// Group, version and kind of an object that says them.
fn kind_of(node: &Node) -> Option<(&str, &str, &str)> {
    let (group, version) = parts(node.text("apiVersion")?);
    Some((group, version, node.text("kind")?))
}

fn parts(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Whether an object is passed over, as far as its head tells.
pub(super) fn is_foreign(node: &Node) -> bool {
    kind_of(node).is_some_and(|(group, version, kind)| {
        Kind::from_api(group, version, kind).is_none() && is_upstream(group, version, kind)
    })
}

/// Whether the specification of the group has the kind; of another group nothing is known.
fn is_upstream(group: &str, version: &str, kind: &str) -> bool {
    match GROUPS.iter().find(|(known, _)| *known == group) {
        Some((_, kinds)) => is_version(version) && kinds.contains(&kind),
        None => !group.is_empty() && misspelt(group).is_none(),
    }
}

/// `v1`, `v1beta3`.
fn is_version(version: &str) -> bool {
    let rest = version.strip_prefix('v').unwrap_or_default();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let stages = ["alpha", "beta"].into_iter();
    let mut stages = stages.filter_map(|stage| rest.split_once(stage));
    digits(rest) || stages.any(|(major, minor)| digits(major) && digits(minor))
}

/// The group that was meant, where the written one is a slip of at most two letters away.
fn misspelt(group: &str) -> Option<&'static str> {
    let names = || GROUPS.iter().map(|(name, _)| *name);
    if names().any(|name| name == group) {
        return None;
    }
    names().find(|name| !name.is_empty() && strsim::osa_distance(group, name) <= 2)
}

/// The object of a foreign kind, after its problems were told.
pub(super) fn read(node: &Node, sink: &Sink) -> Option<Skipped> {
    let (group, version, kind) = kind_of(node)?;
    let metadata = node.get("metadata");
    let text = |name| metadata.and_then(|metadata| metadata.text(name));
    let api_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    let skipped = Skipped {
        api_version: cut(&api_version),
        kind: cut(kind),
        namespace: text("namespace").map(cut),
        name: cut(text("name").unwrap_or_default()),
    };
    *sink.object.borrow_mut() = Some(skipped.to_string());
    let top = At::top(node, sink);
    // What is said of a kind that has no effect would drown the one thing to know.
    let warned = sink.warnings.borrow().len();
    later::check(group, kind, &top);
    sink.warnings.borrow_mut().truncate(warned);
    let own = group == "mesh.rs" && OWN.contains(&kind);
    let restricts =
        own || LINKERD.contains(&group) || RESTRICTING.iter().any(|part| kind.contains(part));
    if restricts {
        top.warn(
            format!("WARNING: the {skipped} is NOT ENFORCED, since this version skips its kind"),
            "so do not rely on it",
        );
    }
    Some(skipped)
}

/// What somebody who wrote a kind that nobody has in the group probably meant.
pub(super) fn remedy(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = parts(api_version);
    if let Some(meant) = misspelt(group) {
        return Some(format!("write apiVersion {meant}/{version}"));
    }
    let (_, kinds) = GROUPS.iter().find(|(known, _)| *known == group)?;
    // A served kind that is near, or has another version, is named by those that are served.
    let served: Vec<_> = Kind::all()
        .iter()
        .filter(|known| known.group() == group)
        .map(|known| known.kind())
        .collect();
    match nearest(kind, kinds.iter().chain(&served).copied())? {
        near if served.contains(&near) => None,
        near if near == kind => Some("write a version such as v1 or v1alpha1".to_owned()),
        near => Some(format!("write kind {near}")),
    }
}
