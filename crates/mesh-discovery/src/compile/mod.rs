//! From what people wrote and what processes registered to what processes are told.
//!
//! ```text
//!  objects ─┐
//!  served ──┼─▶ World (one revision, immutable) ──▶ service plans, endpoint sets, inbound plans
//!  leases ──┘
//! ```
//!
//! Pure: a [`World`] is made from [`Sources`] and answers questions. References
//! between objects are resolved here, once, so that no process has to.

mod callers;
mod defaults;
mod effect;
mod grants;
mod inbound;
pub mod offline;
mod outbound;
mod ports;
mod resilience;
mod services;
mod status;
mod unreadable;
mod warnings;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::manifest::{Manifest, Meta};
use mesh_policy::name::{ObjectRef, ServicePort};
use mesh_policy::plan::registration::Registration;
use mesh_policy::plan::watch::Cursor;
use serde::{Deserialize, Serialize};

pub use callers::Admission;
pub use inbound::Workload;
pub(crate) use services::DEFAULT_PORT;
pub use status::{Condition, Holds, Status};
pub use unreadable::UnreadableObject;
pub use warnings::{Change, Ineffective};
pub use world::{Names, World};

/// All that a world is made of, read at one revision.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Where in the store's history this stands.
    pub cursor: Cursor,
    /// The mesh's own trust domain.
    pub domain: TrustDomain,
    /// What people wrote.
    pub objects: Vec<Arc<Manifest>>,
    /// Who serves what now.
    pub registrations: Vec<Registered>,
    /// Every port that was ever served, so that a backend that is scaled to zero stays known.
    pub served: BTreeSet<ServicePort>,
}

/// One listener, and who proved to be behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The endpoint's id, unique in the mesh.
    pub id: String,
    /// The identity of the connection that registered it.
    pub identity: Identity,
    /// What it said of itself.
    pub registration: Registration,
}

fn object_ref(meta: &Meta) -> ObjectRef {
    ObjectRef {
        group: meta.kind.group().to_owned(),
        kind: meta.kind.kind().to_owned(),
        namespace: meta.namespace.to_string(),
        name: meta.name.clone(),
    }
}

/// Gateway API's order among objects that compete: the oldest first, then by name.
fn age(manifest: &Manifest) -> impl Ord + use<> {
    let created = manifest.raw["metadata"]["creationTimestamp"].as_str();
    // An object that says no age is younger than all that do.
    let created = (created.is_none(), created.unwrap_or_default().to_owned());
    let meta = &manifest.meta;
    (created, meta.namespace.clone(), meta.name.clone())
}
