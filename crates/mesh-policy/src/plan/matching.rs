//! Which requests a rule selects.

use serde::{Deserialize, Serialize};

/// All of these must hold of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchPlan {
    /// The path, without its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathPlan>,
    /// The method, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers that must be there, their names in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<FieldPlan>,
    /// Query parameters that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<FieldPlan>,
}

impl MatchPlan {
    pub(super) fn has_query(&self) -> bool {
        !self.query.is_empty()
    }

    pub(super) fn has_regex(&self) -> bool {
        let mut fields = self.headers.iter().chain(&self.query);
        matches!(self.path, Some(PathPlan::Regex(_)))
            || fields.any(|field| matches!(field.value, ValuePlan::Regex(_)))
    }
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathPlan {
    /// The whole path.
    Exact(String),
    /// Whole segments from the start.
    Prefix(String),
    /// The whole path, by a pattern.
    Regex(String),
}

/// A header or a query parameter, and the value it must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireField", into = "WireField")]
pub struct FieldPlan {
    /// Its name.
    pub name: String,
    /// What its value is compared with.
    pub value: ValuePlan,
}

/// How a value is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValuePlan {
    /// The whole value.
    Exact(String),
    /// The whole value, by a pattern.
    Regex(String),
}

/// `{"name": …, "exact": …}` or `{"name": …, "regex": …}`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireField {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    regex: Option<String>,
}

/// A field that says neither or both.
#[derive(Debug, thiserror::Error)]
#[error("{name:?} has to be compared with exactly one of exact and regex")]
struct Ambiguous {
    name: String,
}

impl TryFrom<WireField> for FieldPlan {
    type Error = Ambiguous;

    fn try_from(wire: WireField) -> Result<Self, Ambiguous> {
        let name = wire.name;
        let value = match (wire.exact, wire.regex) {
            (Some(exact), None) => ValuePlan::Exact(exact),
            (None, Some(regex)) => ValuePlan::Regex(regex),
            _ => return Err(Ambiguous { name }),
        };
        Ok(Self { name, value })
    }
}

impl From<FieldPlan> for WireField {
    fn from(plan: FieldPlan) -> Self {
        let (exact, regex) = match plan.value {
            ValuePlan::Exact(exact) => (Some(exact), None),
            ValuePlan::Regex(regex) => (None, Some(regex)),
        };
        Self {
            name: plan.name,
            exact,
            regex,
        }
    }
}
