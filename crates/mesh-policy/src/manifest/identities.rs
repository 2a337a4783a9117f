//! Identities as policies spell them: SPIFFE IDs, or Linkerd's DNS form, with whole-segment wildcards.
//!
//! A spelling that Linkerd takes is taken: where nobody of this mesh can have that identity, the
//! entry matches nobody, and the writer is warned.

use std::fmt;
use std::str::FromStr;

use crate::identity::{Identity, TrustDomain};
use crate::name::Label;
use crate::plan::inbound::PatternPlan;

/// The labels of `sa.ns.serviceaccount.identity.<control-plane-namespace>.<domain>` in the middle.
const MIDDLE: &str = "serviceaccount.identity";
/// Linkerd's default domain, which stands for the mesh's own.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// One entry of a list of identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySpec {
    /// `*`: any identity at all.
    Any,
    /// A whole SPIFFE ID.
    Spiffe(Identity),
    /// A service account, or every one of a namespace, of the domain that was written.
    Workload {
        /// The namespace; `None` for any.
        namespace: Option<Label>,
        /// The service account; `None` for any.
        account: Option<Label>,
        /// The domain as it was written.
        domain: String,
    },
    /// `*.` and the end of a DNS form that stands in front of the namespace.
    Domain(String),
    /// A DNS name of another form.
    Dns(String),
}

impl IdentitySpec {
    /// What the spelling means in the mesh's own trust domain.
    ///
    /// # Errors
    ///
    /// [`UnknownIdentity`] where nobody of this mesh can have it: the entry matches nobody.
    pub fn resolve(&self, own: &TrustDomain) -> Result<Resolved, UnknownIdentity> {
        let every = |namespace: Option<&Label>, account: Option<&Label>| {
            Resolved::Pattern(PatternPlan {
                trust_domain: Some(own.clone()),
                namespace: namespace.cloned(),
                account: account.cloned(),
            })
        };
        match self {
            Self::Any => Ok(Resolved::Pattern(PatternPlan::default())),
            Self::Spiffe(identity) if identity.trust_domain() != own.as_str() => {
                Err(UnknownIdentity::domain(identity.trust_domain(), own))
            }
            Self::Spiffe(identity) if identity.workload().is_none() => {
                Err(UnknownIdentity::Form(identity.to_string()))
            }
            Self::Spiffe(identity) => Ok(Resolved::Exact(identity.clone())),
            Self::Workload { domain, .. } if !is_own(domain, own) => {
                Err(UnknownIdentity::domain(domain, own))
            }
            Self::Workload {
                namespace: Some(namespace),
                account: Some(account),
                ..
            } => Ok(Resolved::Exact(Identity::for_workload(
                own, namespace, account,
            ))),
            Self::Workload {
                namespace, account, ..
            } => Ok(every(namespace.as_ref(), account.as_ref())),
            Self::Domain(end) if ends_in_own(end, own) => Ok(every(None, None)),
            Self::Domain(end) => Err(UnknownIdentity::Form(format!("*.{end}"))),
            Self::Dns(name) => Err(UnknownIdentity::Form(name.clone())),
        }
    }

    /// The domain that the spelling names, where that is neither `cluster.local` nor anyone's.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        let domain = match self {
            Self::Spiffe(identity) => identity.trust_domain(),
            Self::Workload { domain, .. } => domain,
            Self::Any | Self::Domain(_) | Self::Dns(_) => return None,
        };
        (domain != CLUSTER_DOMAIN).then_some(domain)
    }
}

fn is_own(domain: &str, own: &TrustDomain) -> bool {
    domain == CLUSTER_DOMAIN || domain == own.as_str()
}

/// Whether every identity of the mesh ends so: `cluster.local`, or with labels of the DNS form
/// before it, such as `linkerd.cluster.local` and `identity.linkerd.cluster.local`.
fn ends_in_own(end: &str, own: &TrustDomain) -> bool {
    [CLUSTER_DOMAIN, own.as_str()].into_iter().any(|domain| {
        let Some(before) = end.strip_suffix(domain) else {
            return false;
        };
        let labels: Vec<_> = before.trim_end_matches('.').split('.').collect();
        let dotted = before.is_empty() || before.ends_with('.');
        dotted && matches!(labels[..], [_] | ["identity", _])
    })
}

/// What an [`IdentitySpec`] stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// One identity.
    Exact(Identity),
    /// Identities by their segments.
    Pattern(PatternPlan),
}

impl FromStr for IdentitySpec {
    type Err = InvalidIdentitySpec;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason: &dyn fmt::Display| InvalidIdentitySpec {
            text: text.chars().take(120).collect(),
            reason: reason.to_string(),
        };
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.starts_with("spiffe:") {
            let identity = text.parse().map_err(|error| refuse(&error))?;
            return Ok(Self::Spiffe(identity));
        }
        let form = "write spiffe://<domain>/ns/<ns>/sa/<name>, <sa>.<ns>.serviceaccount.identity.<control-plane>.<domain>, or '*'";
        if !is_dns(text) {
            return Err(refuse(&form));
        }
        if let Some(workload) = workload(text) {
            return Ok(workload);
        }
        Ok(match text.strip_prefix("*.") {
            Some(end) => Self::Domain(end.to_owned()),
            None => Self::Dns(text.to_owned()),
        })
    }
}

