//! The steps of the stacks: one middleware, one module, each usable alone.
//!
//! Their order is written in [`crate::inbound`] and `crate::outbound`. Inside a
//! stack, what a request carries of its own wins over a layer's configuration; only a
//! policy given to [`authorize`] always holds.

pub mod answer;
pub mod authorize;
pub mod balance;
pub mod body_silence;
pub mod canonical_target;
pub mod context;
pub mod deadline;
pub mod endpoint;
pub mod filter;
pub mod gated;
pub mod header_limit;
pub mod inbound_context;
pub mod inbound_observe;
pub(crate) mod outbound_observe;
pub mod panic;
pub mod peer;
pub mod readiness;
pub mod retry;
pub mod route;
pub mod split;
pub mod timeout;
