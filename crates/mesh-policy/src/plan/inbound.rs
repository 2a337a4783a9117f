//! Who may call what a process serves.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::endpoint::HttpVersions;
use super::part::Part;
use crate::identity::{Identity, TrustDomain};
use crate::name::{Label, ObjectRef, ServicePort};

/// The policy of one served port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboundPlan {
    /// The logical port that this governs, as discovery resolved it.
    pub port: ServicePort,
    /// The `Server` that selects it, or the built-in default policy.
    pub server: ObjectRef,
    /// Which versions of HTTP the port takes.
    #[serde(default)]
    pub http: HttpVersions,
    /// Any of these lets a client in; none at all lets nobody in.
    pub authorizations: Vec<Part<AuthorizationPlan>>,
    /// `Server`s that may mean this port: each of them must let a client in too. A plan that
    /// has any requires `narrowing/1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrowed_by: Vec<NarrowingPlan>,
    /// How long a request body may be silent, in milliseconds: absent means the
    /// process's default, 0 means for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_body_idle_ms: Option<u64>,
}

/// A `Server` that takes away from whom a port lets in, and never adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NarrowingPlan {
    /// The `Server`.
    pub server: ObjectRef,
    /// Any of these is enough for this `Server`; none at all lets nobody in.
    pub authorizations: Vec<Part<AuthorizationPlan>>,
}

/// One reason to let a client in: its network *and* its identity must fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationPlan {
    /// The object that grants this.
    pub source: ObjectRef,
    /// Whether it grants, or grants and says that it would not have.
    #[serde(default)]
    pub effect: EffectPlan,
    /// Where the client's socket may be; empty means anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkPlan>,
    /// Who the client must have proved to be.
    pub client: ClientPlan,
}

/// What a matching authorization does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectPlan {
    /// Lets the request in.
    #[default]
    Allow,
    /// Lets it in, and counts and logs that enforcement would not.
    Audit,
}

/// A network and its holes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPlan {
    /// Such as `10.0.0.0/8`.
    pub cidr: String,
    /// Parts of it that do not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

/// Who a client must have proved to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClientPlan {
    /// Nobody in particular: plaintext will do.
    Anyone,
    /// One of these.
    Identities {
        /// Whole identities.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        exact: BTreeSet<Identity>,
        /// Identities by their segments.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        patterns: Vec<PatternPlan>,
    },
}

/// Identities by whole segments; what is absent may be anything.
///
/// With every field absent this is any identity at all, also one that is not
/// of the form `/ns/<ns>/sa/<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternPlan {
    /// The trust domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<TrustDomain>,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
    /// The service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Label>,
}
