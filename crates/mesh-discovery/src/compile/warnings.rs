//! What people who write policy are told at once: which `Server`s guard nothing afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mesh_policy::manifest::{Kind, Manifest};
use mesh_policy::name::ObjectRef;

use super::effect::{Effects, NO_WORKLOAD, Unguarded};
use super::grants::attaches;
use super::inbound::{Policies, ServerObject};
use super::object_ref;
use super::services::Services;
use super::world::World;

/// Objects that are about to be written or deleted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// What is created or replaced.
    pub written: &'a [Manifest],
    /// What is deleted.
    pub deleted: Option<&'a ObjectRef>,
}

/// A `Server` that guards less than was meant, or a policy of such a one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ineffective {
    /// The object.
    pub object: ObjectRef,
    /// Why it has no effect, in one word.
    pub reason: &'static str,
    /// Why it has no effect, with the remedy.
    pub message: String,
}

/// `Server shop/api: no process of its namespace ...`.
impl fmt::Display for Ineffective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectRef {
            kind,
            namespace,
            name,
            ..
        } = &self.object;
        write!(f, "{kind} {namespace}/{name}: {}", self.message)
    }
}

impl<'a> Change<'a> {
    /// These are created or replaced.
    #[must_use]
    pub const fn writing(written: &'a [Manifest]) -> Self {
        let deleted = None;
        Self { written, deleted }
    }

    /// Whether it can make a difference to what any `Server` guards.
    fn matters(&self) -> bool {
        const THEIRS: [Kind; 4] = [
            Kind::Server,
            Kind::Service,
            Kind::AuthorizationPolicy,
            Kind::ServerAuthorization,
        ];
        let written = self.written.iter();
        let mut written = written.map(|manifest| manifest.meta.kind);
        let deleted = self.deleted.map(|object| object.kind.as_str());
        written.any(|kind| THEIRS.contains(&kind))
            || THEIRS.iter().any(|kind| deleted == Some(kind.kind()))
    }

    fn writes(&self, manifest: &Manifest) -> bool {
        let object = object_ref(&manifest.meta);
        let mut written = self.written.iter();
        written.any(|written| object_ref(&written.meta) == object)
    }
}

impl World {
    /// What `change` leaves without effect: of what it writes, and of what had one before.
    #[must_use]
    pub fn ineffective(&self, change: &Change<'_>) -> Vec<Ineffective> {
        if !change.matters() {
            return Vec::new();
        }
        let objects = self.objects_after(change);
        let services = Services::new(objects.iter().map(|object| &**object), &self.served);
        let policies = Policies::new(self.policies.grants.domain().clone(), &objects);
        let after = Effects::new(&services, &policies, &self.workloads);
        let mut found = Vec::new();
        for namespace in policies.namespaces() {
            let servers = policies.servers(namespace);
            found.extend(servers.filter_map(|server| self.left(change, &after, &server)));
        }
        let written = change.written.iter();
        found.extend(written.filter_map(|policy| of_policy(change, &policies, &after, policy)));
        found
    }

    /// Why `server` guards less than was meant, if that is news.
    fn left(
        &self,
        change: &Change<'_>,
        after: &Effects,
        server: &ServerObject<'_>,
    ) -> Option<Ineffective> {
        let why = |effects: &Effects| {
            let effect = effects.of(server.manifest);
            // What it loses is said before what it lacks: that is known without any process.
            let unguarded = effect.unguarded(&server.server.port);
            unguarded
                .filter(|one| one.reason != NO_WORKLOAD)
                .or_else(|| effect.superseded())
                .or_else(|| effect.unguarded(&server.server.port))
        };
        let Unguarded { reason, message } = why(after)?;
        let news = change.writes(server.manifest) || why(self.effects()).is_none();
        let object = object_ref(&server.manifest.meta);
        news.then_some(Ineffective {
            object,
            reason,
            message,
        })
    }

    fn objects_after(&self, change: &Change<'_>) -> Vec<Arc<Manifest>> {
        let now = self.objects.iter();
        let now = now.map(|object| (object_ref(&object.meta), Arc::clone(object)));
        let mut objects: BTreeMap<_, _> = now.collect();
        if let Some(deleted) = change.deleted {
            objects.remove(deleted);
        }
        for written in change.written {
            let key = object_ref(&written.meta);
            let mut written = written.clone();
            // Only the server says how old an object is: one that it has not got is the youngest.
            let born = objects
                .get(&key)
                .map(|old| old.raw["metadata"]["creationTimestamp"].clone());
            written.raw["metadata"]["creationTimestamp"] = born.unwrap_or_default();
            objects.insert(key, Arc::new(written));
        }
        objects.into_values().collect()
    }
}

/// Why the written `policy` has no effect, though its `Server`s are there and none of them is
/// written with it: else they say so themselves.
fn of_policy(
    change: &Change<'_>,
    policies: &Policies,
    after: &Effects,
    policy: &Manifest,
) -> Option<Ineffective> {
    let servers = policies.servers(policy.meta.namespace.as_str());
    let servers: Vec<_> = servers
        .filter(|server| attaches(policy, server.manifest))
        .collect();
    if servers.iter().any(|server| change.writes(server.manifest)) {
        return None;
    }
    let Unguarded { reason, message } = after.of_all(&servers)?;
    Some(Ineffective {
        object: object_ref(&policy.meta),
        reason,
        message,
    })
}
