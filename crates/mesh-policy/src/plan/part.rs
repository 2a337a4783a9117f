//! A part of a plan that must be understood, or else close what it governs.
//!
//! A client older than a policy must not read the half it knows: that is how a
//! host rule became a match-all (CVE-2022-21679). So inside a part an unknown
//! field counts as not understood, also where nobody thought to require it:
//! a match without the condition that it does not know is a wider match.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::CAPABILITIES;

/// What a part requires that discovery itself closed; no library has it, so that every reader
/// closes the part, also one that does not read the reason.
const CLOSED_BY_DISCOVERY: &str = "closed-by-discovery";

/// A `T` that names what a reader must understand to act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// A part that every reader closes, and why: discovery does not know the whole of it.
    #[must_use]
    pub fn closed(why: impl Into<String>) -> Self {
        Self::NotUnderstood {
            requires: BTreeSet::from([CLOSED_BY_DISCOVERY.to_owned()]),
            why: why.into(),
        }
    }

    /// Marks the part as requiring `capability` too.
    #[must_use]
    pub fn requiring(mut self, capability: &str) -> Self {
        let (Self::Understood { requires, .. } | Self::NotUnderstood { requires, .. }) = &mut self;
        requires.insert(capability.to_owned());
        self
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
#[error("{why}")]
pub struct NotUnderstood {
    why: String,
}

impl<T: Serialize> Serialize for Part<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Understood { requires, body } => {
                let mut part = serializer.serialize_struct("Part", 2)?;
                part.serialize_field("requires", requires)?;
                part.serialize_field("body", body)?;
                part.end()
            }
            Self::NotUnderstood { requires, why } => {
                let mut part = serializer.serialize_struct("Part", 3)?;
                part.serialize_field("requires", requires)?;
                // No part has such a body: a reader that passes over `why` closes it all the same.
                part.serialize_field("body", &())?;
                part.serialize_field("why", why)?;
                part.end()
            }
        }
    }
}

#[derive(Deserialize)]
struct Wire {
    requires: BTreeSet<String>,
    body: serde_json::Value,
    /// Only a part that its writer closed has one.
    why: Option<String>,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire {
            requires,
            body,
            why,
        } = Wire::deserialize(deserializer)?;
        if let Some(why) = why {
            return Ok(Self::NotUnderstood { requires, why });
        }
        let unknown = requires
            .iter()
            .find(|name| !CAPABILITIES.contains(&name.as_str()));
        if let Some(name) = unknown {
            let why = format!(
                "the plan requires {name:?}, which this version lacks: update this process's mesh-core"
            );
            return Ok(Self::NotUnderstood { requires, why });
        }
        match serde_json::from_value(body) {
            Ok(body) => Ok(Self::Understood { requires, body }),
            Err(error) => {
                let why = format!(
                    "a part of the plan cannot be read ({error}): update this process's mesh-core"
                );
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
    fn z16_a_part_that_discovery_closed_is_closed_for_every_reader() {
        /// What a reader takes that does not know of `why`.
        #[derive(Deserialize)]
        struct Older {
            requires: BTreeSet<String>,
            body: serde_json::Value,
        }
        let closed = Part::<Vec<u32>>::closed("the Server shop/api cannot be read");
        let json = serde_json::to_string(&closed).unwrap();
        assert_eq!(
            serde_json::from_str::<Part<Vec<u32>>>(&json).unwrap(),
            closed
        );
        let why = closed.understood().unwrap_err().to_string();
        assert_eq!(why, "the Server shop/api cannot be read");

        let older: Older = serde_json::from_str(&json).unwrap();
        let known = |name: &String| CAPABILITIES.contains(&name.as_str());
        assert!(!older.requires.iter().all(known));
        assert_eq!(older.body, serde_json::Value::Null);
    }

    #[test]
    fn z16_a_body_of_another_shape_closes_its_part_and_not_the_whole_event() {
        let part = read(r#"{"requires":[],"body":"seven"}"#);
        assert!(part.understood().is_err());
    }
}
