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
//! | [`plan`] | what a process is told, as it travels |
//! | [`report`] | what a process tells, as it travels |

pub mod identity;
pub mod name;
pub mod plan;
pub mod report;
pub mod token;
