//! What an administrator's requests under `/v1` and their answers look like.

use std::fmt;
use std::str::FromStr;

use mesh_policy::identity::Identity;
use mesh_policy::name::{Label, ServiceName};
use serde::{Deserialize, Serialize};

/// `POST /v1/tokens`: the right to join, to be made.
///
/// ```
/// use mesh_discovery::wire::TokenRequest;
///
/// let request = TokenRequest::new("shop".parse()?, "web".parse()?);
/// assert_eq!(request.ttl_seconds, 600);
/// assert_eq!(request.uses, 1);
/// # Ok::<(), mesh_policy::name::InvalidName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// The namespace of the identity that joins.
    pub namespace: Label,
    /// The service account of the identity that joins.
    pub account: Label,
    /// How long the token can be used, in seconds: 600 by default. A long life is a long
    /// time in which a leaked token is worth something.
    #[serde(default = "default_ttl_seconds")]
    pub ttl_seconds: u64,
    /// How many processes can join with it: 1 by default.
    #[serde(default = "default_uses")]
    pub uses: u32,
    /// What its holder may serve; none named means any service of its own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serves: Vec<ServiceName>,
}

const fn default_ttl_seconds() -> u64 {
    600
}

const fn default_uses() -> u32 {
    1
}

impl TokenRequest {
    /// A token for one process of this identity, to be used within ten minutes.
    #[must_use]
    pub const fn new(namespace: Label, account: Label) -> Self {
        Self {
            namespace,
            account,
            ttl_seconds: default_ttl_seconds(),
            uses: default_uses(),
            serves: Vec::new(),
        }
    }
}

/// The answer to a [`TokenRequest`]: the only time the token is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCreated {
    /// The token in full.
    pub token: String,
    /// Until when it can be used, in seconds since the Unix epoch.
    pub expires: u64,
}

impl fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCreated")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// `GET /v1/tokens`: the tokens that can still be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenList {
    /// The tokens, ordered by id.
    pub tokens: Vec<TokenSummary>,
}

/// What discovery tells of a token once it exists. `DELETE /v1/tokens/{id}` revokes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSummary {
    /// The token's public name.
    pub id: String,
    /// Who its holder becomes.
    pub identity: Identity,
    /// What its holder may serve; none named means any service of its own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serves: Vec<ServiceName>,
    /// How many processes can still join with it.
    pub uses_left: u32,
    /// Until when it can be used, in seconds since the Unix epoch.
    pub expires: u64,
}

/// The answer to `POST /v1/apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The store's revision that holds all of it; for a dry run, the one it was checked against.
    pub revision: u64,
    /// What became of each object, in the order of the file.
    pub results: Vec<AppliedObject>,
    /// What was understood but should be written otherwise, each as one line of text.
    pub warnings: Vec<String>,
    /// What has no effect now, each as one line of text: `Server shop/api: why, and the remedy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ineffective: Vec<String>,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedObject {
    /// Its kind, such as `HTTPRoute`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What was done.
    pub action: Action,
}

/// What applying did to an object, in kubectl's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It was not there before.
    Created,
    /// It was there with other content.
    Configured,
    /// It was there just so.
    Unchanged,
}

/// The answer to an apply that was refused: everything that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyRefused {
    /// A stable word: `invalid`, `conflict` or `too-large`.
    pub error: String,
    /// What was refused, why, and what to do.
    pub message: String,
    /// The problems in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ApplyProblem>,
}

/// One thing that is wrong with an applied file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyProblem {
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The field's path, such as `spec.rules[0].backendRefs[1].weight`.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// `GET /v1/unreadable`: what is stored and cannot be read by this version, as after going back
/// from a newer one. `DELETE /v1/unreadable?key=…&revision=…` removes one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableList {
    /// The records in the order of their keys.
    pub records: Vec<UnreadableRecord>,
}

/// One stored record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableRecord {
    /// Its key; that of an object is `objects/<group>/<plural>/<namespace>/<name>`.
    pub key: String,
    /// The revision that wrote it last.
    pub revision: u64,
    /// The kind that it says it is, if it says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

