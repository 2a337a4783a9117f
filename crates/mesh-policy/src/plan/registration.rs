//! What a process serves: `PUT /v1/endpoints/{id}`, a lease as long as its watch.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::name::ServiceAddress;

/// One listener of a process. Its identity is the connection's, never a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The watch that keeps this alive.
    pub watch: String,
    /// The service it serves, with the logical port if the process named one.
    pub serves: ServiceAddress,
    /// Where it listens.
    pub address: SocketAddr,
    /// The workload's name.
    pub workload: String,
    /// The instance's name.
    pub instance: String,
    /// What pod selectors select.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The zone it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its share among its peers; 100 is the usual one.
    pub weight: u32,
}
