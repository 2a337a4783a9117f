//! The small server of the mesh: what people wrote becomes plans, certificates and leases.
//!
//! ```text
//! kubectl, mesh, files ─▶ api ─▶ admission ─▶ store ─▶ compile ─▶ watch ─▶ processes
//!                                               ▲
//!                         tokens, registrations ┘
//! ```
//!
//! It is a binary, and a library to embed in tests and examples.
//!
//! - [`server`], [`config`], [`listen`]: the server, put together.
//! - [`identity`]: the CA's keys, join tokens, certificates.
//! - [`store`]: records, revisions, leases; one trait, several homes.
//! - [`objects`]: what people wrote, over records.
//! - [`admission`]: whether an object may be stored.
//! - [`api`]: the resource API over HTTP, and `POST /v1/apply`.
//! - [`caller`]: who may ask for what.
//! - [`wire`]: what an administrator's requests and answers look like.
//! - [`compile`]: what was written and registered, as what processes are told.
//! - [`client`]: the administrator's side.

mod access;
mod admin;
pub mod admission;
pub mod api;
pub mod caller;
pub mod client;
pub mod compile;
pub mod config;
pub mod identity;
pub mod listen;
mod metrics;
pub mod objects;
mod quota;
mod rate;
mod records;
mod refused;
mod registry;
mod report;
pub mod server;
mod settle;
mod stat;
mod statistics;
pub mod store;
mod supervise;
mod targets;
mod watch;
pub mod wire;
pub mod worlds;

pub use config::Config;
pub use server::Server;
pub use supervise::TaskEnded;
