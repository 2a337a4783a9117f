//! What authorizes clients at a `Server`: every object that is attached to it, and its own policy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::manifest::{
    AuthenticationKind, AuthenticationRef, AuthorizedClient, IdentitySpec, Manifest, PolicyTarget,
    Resolved, Server, ServerTarget, Spec,
};
use mesh_policy::plan::inbound::{AuthorizationPlan, ClientPlan, EffectPlan, NetworkPlan};
use mesh_policy::plan::part::Part;

use super::{age, defaults, object_ref};

/// What a reader must know to act on an authorization.
const AUTHORIZATION: &str = "authorization/1";

/// Everything that grants.
#[derive(Clone, Debug)]
pub(super) struct Grants {
    domain: TrustDomain,
    /// What attaches to servers, in the order that makes plans deterministic.
    attached: Vec<Arc<Manifest>>,
    /// What authorizations refer to.
    authentications: BTreeMap<(String, String, String), Arc<Manifest>>,
}

impl Grants {
    pub(super) fn new(domain: TrustDomain, manifests: &[Arc<Manifest>]) -> Self {
        let mut grants = Self {
            domain,
            attached: Vec::new(),
            authentications: BTreeMap::new(),
        };
        for manifest in manifests {
            match &manifest.spec {
                Spec::AuthorizationPolicy(_) | Spec::ServerAuthorization(_) => {
                    grants.attached.push(manifest.clone());
                }
                Spec::MeshTlsAuthentication(_) | Spec::NetworkAuthentication(_) => {
                    let meta = &manifest.meta;
                    let key = (
                        meta.kind.kind().to_owned(),
                        meta.namespace.to_string(),
                        meta.name.clone(),
                    );
                    grants.authentications.insert(key, manifest.clone());
                }
                Spec::HttpRoute(_) | Spec::Server(_) | Spec::Service(_) | Spec::TrafficSplit(_) => {
                }
            }
        }
        grants.attached.sort_by_cached_key(|manifest| age(manifest));
        grants
    }

    /// The mesh's own trust domain.
    pub(super) const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The first reference that leads nowhere.
    pub(super) fn missing<'a>(
        &self,
        references: &'a [AuthenticationRef],
    ) -> Option<&'a AuthenticationRef> {
        references.iter().find(|reference| {
            reference.kind != AuthenticationKind::ServiceAccount
                && self.referenced(reference).is_none()
        })
    }

    /// What lets a client in at the `Server` that `manifest` is; nothing lets nobody in.
    pub(super) fn at(&self, manifest: &Manifest, server: &Server) -> Vec<Part<AuthorizationPlan>> {
        let attached = self.attached.iter();
        let granted = attached.filter_map(|other| self.authorization(other, manifest));
        parts(granted.chain(defaults::authorization(server.access_policy)))
    }

    /// What `manifest` grants on `server`: nothing if it is about another one, or refers to what is not there.
    fn authorization(&self, manifest: &Manifest, server: &Manifest) -> Option<AuthorizationPlan> {
        if !attaches(manifest, server) {
            return None;
        }
        let (networks, client) = match &manifest.spec {
            Spec::AuthorizationPolicy(policy) => self.required(&policy.authentications)?,
            Spec::ServerAuthorization(authorization) => {
                let client = match &authorization.client {
                    AuthorizedClient::Anyone => ClientPlan::Anyone,
                    AuthorizedClient::Identities(specs) => self.identities(specs),
                };
                (authorization.networks.clone(), client)
            }
            _ => return None,
        };
        Some(AuthorizationPlan {
            source: object_ref(&manifest.meta),
            effect: EffectPlan::Allow,
            networks,
            client,
        })
    }

    /// All that a policy requires; `None` if any of it does not exist.
    fn required(&self, references: &[AuthenticationRef]) -> Option<(Vec<NetworkPlan>, ClientPlan)> {
        let mut networks = Vec::new();
        let mut client = ClientPlan::Anyone;
        for reference in references {
            if reference.kind == AuthenticationKind::ServiceAccount {
                let account = reference.name.parse().ok()?;
                let identity = Identity::for_workload(&self.domain, &reference.namespace, &account);
                client = ClientPlan::Identities {
                    exact: [identity].into(),
                    patterns: Vec::new(),
                };
                continue;
            }
            match &self.referenced(reference)?.spec {
                Spec::MeshTlsAuthentication(found) => client = self.identities(&found.identities),
                Spec::NetworkAuthentication(found) => networks.clone_from(&found.networks),
                _ => return None,
            }
        }
        Some((networks, client))
    }

    fn referenced(&self, reference: &AuthenticationRef) -> Option<&Manifest> {
        let kind = match reference.kind {
            AuthenticationKind::MeshTls => "MeshTLSAuthentication",
            AuthenticationKind::Network => "NetworkAuthentication",
            AuthenticationKind::ServiceAccount => return None,
        };
        let key = (
            kind.to_owned(),
            reference.namespace.to_string(),
            reference.name.clone(),
        );
        self.authentications.get(&key).map(|manifest| &**manifest)
    }

    /// An identity of a domain that this mesh does not know is nobody here.
    fn identities(&self, specs: &[IdentitySpec]) -> ClientPlan {
        let mut exact = BTreeSet::new();
        let mut patterns = Vec::new();
        for spec in specs {
            match spec.resolve(&self.domain) {
                Ok(Resolved::Exact(identity)) => {
                    exact.insert(identity);
                }
                Ok(Resolved::Pattern(pattern)) => patterns.push(pattern),
                Err(unknown) => tracing::debug!(%unknown, "an identity in a policy is nobody here"),
            }
        }
        ClientPlan::Identities { exact, patterns }
    }
}

/// Whether the policy `manifest` is about `server`.
pub(super) fn attaches(manifest: &Manifest, server: &Manifest) -> bool {
    manifest.meta.namespace == server.meta.namespace
        && match &manifest.spec {
            Spec::AuthorizationPolicy(policy) => match &policy.target {
                PolicyTarget::Server(name) => *name == server.meta.name,
                PolicyTarget::Namespace => true,
                PolicyTarget::Route(_) => false,
            },
            Spec::ServerAuthorization(authorization) => match &authorization.servers {
                ServerTarget::Name(name) => *name == server.meta.name,
                ServerTarget::Selector(selector) => selector.matches(&server.meta.labels),
            },
            _ => false,
        }
}

/// Authorizations as they travel.
pub(super) fn parts(
    plans: impl IntoIterator<Item = AuthorizationPlan>,
) -> Vec<Part<AuthorizationPlan>> {
    let part = |plan| Part::new(AUTHORIZATION, plan);
    plans.into_iter().map(part).collect()
}
