//! Who a process is: a SPIFFE ID, parsed strictly and never normalised.
//!
//! Two spellings of one identity are how authorization gets bypassed
//! (CVE-2021-27099), so a spelling that would need mending is refused instead.
//! The rules are those of the SPIFFE-ID standard, sections 2.1 to 2.3.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::Label;

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID 2.3: implementations must accept, and need not exceed, this size in bytes.
const MAX_ID_BYTES: usize = 2048;
/// SPIFFE-ID 2.1, the host part of RFC 3986 as far as DNS carries it.
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// The namespace whose identities belong to the mesh itself.
///
/// No join token can name it, so that no workload becomes discovery or an admin.
pub const SYSTEM_NAMESPACE: &str = "mesh-system";

/// The realm in which one set of trust anchors vouches for identities, such as `mesh.local`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Box<str>);

impl TrustDomain {
    /// The domain as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| InvalidIdentity::new(text, reason);
        if text.is_empty() {
            return Err(refuse("the trust domain is empty"));
        }
        if text.len() > MAX_TRUST_DOMAIN_BYTES {
            return Err(refuse("the trust domain is longer than 255 bytes"));
        }
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        if !text.bytes().all(allowed) {
            return Err(refuse(
                "a trust domain holds only lower-case letters, digits, '.', '-' and '_'",
            ));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = InvalidIdentity;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0.into()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SPIFFE ID with a path, such as `spiffe://mesh.local/ns/shop/sa/web`.
///
/// Equality is equality of bytes.
///
/// ```
/// use mesh_policy::identity::Identity;
///
/// let web: Identity = "spiffe://mesh.local/ns/shop/sa/web".parse()?;
/// assert_eq!(web.trust_domain(), "mesh.local");
/// assert_eq!(web.workload(), Some(("shop", "web")));
/// assert!("spiffe://Mesh.Local/ns/shop/sa/web".parse::<Identity>().is_err());
/// # Ok::<(), mesh_policy::identity::InvalidIdentity>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    id: Box<str>,
    /// Where the path begins in `id`.
    path: usize,
}

impl Identity {
    /// The identity of a workload: `spiffe://<domain>/ns/<namespace>/sa/<account>`.
    #[must_use]
    pub fn for_workload(domain: &TrustDomain, namespace: &Label, account: &Label) -> Self {
        let path = SCHEME.len() + domain.as_str().len();
        Self {
            id: format!("{SCHEME}{domain}/ns/{namespace}/sa/{account}").into(),
            path,
        }
    }

    /// The identity of the discovery server of `domain`.
    #[must_use]
    pub fn discovery(domain: &TrustDomain) -> Self {
        Self::system(domain, "discovery")
    }

    /// The identity that administers discovery in `domain`.
    #[must_use]
    pub fn admin(domain: &TrustDomain) -> Self {
        Self::system(domain, "admin")
    }

    fn system(domain: &TrustDomain, account: &str) -> Self {
        Self {
            id: format!("{SCHEME}{domain}/ns/{SYSTEM_NAMESPACE}/sa/{account}").into(),
            path: SCHEME.len() + domain.as_str().len(),
        }
    }

    /// The whole ID as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// The trust domain's spelling.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.id[SCHEME.len()..self.path]
    }

    /// The path with its leading `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.id[self.path..]
    }

    /// Namespace and service account, for an ID of the form `/ns/<ns>/sa/<name>`.
    #[must_use]
    pub fn workload(&self) -> Option<(&str, &str)> {
        let mut segments = self.path()[1..].split('/');
        let found = (
            segments.next()?,
            segments.next()?,
            segments.next()?,
            segments.next()?,
        );
        match (found, segments.next()) {
            (("ns", namespace, "sa", account), None) => Some((namespace, account)),
            _ => None,
        }
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| InvalidIdentity::new(text, reason);
        if text.len() > MAX_ID_BYTES {
            return Err(refuse("the ID is longer than 2048 bytes"));
        }
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err(refuse("it must begin with spiffe://"));
        };
        let Some(slash) = rest.find('/') else {
            return Err(refuse(
                "a workload's ID has a path, such as /ns/shop/sa/web",
            ));
        };
        rest[..slash]
            .parse::<TrustDomain>()
            .map_err(|error| refuse(error.reason))?;
        for segment in rest[slash + 1..].split('/') {
            check_segment(segment).map_err(refuse)?;
        }
        Ok(Self {
            id: text.into(),
            path: SCHEME.len() + slash,
        })
    }
}

