//! The policy of a served port: the `Server` that governs it, and those that may mean it too.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::manifest::{DefaultPolicy, Manifest, Server, Spec};
use mesh_policy::name::{ObjectRef, ServiceAddress, ServicePort};
use mesh_policy::plan::endpoint::HttpVersions;
use mesh_policy::plan::inbound::{InboundPlan, NarrowingPlan};
use mesh_policy::plan::part::Part;

use super::grants::{Grants, parts};
use super::ports::{Fit, PortFacts};
use super::services::Services;
use super::{age, defaults, object_ref};

/// What a reader must know to act on a policy, and on one that others narrow.
const INBOUND: &str = "inbound/1";
const NARROWING: &str = "narrowing/1";
/// Who may call a port that no `Server` governs.
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

/// A `Server` and what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerObject<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) server: &'a Server,
}

/// The `Server`s that select a workload and mean, or may mean, a port; each list oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates<'a> {
    /// They name this very port. The oldest governs it.
    pub(super) exact: Vec<ServerObject<'a>>,
    /// They may mean it.
    pub(super) unsure: Vec<ServerObject<'a>>,
    /// They may mean it if none names it: a port has one `Server`.
    pub(super) unlisted: Vec<ServerObject<'a>>,
}

impl<'a> Candidates<'a> {
    /// Takes up `object` if its port may be the one that `port` describes.
    pub(super) fn consider(&mut self, object: ServerObject<'a>, port: &PortFacts<'_>) {
        match port.fit(&object.server.port) {
            Fit::Exact => self.exact.push(object),
            Fit::Unsure => self.unsure.push(object),
            Fit::Unlisted => self.unlisted.push(object),
            Fit::Other => {}
        }
    }

    /// What these mean for the port.
    pub(super) fn decide(&self) -> Decision<'a> {
        let governs = self.exact.first().copied();
        let unlisted = self.unlisted.iter().filter(|_| governs.is_none());
        Decision {
            governs,
            narrowed_by: self.unsure.iter().chain(unlisted).copied().collect(),
        }
    }
}

/// Which `Server` governs a port, and which others must let a client in too.
#[derive(Clone, Debug)]
pub(super) struct Decision<'a> {
    pub(super) governs: Option<ServerObject<'a>>,
    pub(super) narrowed_by: Vec<ServerObject<'a>>,
}

/// Everything that says who may call.
#[derive(Clone, Debug)]
pub(super) struct Policies {
    /// By namespace; oldest first, so that of two on one port the older one holds.
    servers: BTreeMap<String, Vec<Arc<Manifest>>>,
    pub(super) grants: Grants,
}

impl Policies {
    pub(super) fn new(domain: TrustDomain, manifests: &[Arc<Manifest>]) -> Self {
        let mut servers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for manifest in manifests {
            if matches!(manifest.spec, Spec::Server(_)) {
                let namespace = manifest.meta.namespace.to_string();
                servers.entry(namespace).or_default().push(manifest.clone());
            }
        }
        for servers in servers.values_mut() {
            servers.sort_by_cached_key(|manifest| age(manifest));
        }
        Self {
            servers,
            grants: Grants::new(domain, manifests),
        }
    }

    /// The namespaces that have `Server`s.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// The `Server`s of a namespace, oldest first.
    pub(super) fn servers(&self, namespace: &str) -> impl Iterator<Item = ServerObject<'_>> {
        let servers = self.servers.get(namespace).into_iter().flatten();
        servers.filter_map(|manifest| match &manifest.spec {
            Spec::Server(server) => Some(ServerObject { manifest, server }),
            _ => None,
        })
    }

    /// The policy of what `workload` serves as `serves`.
    pub(super) fn plan(
        &self,
        services: &Services,
        serves: &ServiceAddress,
        workload: &Workload<'_>,
    ) -> Part<InboundPlan> {
        let candidates = self.candidates(services, serves, workload);
        self.plan_of(services.resolve(serves), &candidates.decide())
    }

    /// What was decided of `port`, as it travels.
    pub(super) fn plan_of(&self, port: ServicePort, decided: &Decision<'_>) -> Part<InboundPlan> {
        let authorizations = |one: &ServerObject<'_>| self.grants.at(one.manifest, one.server);
        let reference = |one: &ServerObject<'_>| object_ref(&one.manifest.meta);
        let governs = decided.governs.as_ref();
        let idle = governs.and_then(|one| one.server.request_body_idle);
        let narrowed_by = decided.narrowed_by.iter().map(|one| NarrowingPlan {
            server: reference(one),
            authorizations: authorizations(one),
        });
        let plan = InboundPlan {
            port,
            server: governs.map_or_else(|| ObjectRef::builtin(WITHOUT_SERVER.as_str()), reference),
            http: decided.http(),
            authorizations: governs.map_or_else(
                || parts(defaults::authorization(WITHOUT_SERVER)),
                authorizations,
            ),
            narrowed_by: narrowed_by.collect(),
            request_body_idle_ms: idle
                .map(|idle| u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)),
        };
        let narrowed = !plan.narrowed_by.is_empty();
        let part = Part::new(INBOUND, plan);
        if narrowed {
            part.requiring(NARROWING)
        } else {
            part
        }
    }

    /// The `Server`s that select `workload` and mean, or may mean, the port that it serves.
    ///
    /// One that may mean it counts, since else an edit to a Service would open what it guards;
    /// but it takes away alone, since else a guess would open what nobody opened.
    pub(super) fn candidates(
        &self,
        services: &Services,
        serves: &ServiceAddress,
        workload: &Workload<'_>,
    ) -> Candidates<'_> {
        let mut candidates = Candidates::default();
        let mut port = None;
        for object in self.servers(workload.namespace) {
            if object.server.selector.matches(workload.labels) {
                let port = port.get_or_insert_with(|| PortFacts::new(services, serves, workload));
                candidates.consider(object, port);
            }
        }
        candidates
    }

    /// Whether any `Server` selects the workload, on whichever port.
    pub(super) fn selects(&self, workload: &Workload<'_>) -> bool {
        let mut servers = self.servers(workload.namespace);
        servers.any(|one| one.server.selector.matches(workload.labels))
    }

    /// Whether the namespace of `manifest` has a `Server` of this name.
    pub(super) fn has_server(&self, manifest: &Manifest, name: &str) -> bool {
        let mut servers = self.servers(manifest.meta.namespace.as_str());
        servers.any(|one| one.manifest.meta.name == name)
    }
}

impl Decision<'_> {
    /// Which versions of HTTP the port takes.
    pub(super) fn http(&self) -> HttpVersions {
        self.governs
            .map_or(HttpVersions::Both, |one| one.server.http)
    }
}
