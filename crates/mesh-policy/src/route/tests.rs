mod kinds;

use http::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::plan::outbound::{FieldPlan, PathPlan, RoutePlan, ValuePlan};
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

/// A value that begins and ends with `/` is a pattern.
fn field(name: &str, value: &str) -> FieldPlan {
    let pattern = value.strip_prefix('/').and_then(|v| v.strip_suffix('/'));
    FieldPlan {
        name: name.to_owned(),
        value: match pattern {
            Some(pattern) => ValuePlan::Regex(pattern.to_owned()),
            None => ValuePlan::Exact(value.to_owned()),
        },
    }
}

fn on(path: Option<PathPlan>, method: Option<&str>, headers: &[(&str, &str)]) -> MatchPlan {
    MatchPlan {
        path,
        method: method.map(ToOwned::to_owned),
        headers: headers
            .iter()
            .map(|(name, exact)| field(name, exact))
            .collect(),
        query: Vec::new(),
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
        path: path.split('?').next().unwrap(),
        query: path.split_once('?').map_or("", |(_, query)| query),
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
fn the_root_prefix_takes_every_path_and_what_is_none() {
    for written in [None, prefix("/")] {
        let table = table(vec![route("r", vec![vec![on(written, None, &[])]])]);
        for request in ["GET /", "GET /a", "OPTIONS *", "CONNECT "] {
            assert!(ask(&table, request, &[]).is_some(), "{request}");
        }
    }
}

#[test]
fn methods_are_exact() {
    let table = table(vec![route("r", vec![vec![on(None, Some("GET"), &[])]])]);
    assert!(ask(&table, "GET /", &[]).is_some());
    for request in ["get /", "HEAD /", "GETS /"] {
        assert!(ask(&table, request, &[]).is_none(), "{request}");
    }
}

#[test]
fn of_two_matches_on_one_header_the_first_counts() {
    let twice = on(None, None, &[("x-v", "1"), ("X-V", "2")]);
    let table = table(vec![route("r", vec![vec![twice]])]);
    assert!(ask(&table, "GET /", &["x-v: 1"]).is_some());
    assert!(ask(&table, "GET /", &["x-v: 2"]).is_none());
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
        query: "",
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
}

#[test]
fn a_plan_that_could_never_be_asked_closes_the_port() {
    let closed = |routes| Table::compile(&PortPlan { port: 80, routes }).is_err();
    assert!(closed(Vec::new()));
    for unusable in [
        on(None, Some("G T"), &[]),
        on(prefix("foo"), None, &[]),
        on(prefix(""), None, &[]),
        on(exact("foo"), None, &[]),
        on(None, None, &[("x v", "1")]),
        on(None, None, &[("x-v", "1\n2")]),
    ] {
        assert!(
            closed(vec![route("r", vec![vec![unusable.clone()]])]),
            "{unusable:?}"
        );
    }
    assert!(!closed(vec![route(
        "r",
        vec![vec![on(None, None, &[("x-v", "ä")])]]
    )]));
}

proptest! {
    /// The table's answer is that of asking every rule and taking the best.
    #[test]
    fn the_first_in_order_is_the_best_of_all(
        rules in proptest::collection::vec(("(/[ab]){1,2}", any::<bool>(), any::<bool>()), 1..6),
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