/// SPIFFE-ID 2.2: segments are not empty, not relative, and of a fixed alphabet.
fn check_segment(segment: &str) -> Result<(), &'static str> {
    match segment {
        "" => Err("its path holds an empty segment or ends in '/'"),
        "." | ".." => Err("its path holds a relative segment"),
        _ if segment
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) =>
        {
            Ok(())
        }
        _ => Err("its path holds only letters, digits, '.', '-', '_' and '/'"),
    }
}

impl TryFrom<String> for Identity {
    type Error = InvalidIdentity;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.id.into()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// A spelling that is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no SPIFFE ID: {reason}")]
pub struct InvalidIdentity {
    text: String,
    reason: &'static str,
}

impl InvalidIdentity {
    fn new(text: &str, reason: &'static str) -> Self {
        // A refused spelling can be of any size: keep what a person can read.
        let text = text.chars().take(120).collect();
        Self { text, reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn t10_spellings_that_would_need_mending_are_refused() {
        let long = format!("spiffe://mesh.local/{}", "a".repeat(2048));
        let refused = [
            "",
            "web",
            "https://mesh.local/ns/shop/sa/web",
            "SPIFFE://mesh.local/ns/shop/sa/web",
            "spiffe:/mesh.local/ns/shop/sa/web",
            "spiffe://",
            "spiffe:///ns/shop/sa/web",
            "spiffe://mesh.local",
            "spiffe://mesh.local/",
            "spiffe://Mesh.Local/ns/shop/sa/web",
            "spiffe://user@mesh.local/ns/shop/sa/web",
            "spiffe://mesh.local:443/ns/shop/sa/web",
            "spiffe://mesh.local/ns/shop/sa/web?x=1",
            "spiffe://mesh.local/ns/shop/sa/web#x",
            "spiffe://mesh.local/ns/shop/sa/%77eb",
            "spiffe://mesh.local/ns/shop/sa/%2e",
            "spiffe://mesh.local/ns//sa/web",
            "spiffe://mesh.local//ns/shop/sa/web",
            "spiffe://mesh.local/ns/shop/sa/web/",
            "spiffe://mesh.local/ns/shop/./web",
            "spiffe://mesh.local/ns/shop/../web",
            "spiffe://mesh.local/ns/shop/sa/wéb",
            "spiffe://mesh.löcal/ns/shop/sa/web",
            "spiffe://mesh.local/ns/shop/sa/web\0",
            "spiffe://mesh.local/ns/shop/sa/we b",
            " spiffe://mesh.local/ns/shop/sa/web",
            "spiffe://mesh.local/ns/shop/sa/web\n",
            long.as_str(),
        ];
        for text in refused {
            assert!(text.parse::<Identity>().is_err(), "accepted {text:?}");
        }
    }

    #[test]
    fn an_accepted_identity_keeps_its_bytes() {
        for text in [
            "spiffe://mesh.local/ns/shop/sa/web",
            "spiffe://a/B",
            "spiffe://x_y-1.z/a.b/...",
        ] {
            let identity: Identity = text.parse().unwrap();
            assert_eq!(identity.to_string(), text);
        }
    }

    #[test]
    fn only_the_exact_form_names_a_workload() {
        let workload = |text: &str| {
            let identity: Identity = text.parse().unwrap();
            identity.workload().map(|(n, a)| format!("{n}/{a}"))
        };
        assert_eq!(workload("spiffe://d/ns/a/sa/b").as_deref(), Some("a/b"));
        assert_eq!(workload("spiffe://d/ns/a/sa/b/c"), None);
        assert_eq!(workload("spiffe://d/ns/a/sb/b"), None);
        assert_eq!(workload("spiffe://d/x"), None);
    }

    proptest! {
        /// The `spiffe` crate is the oracle: what we accept it accepts, with the same
        /// bytes; what it accepts and we refuse, it had to normalise or has no path.
        #[test]
        fn agrees_with_the_oracle(text in "(spiffe://)?[a-zA-Z0-9._@:-]{0,8}(/[a-zA-Z0-9._%-]{0,4}){0,5}") {
            let theirs = spiffe::SpiffeId::new(&text).ok().map(|id| id.to_string());
            match text.parse::<Identity>() {
                Ok(ours) => prop_assert_eq!(Some(ours.to_string()), theirs),
                Err(_) => {
                    let without_path = text.matches('/').count() < 3;
                    prop_assert!(without_path || theirs.is_none_or(|id| id != text));
                }
            }
        }
    }
}
