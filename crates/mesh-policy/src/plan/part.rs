//! A part of a plan that must be understood, or else close what it governs.
//!
//! A client older than a policy must not read the half it knows: that is how a
//! host rule became a match-all (CVE-2022-21679). So inside a part an unknown
//! field counts as not understood, also where nobody thought to require it:
//! a match without the condition that it does not know is a wider match.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::CAPABILITIES;

/// A `T` that names what a reader must understand to act on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Part<T> {
    /// Every requirement is known and the body was read.
    Understood {
        /// Names out of [`CAPABILITIES`].
        requires: BTreeSet<String>,
        /// The part itself.
        body: T,
    },
    /// Something in it is beyond this library: what it governs is closed.
    NotUnderstood {
        /// All that the part requires, known or not.
        requires: BTreeSet<String>,
        /// What was not understood, for the report.
        why: String,
    },
}

impl<T> Part<T> {
    /// Marks `body` as requiring `capability`.
    #[must_use]
    pub fn new(capability: &str, body: T) -> Self {
        Self::Understood {
            requires: BTreeSet::from([capability.to_owned()]),
            body,
        }
    }

    /// The body, or why there is none.
    ///
    /// # Errors
    ///
    /// [`NotUnderstood`] when the part is beyond this library.
    pub fn understood(&self) -> Result<&T, NotUnderstood> {
        match self {
            Self::Understood { body, .. } => Ok(body),
            Self::NotUnderstood { why, .. } => Err(NotUnderstood { why: why.clone() }),
        }
    }
}

/// A part of a plan is beyond this library; what it governs stays closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}; update this process's mesh-core")]
pub struct NotUnderstood {
    why: String,
}

#[derive(Deserialize)]
struct Wire {
    requires: BTreeSet<String>,
    body: serde_json::Value,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { requires, body } = Wire::deserialize(deserializer)?;
        let unknown = requires
            .iter()
            .find(|name| !CAPABILITIES.contains(&name.as_str()));
        if let Some(name) = unknown {
            let why = format!("the plan requires {name:?}, which this version lacks");
            return Ok(Self::NotUnderstood { requires, why });
        }
        match serde_json::from_value(body) {
            Ok(body) => Ok(Self::Understood { requires, body }),
            Err(error) => {
                let why = format!("a part of the plan cannot be read: {error}");
                Ok(Self::NotUnderstood { requires, why })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Part<u32> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn z16_a_part_that_requires_something_unknown_is_not_read() {
        let known = read(r#"{"requires":["route/1"],"body":7}"#);
        assert_eq!(known.understood(), Ok(&7));

        let newer = read(r#"{"requires":["route/1","route/9"],"body":7}"#);
        assert!(
            newer
                .understood()
                .unwrap_err()
                .to_string()
                .contains("route/9")
        );
    }

    #[test]
    fn z16_an_unknown_field_inside_a_part_closes_it() {
        use crate::plan::outbound::RoutePlan;

        let route = |of_match: &str| {
            let source = r#"{"group":"","kind":"k","namespace":"","name":"n"}"#;
            let rule = format!(r#"{{"matches":[{of_match}],"backends":[]}}"#);
            let body = format!(r#"{{"source":{source},"rules":[{rule}]}}"#);
            let part = format!(r#"{{"requires":["route/1"],"body":{body}}}"#);
            serde_json::from_str::<Part<RoutePlan>>(&part).unwrap()
        };
        assert!(route(r#"{"method":"GET"}"#).understood().is_ok());
        let wider = route(r#"{"method":"GET","cookies":[{"name":"a","exact":"b"}]}"#);
        assert!(wider.understood().is_err(), "a match without its condition");
    }

    #[test]
    fn z16_a_body_of_another_shape_closes_its_part_and_not_the_whole_event() {
        let part = read(r#"{"requires":[],"body":"seven"}"#);
        assert!(part.understood().is_err());
    }
}
