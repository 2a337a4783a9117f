//! Connections: how they are accepted, told apart, limited and ended.
//!
//! ```text
//!  accept ─▶ Rewind (first byte: TLS or not) ─▶ handshake ─▶ serve (hyper) ─▶ stack
//!                                                              │
//!  Connections ◀── Activity: requests in flight, heads begun ──┘
//! ```

pub(crate) mod accept;
pub(crate) mod activity;
pub(crate) mod connect;
pub(crate) mod connections;
mod frames;
mod limits;
pub(crate) mod pool;
pub(crate) mod rewind;
pub(crate) mod secure;
mod seen;
pub(crate) mod serve;
mod unread;
pub(crate) mod upload;

pub use connect::ConnectFailed;
pub use limits::Limits;
