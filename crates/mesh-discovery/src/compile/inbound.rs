//! The policy of a served port: the `Server` that selects it, and every authorization of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::manifest::{
    AuthenticationKind, AuthenticationRef, AuthorizedClient, DefaultPolicy, IdentitySpec,
    LabelSelector, Manifest, PolicyTarget, PortSelector, Resolved, Server, ServerTarget, Spec,
};
use mesh_policy::name::{ObjectRef, ServiceAddress};
use mesh_policy::plan::endpoint::HttpVersions;
use mesh_policy::plan::inbound::{
    AuthorizationPlan, ClientPlan, EffectPlan, InboundPlan, NetworkPlan,
};
use mesh_policy::plan::part::Part;

use super::services::Services;
use super::{age, defaults, object_ref};

/// What a reader must know to act on these.
const INBOUND: &str = "inbound/1";
const AUTHORIZATION: &str = "authorization/1";
/// Who may call a port that no `Server` selects.
const WITHOUT_SERVER: DefaultPolicy = DefaultPolicy::AllAuthenticated;

/// A process as selectors see it.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// The namespace of its identity.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

impl<'a> Workload<'a> {
    /// The process of this identity.
    #[must_use]
    pub fn new(identity: &'a Identity, labels: &'a BTreeMap<String, String>) -> Self {
        let namespace = identity.workload().map_or("", |(namespace, _)| namespace);
        Self { namespace, labels }
    }
}

/// Which `Server` governs a served port.
#[derive(Clone, Copy, Debug)]
enum Selected<'a> {
    One(&'a Manifest, &'a Server),
    /// Several may be meant; this is the oldest of them.
    Unclear(&'a Manifest, &'a Server),
    None,
}

/// Everything that says who may call.
#[derive(Clone, Debug)]
pub(super) struct Policies {
    domain: TrustDomain,
    /// Oldest first, so that of two on one port the older one holds.
    servers: Vec<Arc<Manifest>>,
    /// What attaches to servers, in the order that makes plans deterministic.
    attached: Vec<Arc<Manifest>>,
    /// What authorizations refer to.
    authentications: BTreeMap<(String, String, String), Arc<Manifest>>,
}

impl Policies {
    pub(super) fn new(domain: TrustDomain, manifests: &[Arc<Manifest>]) -> Self {
        let mut policies = Self {
            domain,
            servers: Vec::new(),
            attached: Vec::new(),
            authentications: BTreeMap::new(),
        };
        for manifest in manifests {
            match &manifest.spec {
                Spec::Server(_) => policies.servers.push(manifest.clone()),
                Spec::AuthorizationPolicy(_) | Spec::ServerAuthorization(_) => {
                    policies.attached.push(manifest.clone());
                }
                Spec::MeshTlsAuthentication(_) | Spec::NetworkAuthentication(_) => {
                    let meta = &manifest.meta;
                    let key = (
                        meta.kind.kind().to_owned(),
                        meta.namespace.to_string(),
                        meta.name.clone(),
                    );
                    policies.authentications.insert(key, manifest.clone());
                }
                Spec::HttpRoute(_) | Spec::Service(_) | Spec::TrafficSplit(_) => {}
            }
        }
        policies
            .servers
            .sort_by_cached_key(|manifest| age(manifest));
        policies
            .attached
            .sort_by_cached_key(|manifest| age(manifest));
        policies
    }

    /// The policy of `port` where `workload` serves it.
    pub(super) fn plan(
        &self,
        services: &Services,
        serves: &ServiceAddress,
        workload: &Workload<'_>,
    ) -> Part<InboundPlan> {
        let (server, authorizations) = match self.server(services, serves, workload) {
            Selected::One(manifest, server) => (
                Some((manifest, server)),
                self.authorizations(manifest, server),
            ),
            Selected::Unclear(manifest, server) => (Some((manifest, server)), Vec::new()),
            Selected::None => (None, parts(defaults::authorization(WITHOUT_SERVER))),
        };
        let idle = server.and_then(|(_, server)| server.request_body_idle);
        let plan = InboundPlan {
            port: services.resolve(serves),
            server: match server {
                Some((manifest, _)) => object_ref(&manifest.meta),
                None => ObjectRef::builtin(WITHOUT_SERVER.as_str()),
            },
            http: server.map_or(HttpVersions::Both, |(_, server)| server.http),
            authorizations,
            request_body_idle_ms: idle
                .map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
        };
        Part::new(INBOUND, plan)
    }

    /// Which versions of HTTP `workload` takes where it serves this.
    pub(super) fn http(
        &self,
        services: &Services,
        serves: &ServiceAddress,
        workload: &Workload<'_>,
    ) -> HttpVersions {
        match self.server(services, serves, workload) {
            Selected::One(_, server) | Selected::Unclear(_, server) => server.http,
            Selected::None => HttpVersions::Both,
        }
    }

