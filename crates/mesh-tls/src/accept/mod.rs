//! What a server holds for clients before it knows who they are.
//!
//! ```text
//!  a socket ─▶ descriptors: below the process's limit of open files
//!           ─▶ places:      waiting for the client; the oldest of the busiest source gives way
//!           ─▶ turns:       work on what the client sent; never held across a wait
//!           ─▶ who it is
//! ```
//!
//! A stranger may stop at any point of a handshake. A stopped handshake costs its server a place,
//! which the next client takes when there is no other, and nothing else.

pub mod descriptors;
pub mod places;
pub mod turns;