/// `GET /v1/stat`: which services, and for how long back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatQuery {
    /// Only services of this namespace; all without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
    /// Only services of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Label>,
    /// Only what these have sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<StatSource>,
    /// What those who serve each service have sent to this one, instead of what it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ServiceName>,
    /// Seconds to look back, in steps of 10: 60 by default, 600 at most.
    #[serde(default = "default_window_seconds")]
    pub window_seconds: u64,
}

const fn default_window_seconds() -> u64 {
    60
}

impl Default for StatQuery {
    fn default() -> Self {
        Self {
            namespace: None,
            name: None,
            from: None,
            to: None,
            window_seconds: default_window_seconds(),
        }
    }
}

/// Who has sent what a [`StatQuery`] asks for: `api.shop`, `shop/web` or a SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StatSource {
    /// Those who serve a service now.
    Service(ServiceName),
    /// A service account of this mesh.
    Account {
        /// Its namespace.
        namespace: Label,
        /// Its name.
        account: Label,
    },
    /// One identity, whether it is there now or not.
    Identity(Identity),
}

impl FromStr for StatSource {
    type Err = InvalidStatSource;

    fn from_str(text: &str) -> Result<Self, InvalidStatSource> {
        let refuse = || InvalidStatSource(text.to_owned());
        if text.starts_with("spiffe:") {
            return text.parse().map(Self::Identity).map_err(|_| refuse());
        }
        match text.split_once('/') {
            None => text.parse().map(Self::Service).map_err(|_| refuse()),
            Some((namespace, account)) => Ok(Self::Account {
                namespace: namespace.parse().map_err(|_| refuse())?,
                account: account.parse().map_err(|_| refuse())?,
            }),
        }
    }
}

impl fmt::Display for StatSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => service.fmt(f),
            Self::Account { namespace, account } => write!(f, "{namespace}/{account}"),
            Self::Identity(identity) => identity.fmt(f),
        }
    }
}

impl TryFrom<String> for StatSource {
    type Error = InvalidStatSource;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<StatSource> for String {
    fn from(source: StatSource) -> Self {
        source.to_string()
    }
}

/// A text that names nobody who can have sent anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no sender: write a service such as \"api.shop\", a service account such as \"shop/web\", or a SPIFFE ID"
)]
pub struct InvalidStatSource(String);

/// The answer to a [`StatQuery`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// The time that the counts are of.
    pub window_seconds: u64,
    /// One row for each service, by namespace and name.
    pub services: Vec<ServiceStat>,
}

/// How one service did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStat {
    /// Its namespace.
    pub namespace: Label,
    /// Its name.
    pub name: Label,
    /// How many endpoints it has, those of its backends included.
    pub endpoints: usize,
    /// How many of them are in the mesh.
    pub meshed: usize,
    /// Whose counts these are; absent without any.
    #[serde(default)]
    pub counted_by: Option<CountedBy>,
    /// Requests that succeeded.
    pub success: u64,
    /// Requests that failed.
    pub failure: u64,
    /// The median of the time to the first data, in microseconds; absent without an answer.
    pub latency_us_p50: Option<u64>,
    /// The time that 95 % do not exceed.
    pub latency_us_p95: Option<u64>,
    /// The time that 99 % do not exceed.
    pub latency_us_p99: Option<u64>,
    /// Who called, each as it reported itself, those with the most requests first: at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<CallerStat>,
}

/// Whose counts a row adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CountedBy {
    /// Its callers: they see what never arrived.
    Callers,
    /// Those who serve it, where no caller named it: a backend of another name.
    Servers,
}

/// What one caller of a service reported, and what the called side counted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerStat {
    /// Who.
    pub identity: Identity,
    /// Its requests that succeeded, as it says.
    pub success: u64,
    /// Its requests that failed, as it says: those too that never arrived.
    pub failure: u64,
    /// Its requests that the called side counted; absent where that reports nothing of anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
}

impl CallerStat {
    /// Whether it says that far more succeeded than arrived: reports come every few seconds, so
    /// the two sides are never quite at the same moment.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        let Some(received) = self.received else {
            return false;
        };
        self.success > received.saturating_mul(2).saturating_add(1_000)
    }
}
