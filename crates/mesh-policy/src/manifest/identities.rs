//! Identities as policies spell them: SPIFFE IDs, or Linkerd's DNS form, with whole-segment wildcards.

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
}

impl IdentitySpec {
    /// What the spelling means in the mesh's own trust domain.
    ///
    /// # Errors
    ///
    /// [`UnknownTrustDomain`] where the DNS form names another domain.
    pub fn resolve(&self, own: &TrustDomain) -> Result<Resolved, UnknownTrustDomain> {
        let (namespace, account, domain) = match self {
            Self::Any => return Ok(Resolved::Pattern(PatternPlan::default())),
            Self::Spiffe(identity) => return Ok(Resolved::Exact(identity.clone())),
            Self::Workload {
                namespace,
                account,
                domain,
            } => (namespace, account, domain),
        };
        if domain != CLUSTER_DOMAIN && domain != own.as_str() {
            return Err(UnknownTrustDomain {
                domain: domain.clone(),
                own: own.clone(),
            });
        }
        Ok(match (namespace, account) {
            (Some(namespace), Some(account)) => {
                Resolved::Exact(Identity::for_workload(own, namespace, account))
            }
            _ => Resolved::Pattern(PatternPlan {
                trust_domain: Some(own.clone()),
                namespace: namespace.clone(),
                account: account.clone(),
            }),
        })
    }
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
        let Some((subject, rest)) = text.split_once(&format!(".{MIDDLE}.")) else {
            return Err(refuse(&form));
        };
        let (control_plane, domain) = rest.split_once('.').ok_or_else(|| refuse(&form))?;
        let label = |text: &str| text.parse::<Label>().map_err(|error| refuse(&error));
        label(control_plane)?;
        domain
            .parse::<TrustDomain>()
            .map_err(|error| refuse(&error))?;
        let (account, namespace) = match subject.split_once('.') {
            None if subject == "*" => (None, None),
            Some(("*", namespace)) => (None, Some(label(namespace)?)),
            Some((account, namespace)) => (Some(label(account)?), Some(label(namespace)?)),
            None => return Err(refuse(&form)),
        };
        Ok(Self::Workload {
            namespace,
            account,
            domain: domain.to_owned(),
        })
    }
}

/// A spelling that names no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no identity: {reason}")]
pub struct InvalidIdentitySpec {
    text: String,
    reason: String,
}

/// A DNS-form identity of a domain that this mesh does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the identity is of the domain {domain:?}, and this mesh is {own:?}: write cluster.local or {own}", own = own.as_str())]
pub struct UnknownTrustDomain {
    domain: String,
    own: TrustDomain,
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
        assert_eq!(resolve("spiffe://other/x"), exact("spiffe://other/x"));
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
    fn z13_wildcards_stand_for_whole_segments_and_other_domains_for_nothing() {
        for text in [
            "",
            "web",
            "w*.shop.serviceaccount.identity.linkerd.cluster.local",
            "*.*.serviceaccount.identity.linkerd.cluster.local",
            "web.*.serviceaccount.identity.linkerd.cluster.local",
            "*shop.serviceaccount.identity.linkerd.cluster.local",
            "web.shop.identity.linkerd.cluster.local",
            "web.shop.serviceaccount.identity.linkerd",
            "web.shop.serviceaccount.identity.linkerd.other.org",
            "spiffe://Mesh.Local/x",
            "spiffe://mesh.local/ns/*/sa/web",
        ] {
            assert!(resolve(text).is_err(), "accepted {text:?}");
        }
    }
}
