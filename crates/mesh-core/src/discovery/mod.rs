//! The process's side of discovery: join, follow plans, register what is served.
//!
//! ```text
//!  thread mesh-control, which owns its runtime
//!    enrol     token + CSR ──▶ certificate, trust anchors
//!    renew     certificate + CSR ──▶ the next certificate, before half of its life is over
//!    session   one watch at a time, reopened where it stopped
//!      downlink  events ──follow──▶ plans, endpoints, inbound policies
//!      uplink    subscriptions, registrations, reports ──▶ discovery
//!    supervise  each of them again after a panic
//! ```
//!
//! It runs apart from the application, so that a blocked application neither
//! loses its leases nor misses a policy. Losing discovery changes nothing:
//! everything that was told stays in force.

mod backoff;
mod control;
mod dial;
mod enrol;
mod events;
mod flush;
mod follow;
mod join;
mod lines;
mod link;
mod links;
mod renew;
mod served;
mod session;
mod standing;
mod status;
mod supervise;
mod tally;
mod uplink;
mod waiting;

pub(crate) use control::{Control, start};
pub use enrol::TokenUnreadable;
pub(crate) use join::{Joined, Setup};
pub use link::LinkFailed;
pub(crate) use served::{Registered, Served};
