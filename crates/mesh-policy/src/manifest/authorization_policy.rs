//! policy.linkerd.io `AuthorizationPolicy`: a target, and what a client must show.

use super::fields::{At, Fields, cut, each};
use super::meta::Meta;
use crate::name::Label;

/// Lets in whoever satisfies all of its references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// What it guards.
    pub target: PolicyTarget,
    /// All of these must hold; without any, everybody is let in, as Linkerd has it.
    pub authentications: Vec<AuthenticationRef>,
}

/// What an `AuthorizationPolicy` guards, in its own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyTarget {
    /// One `Server`.
    Server(String),
    /// Every `Server` of the namespace.
    Namespace,
    /// A route on a `Server`, which this version does not serve: the policy grants nothing.
    Route(String),
}

/// One thing that a client must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationRef {
    /// What is referred to.
    pub kind: AuthenticationKind,
    /// Its namespace.
    pub namespace: Label,
    /// Its name.
    pub name: String,
}

/// What a policy can refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationKind {
    /// `MeshTLSAuthentication`.
    MeshTls,
    /// `NetworkAuthentication`.
    Network,
    /// A service account: that identity itself.
    ServiceAccount,
}

/// Linkerd takes one of each sort: two. A longer list is told why, up to this length.
const MOST_REFERENCES: usize = 8;
const POLICY_GROUP: &str = "policy.linkerd.io";

pub(super) fn read(meta: &Meta, at: &At<'_>) -> Option<AuthorizationPolicy> {
    let mut fields = at.fields();
    let target = fields.need("targetRef", "name the Server that it guards");
    let references = fields.need("requiredAuthenticationRefs", "name what a client must show");
    fields.finish();
    let target = target.and_then(|at| target_of(meta, &at));
    let at = references?;
    let references = at.list(MOST_REFERENCES)?;
    if references.is_empty() {
        at.warn(
            "is empty, which LETS EVERYBODY IN, also without a certificate",
            "name a MeshTLSAuthentication",
        );
    }
    let authentications = each(&references, |at| reference(meta, at))?;
    check_counts(&at, &authentications)?;
    Some(AuthorizationPolicy {
        target: target?,
        authentications,
    })
}

/// Linkerd's rule: one identity reference and one network reference at most.
fn check_counts(at: &At<'_>, references: &[AuthenticationRef]) -> Option<()> {
    let networks = references
        .iter()
        .filter(|reference| reference.kind == AuthenticationKind::Network)
        .count();
    if networks > 1 || references.len() - networks > 1 {
        return at.refuse(
            "names several of one sort, and all of them would have to hold",
            "name at most one MeshTLSAuthentication or ServiceAccount and one NetworkAuthentication; write a second policy for alternatives",
        );
    }
    Some(())
}

fn target_of(meta: &Meta, at: &At<'_>) -> Option<PolicyTarget> {
    let mut fields = at.fields();
    let (group, kind, name) = names(&mut fields);
    fields.finish();
    let name = name?.object_name()?;
    match (group, kind?.text()?) {
        (POLICY_GROUP, "Server") => Some(PolicyTarget::Server(name)),
        ("" | "core", "Namespace") if name == meta.namespace.as_str() => {
            Some(PolicyTarget::Namespace)
        }
        ("" | "core", "Namespace") => at.refuse(
            format!(
                "names the namespace {name:?} from within {:?}",
                meta.namespace.as_str()
            ),
            "name the policy's own namespace",
        ),
        (POLICY_GROUP | "gateway.networking.k8s.io", route @ ("HTTPRoute" | "GRPCRoute")) => {
            at.warn(
                format!(
                    "names the {route} {name:?}: routes on a Server are NOT ENFORCED in this version, and this policy lets nobody in"
                ),
                "name the Server to let the same clients call all of it",
            );
            Some(PolicyTarget::Route(name))
        }
        (group, kind) => at.refuse(
            format!(
                "names {:?} of group {:?}, which a policy cannot guard",
                cut(kind),
                cut(group)
            ),
            "write group: policy.linkerd.io and kind: Server",
        ),
    }
}

/// Group (empty if absent), kind and name.
fn names<'a>(fields: &mut Fields<'a>) -> (&'a str, Option<At<'a>>, Option<At<'a>>) {
    let group = fields.take("group").and_then(|at| at.text()).unwrap_or("");
    let kind = fields.need("kind", "write the kind");
    let name = fields.need("name", "write the name");
    (group, kind, name)
}

/// A reference to something that proves a client, here or in another namespace.
pub(super) fn reference(meta: &Meta, at: &At<'_>) -> Option<AuthenticationRef> {
    let mut fields = at.fields();
    let (group, kind, name) = names(&mut fields);
    let namespace = match fields.take("namespace") {
        Some(at) => at.parse(),
        None => Some(meta.namespace.clone()),
    };
    fields.finish();
    let kind = match (group, kind?.text()?) {
        (POLICY_GROUP, "MeshTLSAuthentication") => AuthenticationKind::MeshTls,
        (POLICY_GROUP, "NetworkAuthentication") => AuthenticationKind::Network,
        ("" | "core", "ServiceAccount") => AuthenticationKind::ServiceAccount,
        (group, kind) => {
            return at.refuse(
                format!(
                    "names {:?} of group {:?}, which proves nothing of a client",
                    cut(kind),
                    cut(group)
                ),
                "name a MeshTLSAuthentication or NetworkAuthentication of group policy.linkerd.io, or a ServiceAccount",
            );
        }
    };
    let name = match kind {
        AuthenticationKind::ServiceAccount => name?.parse::<Label>()?.to_string(),
        AuthenticationKind::MeshTls | AuthenticationKind::Network => name?.object_name()?,
    };
    Some(AuthenticationRef {
        kind,
        namespace: namespace?,
        name,
    })
}
