//! The policies that have a name instead of an object.

use super::fields::At;

/// Who may call where no authorization says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DefaultPolicy {
    /// Anyone, from anywhere, plaintext included.
    AllUnauthenticated,
    /// Any identity, from anywhere.
    AllAuthenticated,
    /// Anyone, from the cluster's networks.
    ClusterUnauthenticated,
    /// Any identity, from the cluster's networks.
    ClusterAuthenticated,
    /// Nobody.
    #[default]
    Deny,
    /// Anyone, with every such request counted and logged.
    Audit,
}

impl DefaultPolicy {
    const NAMES: [(&'static str, Self); 6] = [
        ("all-unauthenticated", Self::AllUnauthenticated),
        ("all-authenticated", Self::AllAuthenticated),
        ("cluster-unauthenticated", Self::ClusterUnauthenticated),
        ("cluster-authenticated", Self::ClusterAuthenticated),
        ("deny", Self::Deny),
        ("audit", Self::Audit),
    ];

    /// The name as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllUnauthenticated => "all-unauthenticated",
            Self::AllAuthenticated => "all-authenticated",
            Self::ClusterUnauthenticated => "cluster-unauthenticated",
            Self::ClusterAuthenticated => "cluster-authenticated",
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }
}

pub(super) fn read(at: &At<'_>) -> Option<DefaultPolicy> {
    at.one_of(&DefaultPolicy::NAMES)
}
