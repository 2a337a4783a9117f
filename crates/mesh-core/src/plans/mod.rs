//! What this process knows of the services it calls.
//!
//! ```text
//!  authority ──address──▶ Entry ── asked ─▶ unknown | known: Service
//!                                                  │ a port's Table: rules, splits
//!                                                  ▼
//!                                               Backend ── endpoints, replaced as they change
//! ```
//!
//! Requests read without a lock; new names and the control thread write. A plan is
//! immutable: a request loads one and keeps it to its end, whatever comes next.
//! Endpoints are shared between plans and keep what they have learnt.

mod backend;
mod cow_map;
mod endpoint;
mod registry;
mod service;

pub(crate) use backend::{Backend, Outfit};
pub(crate) use endpoint::{Endpoint, InFlight};
pub use registry::NotInMesh;
pub(crate) use registry::{Answer, Entry, Plans};
pub(crate) use service::{Port, Routes, Service, needs};
