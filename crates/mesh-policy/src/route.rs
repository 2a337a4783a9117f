//! Which rule governs a request.
//!
//! The rules of all routes of a port compete as one list. It is sorted once by
//! Gateway API's precedence (exact path, then the longest prefix, then a method,
//! then the most headers, then the older route, then the earlier rule), so that
//! the first entry that matches is the answer.

use std::cmp::Reverse;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::name::ObjectRef;
use crate::plan::outbound::{HeaderPlan, MatchPlan, PathPlan, PortPlan, RulePlan};
use crate::plan::part::NotUnderstood;
use crate::retry::RetryPolicy;
use crate::split::Split;
use crate::timeout::Timeouts;

/// The rules of one logical port, ready to be asked.
#[derive(Clone, Debug)]
pub struct Table {
    rules: Vec<Rule>,
    entries: Vec<Entry>,
}

/// What happens to the requests that a rule governs.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The object that people wrote.
    pub source: ObjectRef,
    /// Which rule of it, from 0.
    pub index: usize,
    /// The rule's name, if it has one.
    pub name: Option<String>,
    /// Where its requests go.
    pub split: Split,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What is tried again.
    pub retry: RetryPolicy,
}

/// What a rule can look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path without its query.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// The rule that governs a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index into [`Table::rules`].
    pub rule: usize,
    /// Which of the rule's matches; `None` for a rule without any.
    pub matched: Option<usize>,
}

#[derive(Clone, Debug)]
struct Entry {
    found: Found,
    path: PathMatch,
    method: Option<Method>,
    headers: Vec<HeaderMatch>,
}

#[derive(Clone, Debug)]
enum PathMatch {
    Exact(Box<str>),
    /// Without a slash at its end; empty matches everything.
    Prefix(Box<str>),
}

#[derive(Clone, Debug)]
struct HeaderMatch {
    name: HeaderName,
    exact: HeaderValue,
}

impl Table {
    /// Compiles the routes of a port.
    ///
    /// # Errors
    ///
    /// [`ClosedPort`] when a route is beyond this library or names what HTTP cannot
    /// carry; then no request may pass, since it might have been governed by it.
    /// Also when there is no route at all: discovery always sends the default one.
    pub fn compile(plan: &PortPlan) -> Result<Self, ClosedPort> {
        if plan.routes.is_empty() {
            return Err(ClosedPort::NoRoute);
        }
        let mut table = Self {
            rules: Vec::new(),
            entries: Vec::new(),
        };
        for route in &plan.routes {
            let route = route.understood()?;
            for (index, rule) in route.rules.iter().enumerate() {
                table.add(&route.source, index, rule)?;
            }
        }
        // Stable: routes come oldest first, and rules and matches in their written order.
        table.entries.sort_by_key(Entry::precedence);
        Ok(table)
    }

    /// The rules, in the order that [`Found::rule`] counts.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule that governs a request, or `None` if none matches.
    #[must_use]
    pub fn find(&self, facts: &Facts<'_>) -> Option<Found> {
        let entry = self.entries.iter().find(|entry| entry.matches(facts))?;
        Some(entry.found)
    }

    fn add(&mut self, source: &ObjectRef, index: usize, plan: &RulePlan) -> Result<(), ClosedPort> {
        let rule = self.rules.len();
        self.rules.push(Rule {
            source: source.clone(),
            index,
            name: plan.name.clone(),
            split: Split::from(plan.backends.as_slice()),
            timeouts: Timeouts::from(plan.timeouts),
            retry: RetryPolicy::from(plan.retry.as_ref()),
        });
        if plan.matches.is_empty() {
            let found = Found {
                rule,
                matched: None,
            };
            self.entries
                .push(Entry::compile(&MatchPlan::default(), found)?);
        }
        for (matched, plan) in plan.matches.iter().enumerate() {
            let matched = Some(matched);
            self.entries
                .push(Entry::compile(plan, Found { rule, matched })?);
        }
        Ok(())
    }
}

