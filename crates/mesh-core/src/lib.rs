//! The service mesh that an application adds to itself.
//!
//! ```text
//!  your calls ─▶ outbound layers ─▶ transport (pool, mTLS) ─▶ other processes
//!  your server ◀─ inbound layers ◀─ transport (accept, mTLS) ◀─ other processes
//!                       ▲                    ▲
//!                 plans │                    │ certificates
//!                       └──── discovery ─────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`outbound`] | what a request passes on its way out, in order |
//! | [`inbound`] | what a request passes before the application sees it, in order |
//! | [`mesh`] | the handle: join, serve, call, drain |
//! | [`config`] | what a process tells the mesh |
//! | [`layers`] | the steps of the stacks, each usable alone |
//! | [`transport`] | connections: accepted, detected, limited, drained |
//! | [`context`] | deadline, trace and criticality, carried from the request being served to the calls it makes |
//! | [`peer`] | who is at the other end |
//! | [`answer`] | the one table from an error to what the caller is told |
//! | [`header_list`] | how large the headers of one message may be |
//! | [`telemetry`] | the recorder and the handles of every series |
//! | [`admin`] | `/metrics`, `/ready`, `/live` and `/plan` |

pub mod admin;
pub mod answer;
mod body;
mod causes;
pub mod config;
pub mod context;
mod discovery;
pub mod header_list;
pub mod inbound;
pub mod layers;
pub mod mesh;
pub mod outbound;
pub mod peer;
mod plans;
pub mod telemetry;
pub mod transport;

pub use body::{Body, UnreadableBody};
pub use config::Config;
pub use layers::answer::Unprocessed;
pub use mesh::{Client, Mesh};
pub use peer::Peer;

/// Any error, as it passes the seams; look for a type with [`std::error::Error::source`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
