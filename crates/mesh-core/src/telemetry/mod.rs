//! What a process counts about its traffic, in Linkerd's names, labels and buckets.
//!
//! ```text
//!  Recorder ──registers──▶ RequestMetrics (one per endpoint, or per client and verdict)
//!                              ▲ counts
//!  request ── Observation ─────┘ ... Observed body: first data frame, trailers, end
//!  stream ─── tcp::Counted ──counts──▶ tcp::TransportMetrics (one per endpoint, or per client)
//!
//!  families   every family with its help and buckets; a new one begins there
//!  registry   every series with its cell, until nobody can count into it any more
//!  bound      how many series a family may have
//!  shared     the registry as the recorder of the whole process
//!  errors     what went wrong, in Linkerd's words
//!  ledger     the same counts, few and mergeable, for reports to discovery
//! ```
//!
//! Handles are made when an endpoint is first called or a client or a listener
//! appears, and the cell of a status once at first sight: never per request.

mod bound;
mod cells;
pub(crate) mod control;
pub(crate) mod errors;
mod families;
pub(crate) mod freshness;
pub(crate) mod identity;
pub mod inbound;
mod ledger;
mod observation;
pub mod outbound;
mod process;
mod recorder;
mod registry;
mod requests;
mod retries;
mod route;
mod shared;
pub mod tcp;
mod workload;

pub(crate) use ledger::FlowCounts;
pub use observation::{Observation, Observed};
pub(crate) use process::started;
pub use recorder::{InvalidMetrics, Metrics, Recorder};
#[cfg(test)]
pub(crate) use registry::GRACE;
pub use requests::{Outcome, RequestMetrics};
pub(crate) use retries::RetryMetrics;
pub(crate) use route::{Route, RouteMetrics};
pub use workload::Workload;