    /// The oldest `Server` that selects the workload and its port.
    ///
    /// Without one, a `Server` counts that selects the workload and may well mean this port: its
    /// port has a name that the Service does not list (yet, or any more), or the process named no
    /// port. Else an edit to a Service would open what its Server guards. Several such let nobody in.
    fn server(
        &self,
        services: &Services,
        serves: &ServiceAddress,
        workload: &Workload<'_>,
    ) -> Selected<'_> {
        let port = services.resolve(serves);
        let mut maybe = None;
        let mut unclear = false;
        for manifest in &self.servers {
            let Spec::Server(server) = &manifest.spec else {
                continue;
            };
            let selects = manifest.meta.namespace.as_str() == workload.namespace
                && server.selector.matches(workload.labels);
            if !selects {
                continue;
            }
            let wanted = match &server.port {
                PortSelector::Number(number) => Some(*number),
                PortSelector::Name(name) => services.named(&port.service, name),
            };
            if wanted == Some(port.port) {
                return Selected::One(manifest, server);
            }
            if wanted.is_none() || serves.port.is_none() {
                unclear = maybe.is_some();
                maybe = maybe.or(Some((manifest, server)));
            }
        }
        match maybe {
            Some((manifest, server)) if unclear => Selected::Unclear(manifest, server),
            Some((manifest, server)) => Selected::One(manifest, server),
            None => Selected::None,
        }
    }

    /// Whether any `Server` selects the workload, on whichever port.
    pub(super) fn selects(&self, workload: &Workload<'_>) -> bool {
        self.servers.iter().any(|manifest| {
            let of_labels = |selector: &LabelSelector| selector.matches(workload.labels);
            manifest.meta.namespace.as_str() == workload.namespace
                && matches!(&manifest.spec, Spec::Server(server) if of_labels(&server.selector))
        })
    }

    /// The servers of the namespace of `manifest`.
    fn servers_beside(&self, manifest: &Manifest) -> impl Iterator<Item = &Manifest> {
        let namespace = manifest.meta.namespace.clone();
        let servers = self.servers.iter().map(|server| &**server);
        servers.filter(move |server| server.meta.namespace == namespace)
    }

    /// Whether the namespace of `manifest` has a `Server` of this name.
    pub(super) fn has_server(&self, manifest: &Manifest, name: &str) -> bool {
        self.servers_beside(manifest)
            .any(|server| server.meta.name == name)
    }

    /// Whether `selector` selects a `Server` of the namespace of `manifest`.
    pub(super) fn selects_server(&self, manifest: &Manifest, selector: &LabelSelector) -> bool {
        let mut servers = self.servers_beside(manifest);
        servers.any(|server| selector.matches(&server.meta.labels))
    }

    /// An older `Server` with the very same selector and port.
    pub(super) fn older_twin(&self, manifest: &Manifest, server: &Server) -> Option<&Manifest> {
        let own = |other: &&Manifest| other.meta.name == manifest.meta.name;
        let mut older = self
            .servers_beside(manifest)
            .take_while(|other| !own(other));
        older.find(|other| {
            matches!(&other.spec, Spec::Server(twin) if twin.port == server.port && twin.selector == server.selector)
        })
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

    fn authorizations(&self, manifest: &Manifest, server: &Server) -> Vec<Part<AuthorizationPlan>> {
        let namespace = &manifest.meta.namespace;
        let of_namespace = self
            .attached
            .iter()
            .filter(|other| other.meta.namespace == *namespace);
        let granted = of_namespace.filter_map(|other| self.authorization(other, manifest));
        parts(granted.chain(defaults::authorization(server.access_policy)))
    }

    /// What `manifest` grants on `server`: nothing if it is about another one, or refers to what is not there.
    fn authorization(&self, manifest: &Manifest, server: &Manifest) -> Option<AuthorizationPlan> {
        let (networks, client) = match &manifest.spec {
            Spec::AuthorizationPolicy(policy) => {
                let is_target = match &policy.target {
                    PolicyTarget::Server(name) => *name == server.meta.name,
                    PolicyTarget::Namespace => true,
                    PolicyTarget::Route(_) => false,
                };
                is_target.then(|| self.required(&policy.authentications))??
            }
            Spec::ServerAuthorization(authorization) => {
                let is_target = match &authorization.servers {
                    ServerTarget::Name(name) => *name == server.meta.name,
                    ServerTarget::Selector(selector) => selector.matches(&server.meta.labels),
                };
                let client = match &authorization.client {
                    AuthorizedClient::Anyone => ClientPlan::Anyone,
                    AuthorizedClient::Identities(specs) => self.identities(specs),
                };
                is_target.then(|| (authorization.networks.clone(), client))?
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
        let mut exact = std::collections::BTreeSet::new();
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

fn parts(plans: impl IntoIterator<Item = AuthorizationPlan>) -> Vec<Part<AuthorizationPlan>> {
    let part = |plan| Part::new(AUTHORIZATION, plan);
    plans.into_iter().map(part).collect()
}
