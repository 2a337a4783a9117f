//! What an identity may serve, kept with the identity in the store (C20).
//!
//! Every join adds what its token grants. A grant is never narrowed by a later,
//! narrower token: two processes of one identity may serve different services.

use std::collections::BTreeSet;

use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::name::ServiceName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::store::Store;
use crate::store::decode::{self, NotRead};

/// The prefix of grants: `identities/<namespace>/<account>`.
pub(crate) const IDENTITIES: &str = "identities/";

/// What an identity may serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Any service of its own namespace.
    pub(crate) own_namespace: bool,
    /// These services, wherever they are.
    pub(crate) services: BTreeSet<ServiceName>,
    /// What a newer version wrote beside, to be kept when this one writes.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Grant {
    /// What a token says; one that names nothing means the identity's own namespace.
    pub(crate) fn of_token(serves: &[ServiceName]) -> Self {
        Self {
            own_namespace: serves.is_empty(),
            services: serves.iter().cloned().collect(),
            rest: Map::new(),
        }
    }

    /// Whether `identity`, which holds this grant, may serve `service`.
    pub(crate) fn allows(&self, identity: &Identity, service: &ServiceName) -> bool {
        let own = identity.workload().map(|(namespace, _)| namespace);
        let own_namespace = self.own_namespace && own == Some(service.namespace.as_str());
        own_namespace || self.services.contains(service)
    }

    /// This grant and `other` together.
    pub(crate) fn with(mut self, other: &Self) -> Self {
        self.own_namespace |= other.own_namespace;
        self.services.extend(other.services.iter().cloned());
        self
    }
}

/// The key of an identity's grant; none for an identity that no token can name here.
pub(crate) fn key(identity: &Identity, domain: &TrustDomain) -> Option<String> {
    if identity.trust_domain() != domain.as_str() {
        return None;
    }
    let (namespace, account) = identity.workload()?;
    Some(format!("{IDENTITIES}{namespace}/{account}"))
}

/// The grant of `identity`; `None` if it never joined, as far as the store knows.
///
/// A grant that cannot be read is an error: without it nothing is granted.
pub(crate) async fn find(
    store: &dyn Store,
    identity: &Identity,
    domain: &TrustDomain,
) -> Result<Option<Grant>, NotRead> {
    let Some(key) = key(identity, domain) else {
        return Ok(None);
    };
    let found = decode::find(store, &key).await?;
    Ok(found.map(|(grant, _)| grant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    #[test]
    fn c20_a_grant_holds_what_its_token_named_and_nothing_else() {
        let web: Identity = "spiffe://mesh.local/ns/shop/sa/web".parse().unwrap();
        let any = Grant::of_token(&[]);
        assert!(any.allows(&web, &service("orders.shop")));
        assert!(!any.allows(&web, &service("orders.bank")));

        let named = Grant::of_token(&[service("web.shop"), service("front.edge")]);
        assert!(named.allows(&web, &service("web.shop")));
        assert!(named.allows(&web, &service("front.edge")));
        assert!(!named.allows(&web, &service("orders.shop")));

        let both = any.with(&named);
        assert!(both.allows(&web, &service("orders.shop")));
        assert!(both.allows(&web, &service("front.edge")));
        assert!(!Grant::default().allows(&web, &service("web.shop")));
    }

    #[test]
    fn c18_what_a_newer_version_wrote_into_a_grant_is_kept() {
        let newer = r#"{"own_namespace":false,"services":["a.b"],"until":7}"#;
        let grant: Grant = serde_json::from_str(newer).unwrap();
        let more = grant.with(&Grant::of_token(&[]));
        let json = serde_json::to_value(&more).unwrap();
        assert_eq!(json["until"], 7);
        assert_eq!(json["own_namespace"], true);
    }

    #[test]
    fn c20_an_identity_of_another_domain_or_form_has_no_grant() {
        let domain = "mesh.local".parse().unwrap();
        let key = |text: &str| key(&text.parse().unwrap(), &domain);
        assert_eq!(
            key("spiffe://mesh.local/ns/shop/sa/web").as_deref(),
            Some("identities/shop/web")
        );
        assert_eq!(key("spiffe://other.local/ns/shop/sa/web"), None);
        assert_eq!(key("spiffe://mesh.local/web"), None);
    }
}
