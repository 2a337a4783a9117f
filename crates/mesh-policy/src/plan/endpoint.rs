//! Who serves a logical port of a service: whole sets, or changes of a known set.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::identity::Identity;

/// One address that serves a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whom a client must find there; without one the endpoint speaks plaintext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Which versions of HTTP it takes.
    #[serde(default)]
    pub http: HttpVersions,
    /// Its share among its peers; 100 is the usual one, 0 takes no traffic.
    pub weight: u32,
    /// The workload's name, for the label `deployment`.
    pub workload: String,
    /// The instance's name, for the label `pod`.
    pub instance: String,
    /// The zone it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// Which versions of HTTP a port takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpVersions {
    /// Either; the client's pool chooses.
    #[default]
    Both,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
}

/// The endpoints of one logical port, by id.
///
/// A set is replaced as a whole whenever one of its endpoints changes, so the others are
/// shared between the sets, and with whoever keeps one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet(pub BTreeMap<Arc<str>, Arc<Endpoint>>);

/// A step from one set to the next, or a whole set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointDelta {
    /// Hash of the set this builds on; `None` means a whole set, in `put`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// New and changed endpoints.
    pub put: EndpointSet,
    /// Ids that left.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub gone: BTreeSet<String>,
    /// Hash of the set that results.
    pub hash: String,
}

impl FromIterator<(String, Endpoint)> for EndpointSet {
    fn from_iter<T: IntoIterator<Item = (String, Endpoint)>>(endpoints: T) -> Self {
        let endpoints = endpoints.into_iter();
        let shared = endpoints.map(|(id, endpoint)| (id.into(), Arc::new(endpoint)));
        Self(shared.collect())
    }
}

impl Serialize for EndpointSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let endpoints = self.0.iter();
        serializer.collect_map(endpoints.map(|(id, endpoint)| (&**id, &**endpoint)))
    }
}

impl<'de> Deserialize<'de> for EndpointSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let endpoints = BTreeMap::<String, Endpoint>::deserialize(deserializer)?;
        Ok(endpoints.into_iter().collect())
    }
}

impl EndpointSet {
    /// SHA-256 of the set's canonical JSON, in hex.
    ///
    /// # Panics
    ///
    /// Never: the form has string keys and no fallible parts.
    #[must_use]
    pub fn hash(&self) -> String {
        let bytes = serde_json::to_vec(self).expect("string keys always serialise");
        let digest = Sha256::digest(bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The set as a delta that needs no base.
    #[must_use]
    pub fn whole(&self) -> EndpointDelta {
        EndpointDelta {
            base: None,
            put: self.clone(),
            gone: BTreeSet::new(),
            hash: self.hash(),
        }
    }

    /// What turns `self` into `next`.
    #[must_use]
    pub fn delta(&self, next: &Self) -> EndpointDelta {
        let put = next
            .0
            .iter()
            .filter(|(id, endpoint)| self.0.get(*id) != Some(endpoint))
            .map(|(id, endpoint)| (Arc::clone(id), Arc::clone(endpoint)))
            .collect();
        let gone = self.0.keys().filter(|id| !next.0.contains_key(*id));
        let gone = gone.map(|id| id.to_string());
        EndpointDelta {
            base: Some(self.hash()),
            put: Self(put),
            gone: gone.collect(),
            hash: next.hash(),
        }
    }

    /// The set after `delta`.
    ///
    /// # Errors
    ///
    /// [`SetMismatch`] if `delta` builds on another set or does not lead to the
    /// set it promises; the reader then asks for the whole set.
    pub fn apply(&self, delta: &EndpointDelta) -> Result<Self, SetMismatch> {
        let mut next = match &delta.base {
            None => Self::default(),
            Some(base) if *base == self.hash() => self.clone(),
            Some(_) => return Err(SetMismatch),
        };
        for id in &delta.gone {
            next.0.remove(id.as_str());
        }
        next.0.extend(delta.put.0.clone());
        if next.hash() == delta.hash {
            Ok(next)
        } else {
            Err(SetMismatch)
        }
    }
}

/// A delta does not fit the set it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an endpoint delta does not fit the set it met")]
pub struct SetMismatch;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint {
            address: ([127, 0, 0, 1], port).into(),
            identity: None,
            http: HttpVersions::Both,
            weight: 100,
            workload: "api".into(),
            instance: "api-1".into(),
            zone: None,
        }
    }

    fn sets() -> impl Strategy<Value = EndpointSet> {
        proptest::collection::btree_map("[a-d]", (1u16..4).prop_map(endpoint), 0..4)
            .prop_map(|set| set.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_delta_leads_from_any_set_to_any_other(from in sets(), to in sets()) {
            prop_assert_eq!(from.apply(&from.delta(&to)), Ok(to.clone()));
            prop_assert_eq!(from.apply(&to.whole()), Ok(to));
        }

        #[test]
        fn a_delta_on_another_set_is_refused(from in sets(), to in sets(), other in sets()) {
            prop_assume!(from != other);
            prop_assert_eq!(other.apply(&from.delta(&to)), Err(SetMismatch));
        }
    }

    #[test]
    fn a_delta_that_breaks_its_promise_is_refused() {
        let from = EndpointSet::default();
        let to: EndpointSet = [("a".into(), endpoint(1))].into_iter().collect();
        let mut delta = from.delta(&to);
        delta.put.0.clear();
        assert_eq!(from.apply(&delta), Err(SetMismatch));
    }
}
