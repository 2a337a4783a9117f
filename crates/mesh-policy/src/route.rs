//! Which rule governs a request.
//!
//! The rules of all routes of a port compete as one list. It is sorted once by
//! Gateway API's precedence (exact path, then the longest prefix, then a method,
//! then the most headers, then the older route, then the earlier rule), so that
//! the first entry that matches is the answer.

use std::cmp::Reverse;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::name::ObjectRef;
use crate::plan::outbound::{HeaderPlan, MatchPlan, PathPlan, PortPlan, RulePlan};
use crate::plan::part::NotUnderstood;
use crate::split::Split;

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
}

/// Time limits of a rule; `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the call to the end of the response headers, retries included.
    pub request: Option<Duration>,
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
    pub fn compile(plan: &PortPlan) -> Result<Self, ClosedPort> {
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
            timeouts: Timeouts {
                request: plan.timeouts.request_ms.map(Duration::from_millis),
            },
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
            path: match &plan.path {
                None => PathMatch::Prefix("".into()),
                Some(PathPlan::Exact(path)) => PathMatch::Exact(path.as_str().into()),
                Some(PathPlan::Prefix(path)) => {
                    PathMatch::Prefix(path.trim_end_matches('/').into())
                }
            },
            method: method.transpose()?,
            headers: plan
                .headers
                .iter()
                .map(HeaderMatch::compile)
                .collect::<Result<_, _>>()?,
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
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

impl HeaderMatch {
    fn compile(plan: &HeaderPlan) -> Result<Self, ClosedPort> {
        let name = HeaderName::from_bytes(plan.name.as_bytes())
            .map_err(|_| ClosedPort::unusable("header name", &plan.name))?;
        let exact = HeaderValue::from_str(&plan.exact)
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::outbound::RoutePlan;
    use crate::plan::part::Part;

    fn route(name: &str, rules: Vec<Vec<MatchPlan>>) -> Part<RoutePlan> {
        let rules = rules.into_iter().map(|matches| RulePlan {
            matches,
            ..RulePlan::default()
        });
        let source = ObjectRef::builtin(name);
        let rules = rules.collect();
        Part::new("route/1", RoutePlan { source, rules })
    }

    fn table(routes: Vec<Part<RoutePlan>>) -> Table {
        Table::compile(&PortPlan { port: 80, routes }).unwrap()
    }

    fn on(path: Option<PathPlan>, method: Option<&str>, headers: &[(&str, &str)]) -> MatchPlan {
        MatchPlan {
            path,
            method: method.map(ToOwned::to_owned),
            headers: headers
                .iter()
                .map(|(name, exact)| HeaderPlan {
                    name: (*name).to_owned(),
                    exact: (*exact).to_owned(),
                })
                .collect(),
        }
    }

    fn exact(path: &str) -> Option<PathPlan> {
        Some(PathPlan::Exact(path.to_owned()))
    }

    fn prefix(path: &str) -> Option<PathPlan> {
        Some(PathPlan::Prefix(path.to_owned()))
    }

    /// Asks with `METHOD path`, and headers written `name: value`.
    fn ask(table: &Table, request: &str, headers: &[&str]) -> Option<(String, usize)> {
        let (method, path) = request.split_once(' ').unwrap();
        let mut map = HeaderMap::new();
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        let method: Method = method.parse().unwrap();
        let found = table.find(&Facts {
            method: &method,
            path,
            headers: &map,
        })?;
        let rule = &table.rules()[found.rule];
        Some((rule.source.name.clone(), rule.index))
    }

    fn rule(index: usize) -> Option<(String, usize)> {
        Some(("r".to_owned(), index))
    }

    #[test]
    fn precedence_is_that_of_gateway_api() {
        // Written from the least specific to the most, so that order alone would get every row wrong.
        let table = table(vec![route(
            "r",
            vec![
                vec![on(prefix("/"), None, &[])],
                vec![on(prefix("/"), None, &[("a", "1")])],
                vec![on(prefix("/"), None, &[("a", "1"), ("b", "2")])],
                vec![on(prefix("/"), Some("GET"), &[])],
                vec![on(prefix("/foo"), None, &[])],
                vec![on(prefix("/foo/bar"), None, &[])],
                vec![on(exact("/foo"), None, &[])],
            ],
        )]);
        let all = ["a: 1", "b: 2"];
        assert_eq!(ask(&table, "GET /foo", &all), rule(6));
        assert_eq!(ask(&table, "GET /foo/bar", &all), rule(5));
        assert_eq!(ask(&table, "GET /foo/baz", &all), rule(4));
        assert_eq!(ask(&table, "GET /other", &all), rule(3));
        assert_eq!(ask(&table, "PUT /other", &all), rule(2));
        assert_eq!(ask(&table, "PUT /other", &["a: 1"]), rule(1));
        assert_eq!(ask(&table, "PUT /other", &[]), rule(0));
    }

    #[test]
    fn ties_go_to_the_older_route_and_then_to_the_earlier_rule() {
        let same = || vec![on(prefix("/"), None, &[])];
        let table = table(vec![
            route("older", vec![same(), same()]),
            route("newer", vec![same(), vec![on(exact("/x"), None, &[])]]),
        ]);
        assert_eq!(ask(&table, "GET /", &[]), Some(("older".to_owned(), 0)));
        assert_eq!(ask(&table, "GET /x", &[]), Some(("newer".to_owned(), 1)));
    }

    #[test]
    fn prefixes_match_whole_segments() {
        for written in ["/foo", "/foo/"] {
            let table = table(vec![route("r", vec![vec![on(prefix(written), None, &[])]])]);
            for path in ["/foo", "/foo/", "/foo/bar"] {
                assert!(ask(&table, &format!("GET {path}"), &[]).is_some(), "{path}");
            }
            for path in ["/", "/foobar", "/fo", "/bar/foo", "/FOO"] {
                assert!(ask(&table, &format!("GET {path}"), &[]).is_none(), "{path}");
            }
        }
    }

    #[test]
    fn headers_are_compared_whole_and_repeated_ones_as_a_list() {
        let table = table(vec![route(
            "r",
            vec![vec![on(None, None, &[("x-v", "a,b")])]],
        )]);
        let fits = |headers: &[&str]| ask(&table, "GET /", headers).is_some();
        assert!(fits(&["X-V: a,b"]));
        assert!(fits(&["x-v: a", "x-v: b"]));
        for headers in [
            &["x-v: a"][..],
            &[],
            &["x-v: a,b,c"],
            &["x-v: b", "x-v: a"],
            &["x-v: a,b", "x-v: c"],
        ] {
            assert!(!fits(headers), "{headers:?}");
        }
    }

    #[test]
    fn a_rule_without_matches_takes_everything_and_says_so() {
        let table = table(vec![route("r", vec![vec![]])]);
        let found = table.find(&Facts {
            method: &Method::DELETE,
            path: "/any",
            headers: &HeaderMap::new(),
        });
        assert_eq!(
            found,
            Some(Found {
                rule: 0,
                matched: None
            })
        );
    }

    #[test]
    fn z16_a_route_that_is_not_understood_closes_the_port() {
        let newer = Part::NotUnderstood {
            requires: std::collections::BTreeSet::new(),
            why: "newer".to_owned(),
        };
        let routes = vec![route("r", vec![vec![]]), newer];
        assert!(Table::compile(&PortPlan { port: 80, routes }).is_err());
        let routes = vec![route("r", vec![vec![on(None, Some("G T"), &[])]])];
        assert!(Table::compile(&PortPlan { port: 80, routes }).is_err());
    }

    proptest! {
        /// The table's answer is that of asking every rule and taking the best.
        #[test]
        fn the_first_in_order_is_the_best_of_all(
            rules in proptest::collection::vec(("(/[ab]){0,2}", any::<bool>(), any::<bool>()), 1..6),
            path in "(/[ab]){1,3}",
        ) {
            let matches = rules.iter().map(|(path, is_exact, get)| {
                let path = if *is_exact { exact(path) } else { prefix(path) };
                vec![on(path, get.then_some("GET"), &[])]
            });
            let table = table(vec![route("r", matches.collect())]);
            let best = rules.iter().enumerate().filter(|(_, (rule, is_exact, _))| {
                if *is_exact { *rule == path } else {
                    path == *rule || path.starts_with(&format!("{rule}/"))
                }
            }).min_by_key(|(index, (rule, is_exact, get))| {
                (!*is_exact, Reverse(rule.len()), !*get, *index)
            }).map(|(index, _)| ("r".to_owned(), index));
            prop_assert_eq!(ask(&table, &format!("GET {path}"), &[]), best);
        }
    }
}
