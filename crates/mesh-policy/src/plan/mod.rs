//! What a process is told, as it travels from discovery.
//!
//! ```text
//!  POST /v1/identity   enrol::EnrolRequest   ──▶ enrol::EnrolResponse
//!  POST /v1/watch      watch::WatchRequest   ──▶ a line of JSON per watch::Event, for ever
//!  PUT  /v1/watch/ID   watch::Subscriptions  ──▶ what the events are about
//!  PUT  /v1/endpoints  registration::Registration
//! ```
//!
//! These are wire types: plain, ordered and versioned, so that equal input gives
//! equal bytes. A data plane compiles them once into the deciding types beside
//! this module. `docs/decisions/0001-plans.md` argues why raw resources do not
//! travel; `tests/golden/main.rs` holds every form as JSON.

pub mod endpoint;
pub mod enrol;
mod filter;
pub mod inbound;
mod matching;
pub mod outbound;
pub mod part;
pub mod registration;
mod resilience;
pub mod watch;

/// The version of the wire that this library speaks. A server speaks this and the one before.
pub const PROTOCOL_VERSION: u32 = 1;

/// What this library understands of a plan, by the names that [`part::Part`]s require.
///
/// A process sends the list with its watch, so that discovery can tell who
/// cannot honour a feature; a part that requires anything else closes what it governs.
pub const CAPABILITIES: &[&str] = &[
    "authorization/1",
    "filters/1",
    "inbound/1",
    "narrowing/1",
    "query/1",
    "regex/1",
    "retry/1",
    "route/1",
    "timeouts/1",
];
