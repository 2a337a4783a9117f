//! The steps of the stacks: one middleware, one module, each usable alone.
//!
//! Their order is written in [`crate::inbound`] and `crate::outbound`.

pub mod deadline;
pub mod panic;
