//! What people write about traffic and what it means.
//!
//! ```text
//!  YAML ──manifest──▶ model ──(discovery compiles)──▶ plan ──▶ decisions ──▶ report
//! ```
//!
//! Everything here is pure: no I/O, no clock, no randomness, no async. A
//! decision gets facts, `now` and a `draw` as arguments, so that discovery, the
//! data plane and offline tools give the same answer to the same question.
//!
//! | module | holds |
//! |---|---|
//! | [`identity`], [`name`], [`token`] | the words: who, which service, and the right to join |
//! | [`manifest`] | what people write, read into a model or refused whole |
//! | [`route`], [`split`], [`balance`] | where a request goes: which rule, which backend, which endpoint |
//! | [`filter`] | what is changed on the way, and where callers are sent instead |
//! | [`authorize`] | whether a client may call, and by which object |
//! | [`explain`] | all of these, asked about one request and written down |
//! | [`classify`] | what counts as a success |
//! | [`timeout`], [`retry`], [`backoff`], [`budget`], [`pushback`] | how long a request may take, whether it is tried again, when, and how often at most |
//! | [`path`], [`authority`] | the one spelling of a path and of a host that rules and applications see |
//! | [`address`], [`duration`], [`deadline`], [`draw`] | reading authorities and times; time left; chance as an argument |
//! | [`nearest`] | the name that a misspelt one was probably meant to be |
//! | [`renewal`] | when a process renews its certificate |
//! | [`plan`] | what a process is told, as it travels |
//! | [`report`] | what a process tells, as it travels |

pub mod address;
pub mod authority;
pub mod authorize;
pub mod backoff;
pub mod balance;
pub mod budget;
pub mod classify;
pub mod deadline;
pub mod draw;
pub mod duration;
pub mod explain;
pub mod filter;
pub mod identity;
pub mod manifest;
pub mod name;
pub mod nearest;
pub mod path;
pub mod plan;
pub mod pushback;
pub mod renewal;
pub mod report;
pub mod retry;
pub mod route;
pub mod split;
pub mod timeout;
pub mod token;
