//! What a process tells discovery about itself: `POST /v1/reports`.

pub mod latency;
pub mod traffic;

use serde::{Deserialize, Serialize};

use crate::plan::watch::Cursor;

/// How a process stands, sent when it changes and every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The watch that the process holds.
    pub watch: String,
    /// The library's own version.
    pub library: String,
    /// Up to where it has applied what it was told.
    pub applied: Cursor,
    /// Parts of the plan that it could not honour, and so has closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejections: Vec<Rejection>,
    /// What it has sent and received; absent if there is nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<traffic::Traffic>,
}

/// One part of a plan that a process could not honour.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rejection {
    /// What is closed: a service, a port or a listener.
    pub subject: String,
    /// What was not understood.
    pub why: String,
}