/// Linkerd's form for one: labels of lower-case letters, digits and inner hyphens, the first
/// of which may be `*`.
fn is_dns(text: &str) -> bool {
    let mut labels = text.strip_prefix("*.").unwrap_or(text).split('.');
    text.len() <= 253 && labels.all(|label| label.parse::<Label>().is_ok())
}

/// `sa.ns.serviceaccount.identity.<control-plane-namespace>.<domain>`, with a `*` in front.
fn workload(text: &str) -> Option<IdentitySpec> {
    let (subject, rest) = text.split_once(&format!(".{MIDDLE}."))?;
    let (_, domain) = rest.split_once('.')?;
    let (account, namespace) = match subject.split_once('.') {
        None if subject == "*" => (None, None),
        Some(("*", namespace)) => (None, Some(namespace.parse().ok()?)),
        Some((account, namespace)) => (Some(account.parse().ok()?), Some(namespace.parse().ok()?)),
        None => return None,
    };
    Some(IdentitySpec::Workload {
        namespace,
        account,
        domain: domain.to_owned(),
    })
}

/// A spelling that names no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no identity: {reason}")]
pub struct InvalidIdentitySpec {
    text: String,
    reason: String,
}

/// An identity that nobody of this mesh can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownIdentity {
    /// It is of a domain that this mesh does not know.
    #[error("matches NOBODY: the identity is of the domain {domain:?}, and this mesh is {:?}", own.as_str())]
    Domain {
        /// The domain as it was written.
        domain: String,
        /// The mesh's own.
        own: TrustDomain,
    },
    /// It has a form that no workload's identity has.
    #[error("matches NOBODY: no workload of this mesh has an identity of the form {0:?}")]
    Form(String),
}

impl UnknownIdentity {
    fn domain(domain: &str, own: &TrustDomain) -> Self {
        Self::Domain {
            domain: domain.to_owned(),
            own: own.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Resolved, String> {
        let own = "mesh.local".parse().unwrap();
        let spec: IdentitySpec = text
            .parse()
            .map_err(|e: InvalidIdentitySpec| e.to_string())?;
        spec.resolve(&own).map_err(|error| error.to_string())
    }

    fn exact(text: &str) -> Result<Resolved, String> {
        Ok(Resolved::Exact(text.parse().unwrap()))
    }

    #[test]
    fn linkerds_names_mean_our_identities() {
        let web = exact("spiffe://mesh.local/ns/shop/sa/web");
        assert_eq!(
            resolve("web.shop.serviceaccount.identity.linkerd.cluster.local"),
            web
        );
        assert_eq!(
            resolve("web.shop.serviceaccount.identity.linkerd.mesh.local"),
            web
        );
        assert_eq!(resolve("spiffe://mesh.local/ns/shop/sa/web"), web);
        let Ok(Resolved::Pattern(pattern)) =
            resolve("*.shop.serviceaccount.identity.linkerd.cluster.local")
        else {
            panic!("a pattern");
        };
        assert_eq!(pattern.namespace.unwrap().as_str(), "shop");
        assert_eq!(pattern.account, None);
        assert_eq!(resolve("*"), Ok(Resolved::Pattern(PatternPlan::default())));
    }

    #[test]
    fn the_end_of_a_name_stands_for_every_workload_where_all_names_end_so() {
        let every = resolve("*.serviceaccount.identity.linkerd.cluster.local");
        assert!(matches!(every, Ok(Resolved::Pattern(_))), "{every:?}");
        for end in [
            "cluster.local",
            "mesh.local",
            "linkerd.mesh.local",
            "identity.l5d.cluster.local",
        ] {
            assert_eq!(resolve(&format!("*.{end}")), every, "{end}");
        }
        for end in [
            "local",
            "org",
            "a.b.cluster.local",
            "acluster.local",
            "identity.cluster",
        ] {
            let error = resolve(&format!("*.{end}")).unwrap_err();
            assert!(error.starts_with("matches NOBODY"), "{error}");
        }
    }

    #[test]
    fn z13_wildcards_stand_for_whole_segments_and_other_domains_for_nobody() {
        for text in [
            "",
            "w*.shop.serviceaccount.identity.linkerd.cluster.local",
            "*.*.serviceaccount.identity.linkerd.cluster.local",
            "web.*.serviceaccount.identity.linkerd.cluster.local",
            "*shop.serviceaccount.identity.linkerd.cluster.local",
            "Web.shop.serviceaccount.identity.linkerd.cluster.local",
            "web..identity",
            "spiffe://Mesh.Local/x",
            "spiffe://mesh.local/ns/*/sa/web",
        ] {
            let error = resolve(text).unwrap_err();
            assert!(error.contains("names no identity"), "{text:?}: {error}");
        }
        for text in [
            "web",
            "example.id",
            "web.shop.identity.linkerd.cluster.local",
            "web.shop.serviceaccount.identity.linkerd",
            "web.shop.serviceaccount.identity.linkerd.other.org",
            "spiffe://other/ns/shop/sa/web",
            "spiffe://mesh.local/web",
        ] {
            let error = resolve(text).unwrap_err();
            assert!(error.starts_with("matches NOBODY"), "{text:?}: {error}");
        }
    }
}
