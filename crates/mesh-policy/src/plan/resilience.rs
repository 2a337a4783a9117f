//! How long things may take, what is tried again, and how often at most.

use serde::{Deserialize, Serialize};

/// Time limits of a rule, in milliseconds; absent or 0 means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsPlan {
    /// From the call to the end of the response headers, retries included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_ms: Option<u64>,
    /// One try, from its start to the end of its response. Before the response headers
    /// its end may be followed by another try; after them it ends the response's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request_ms: Option<u64>,
    /// One try, from its start to its response headers; not applied to the last try
    /// that the rule allows, which waits as long as the other limits let it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_headers_ms: Option<u64>,
    /// One try, from its request fully sent to its response fully received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_ms: Option<u64>,
    /// From the call to the end of the response's body, retries included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_ms: Option<u64>,
    /// How long no frame may come or go while a request is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
}

impl TimeoutsPlan {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it says more than the first version of routes could.
    pub(super) fn is_beyond_request(&self) -> bool {
        let request_only = Self {
            request_ms: self.request_ms,
            ..Self::default()
        };
        *self != request_only
    }
}

/// What is tried again, beyond what no server ever processed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPlan {
    /// How many tries may follow the first.
    pub attempts: u32,
    /// HTTP statuses that are worth another try.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<StatusRange>,
    /// gRPC statuses that are worth another try, in ascending order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grpc: Vec<u16>,
    /// The least wait before the first retry; absent means the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    /// Which requests may reach a server twice.
    #[serde(default, skip_serializing_if = "RetryMethods::is_default")]
    pub methods: RetryMethods,
}

/// HTTP statuses from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

/// Which requests may reach a server twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryMethods {
    /// Those whose method promises that twice is as good as once (RFC 9110, section 9.2.2).
    #[default]
    Idempotent,
    /// All: who wrote the route answers for it.
    All,
}

impl RetryMethods {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How much the callers of a service may add to the load by retries, each process for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetPlan {
    /// Retries per thousand requests.
    pub ratio_per_mille: u32,
    /// Retries that are always granted, as a rate over the window.
    pub min_per_second: u32,
    /// How long a request counts, in milliseconds.
    pub window_ms: u64,
}

impl Default for BudgetPlan {
    /// A fifth of the requests, at least ten retries a second, over ten seconds (Finagle's and Linkerd's).
    fn default() -> Self {
        Self {
            ratio_per_mille: 200,
            min_per_second: 10,
            window_ms: 10_000,
        }
    }
}