impl Entry {
    fn compile(plan: &MatchPlan, found: Found) -> Result<Self, ClosedPort> {
        let method = plan.method.as_deref().map(|method| {
            Method::from_bytes(method.as_bytes())
                .map_err(|_| ClosedPort::unusable("method", method))
        });
        Ok(Self {
            found,
            path: PathMatch::compile(plan.path.as_ref())?,
            method: method.transpose()?,
            headers: HeaderMatch::compile_all(&plan.headers)?,
        })
    }

    /// Smaller sorts first and wins.
    fn precedence(&self) -> impl Ord + use<> {
        let path = match &self.path {
            PathMatch::Exact(path) => (0, Reverse(path.len())),
            PathMatch::Prefix(path) => (1, Reverse(path.len())),
        };
        (path, self.method.is_none(), Reverse(self.headers.len()))
    }

    fn matches(&self, facts: &Facts<'_>) -> bool {
        self.path.matches(facts.path)
            && self
                .method
                .as_ref()
                .is_none_or(|method| method == facts.method)
            && self
                .headers
                .iter()
                .all(|header| header.matches(facts.headers))
    }
}

impl PathMatch {
    fn compile(plan: Option<&PathPlan>) -> Result<Self, ClosedPort> {
        let (path, make): (_, fn(Box<str>) -> Self) = match plan {
            None => return Ok(Self::Prefix("".into())),
            Some(PathPlan::Exact(path)) => (path.as_str(), Self::Exact),
            Some(PathPlan::Prefix(path)) => (path.as_str(), |path| {
                Self::Prefix(path.trim_end_matches('/').into())
            }),
        };
        if path.starts_with('/') {
            Ok(make(path.into()))
        } else {
            Err(ClosedPort::unusable("path", path))
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            // Also what is no path at all: `*` of OPTIONS, and nothing of CONNECT.
            Self::Prefix(prefix) if prefix.is_empty() => true,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

impl HeaderMatch {
    /// Of several matches on one name the first counts (Gateway API, `HTTPHeaderMatch`).
    fn compile_all(plans: &[HeaderPlan]) -> Result<Vec<Self>, ClosedPort> {
        let mut headers: Vec<Self> = Vec::with_capacity(plans.len());
        for plan in plans {
            let header = Self::compile(plan)?;
            if headers.iter().all(|known| known.name != header.name) {
                headers.push(header);
            }
        }
        Ok(headers)
    }

    fn compile(plan: &HeaderPlan) -> Result<Self, ClosedPort> {
        let name = HeaderName::from_bytes(plan.name.as_bytes())
            .map_err(|_| ClosedPort::unusable("header name", &plan.name))?;
        let exact = HeaderValue::from_bytes(plan.exact.as_bytes())
            .map_err(|_| ClosedPort::unusable("header value", &plan.exact))?;
        Ok(Self { name, exact })
    }

    /// Repeated headers are one list, joined by commas (RFC 9110, section 5.3).
    fn matches(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.name).iter();
        let Some(first) = values.next() else {
            return false;
        };
        let mut expected = self.exact.as_bytes();
        let mut eat = |part: &[u8]| {
            let rest = expected.strip_prefix(part);
            expected = rest.unwrap_or(expected);
            rest.is_some()
        };
        let fits = eat(first.as_bytes())
            && values.all(|value| (eat(b", ") || eat(b",")) && eat(value.as_bytes()));
        fits && expected.is_empty()
    }
}

/// A port that no request may pass, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosedPort {
    /// The plan holds no route, not even the default.
    #[error("the plan has no route for the port; update discovery")]
    NoRoute,
    /// A route is beyond this library.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
    /// A route names what HTTP cannot carry.
    #[error("the plan matches on the {what} {value:?}, which HTTP cannot carry; correct the route")]
    Unusable {
        /// What it names.
        what: &'static str,
        /// As it is written.
        value: String,
    },
}

impl ClosedPort {
    fn unusable(what: &'static str, value: &str) -> Self {
        let value = value.to_owned();
        Self::Unusable { what, value }
    }
}

#[cfg(test)]
mod tests;
