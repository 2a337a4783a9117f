//! What each process is told: one stream per process, of changes between worlds.
//!
//! ```text
//!  Worlds ──latest──▶ Feed (what was told) ──steps──▶ lines ──▶ the process's stream
//!                        ▲
//!  PUT /v1/watch/{id} ───┘ what it wants
//! ```
//!
//! Nothing is queued: a reader that is slow finds, when it comes back, the latest
//! world, and is told how that differs from what it knows.
//!
//! - [`feed`]: the difference, a pure function.
//! - [`session`]: one watch; [`sessions`]: all of them, and how many there may be.
//! - [`wanted`]: what a reader wants, until its stream takes it.
//! - [`expiry`]: how they end.
//! - [`stream`]: the lines of one watch.
//! - [`mod@routes`]: the paths.

mod expiry;
mod feed;
mod routes;
mod session;
mod sessions;
mod stream;
mod wanted;

pub(crate) use expiry::expire;
pub(crate) use routes::{routes, unknown_watch};
pub(crate) use session::Session;
pub(crate) use sessions::Sessions;
