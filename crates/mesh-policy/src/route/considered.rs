//! Why the other rules do not govern a request.
//!
//! Asked by people, through the conditions that [`Table::find`] asks: an
//! explanation from other code would one day explain something else.

use std::fmt;

use http::Method;

use super::field::{HeaderMatch, QueryMatch};
use super::path::PathMatch;
use super::{Facts, Found, Table};

/// A match that does not govern a request.
#[derive(Clone, Debug)]
pub struct Considered<'a> {
    /// Which rule, and which of its matches.
    pub found: Found,
    /// Why not.
    pub why_not: WhyNot<'a>,
}

/// Why a match does not govern a request.
#[derive(Clone, Debug)]
pub enum WhyNot<'a> {
    /// A condition does not hold.
    Missed(Miss<'a>),
    /// It fits too, and another one comes first.
    Outranked,
}

/// The first condition of a match that does not hold; its text says which.
#[derive(Clone, Debug)]
pub struct Miss<'a>(pub(super) Condition<'a>);

#[derive(Clone, Debug)]
pub(super) enum Condition<'a> {
    Path(&'a PathMatch),
    Method(&'a Method),
    Header(&'a HeaderMatch),
    HeaderMissing(&'a HeaderMatch),
    Query(&'a QueryMatch),
    QueryMissing(&'a QueryMatch),
}

impl Table {
    /// Every match that does not govern the request, in the order of precedence, and why not.
    #[must_use]
    pub fn considered(&self, facts: &Facts<'_>) -> Vec<Considered<'_>> {
        let chosen = self.find(facts);
        let others = self.entries.iter().filter(|e| Some(e.found) != chosen);
        others
            .map(|entry| Considered {
                found: entry.found,
                why_not: match entry.miss(facts) {
                    Some(miss) => WhyNot::Missed(miss.told_apart(facts)),
                    None => WhyNot::Outranked,
                },
            })
            .collect()
    }
}

impl Miss<'_> {
    /// Missing and different are one to the request and two to people: only they pay for the look.
    fn told_apart(self, facts: &Facts<'_>) -> Self {
        match self.0 {
            Condition::Header(header) if !header.is_in(facts.headers) => {
                Self(Condition::HeaderMissing(header))
            }
            Condition::Query(query) if !query.is_in(facts.query) => {
                Self(Condition::QueryMissing(query))
            }
            other => Self(other),
        }
    }
}

impl fmt::Display for WhyNot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missed(miss) => miss.fmt(f),
            Self::Outranked => f.write_str("it matches too, and another match comes first"),
        }
    }
}

impl fmt::Display for Miss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Condition::Path(path) => write!(f, "the path {path}"),
            Condition::Method(method) => write!(f, "the method is not {method}"),
            Condition::Header(header) => write!(f, "the header {header}"),
            Condition::HeaderMissing(header) => {
                write!(f, "the header {} is missing", header.name())
            }
            Condition::QueryMissing(query) => {
                write!(f, "the query parameter {} is missing", query.name())
            }
            Condition::Query(query) => write!(f, "the query parameter {query}"),
        }
    }
}
