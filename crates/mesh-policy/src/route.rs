//! Which rule governs a request.
//!
//! The rules of all routes of a port compete as one list. It is sorted once by
//! Gateway API's precedence (exact path, then a pattern, then the longest prefix,
//! then a method, then the most headers, then the most query parameters, then the
//! older route, then the earlier rule), so that the first entry that matches is
//! the answer. Where the specification leaves a pattern's rank open, it stands
//! above every prefix, as in Linkerd: it fits the whole path.

mod considered;
mod field;
mod path;
pub mod pattern;

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::filter::{Filters, InvalidFilter};
use crate::name::ObjectRef;
use crate::plan::outbound::{MatchPlan, PortPlan, RulePlan};
use crate::plan::part::NotUnderstood;
use crate::retry::RetryPolicy;
use crate::split::Split;
use crate::timeout::Timeouts;
use considered::Condition;
pub use considered::{Considered, Miss, WhyNot};
use field::{HeaderMatch, QueryMatch};
use path::PathMatch;
use pattern::InvalidPattern;

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
    /// What is done on the way, whichever backend is chosen.
    pub filters: Arc<Filters>,
    /// Where its requests go.
    pub split: Split,
    /// What is done on the way to each backend, in the order of the split.
    pub backend_filters: Vec<Arc<Filters>>,
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
    /// The query, as it came, without its `?`; empty if there is none.
    pub query: &'a str,
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
    query: Vec<QueryMatch>,
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
        let mut entries = self.entries.iter();
        let entry = entries.find(|entry| entry.miss(facts).is_none())?;
        Some(entry.found)
    }

    fn add(&mut self, source: &ObjectRef, index: usize, plan: &RulePlan) -> Result<(), ClosedPort> {
        let rule = self.rules.len();
        let backends = plan.backends.iter();
        let backend_filters = backends.map(|one| Filters::compile(&one.filters).map(Arc::new));
        self.rules.push(Rule {
            source: source.clone(),
            index,
            name: plan.name.clone(),
            filters: Arc::new(Filters::compile(&plan.filters)?),
            split: Split::from(plan.backends.as_slice()),
            backend_filters: backend_filters.collect::<Result<_, _>>()?,
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
            query: QueryMatch::compile_all(&plan.query)?,
        })
    }

    /// Smaller sorts first and wins.
    fn precedence(&self) -> impl Ord + use<> {
        let fields = (Reverse(self.headers.len()), Reverse(self.query.len()));
        (self.path.precedence(), self.method.is_none(), fields)
    }

    /// The first condition that does not hold; `None` if the request is selected.
    fn miss(&self, facts: &Facts<'_>) -> Option<Miss<'_>> {
        if !self.path.matches(facts.path) {
            return Some(Miss(Condition::Path(&self.path)));
        }
        if let Some(method) = &self.method
            && method != facts.method
        {
            return Some(Miss(Condition::Method(method)));
        }
        let header = self.headers.iter().find(|h| !h.matches(facts.headers));
        if let Some(header) = header {
            return Some(Miss(Condition::Header(header)));
        }
        let query = self.query.iter().find(|q| !q.matches(facts.query));
        query.map(|query| Miss(Condition::Query(query)))
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
    /// A route does what no filter may do.
    #[error("the plan filters in a way that cannot be: {0}")]
    Filter(#[from] InvalidFilter),
    /// A route matches by a pattern that cannot be used.
    #[error("the plan matches by a pattern that cannot be used: {0}")]
    Pattern(#[from] InvalidPattern),
}

impl ClosedPort {
    fn unusable(what: &'static str, value: &str) -> Self {
        let value = value.to_owned();
        Self::Unusable { what, value }
    }
}

#[cfg(test)]
mod tests;
