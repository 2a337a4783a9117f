//! Patterns, query parameters, and what is said of the matches that lose.

use super::*;

fn pattern(path: &str) -> Option<PathPlan> {
    Some(PathPlan::Regex(path.to_owned()))
}

fn with_query(path: Option<PathPlan>, query: &[(&str, &str)]) -> MatchPlan {
    let query = query.iter().map(|(name, value)| field(name, value));
    MatchPlan {
        query: query.collect(),
        ..on(path, None, &[])
    }
}

#[test]
fn a_pattern_is_compared_with_the_whole_path_and_stands_below_exact_and_above_prefix() {
    let table = table(vec![
        route(
            "prefix",
            vec![vec![on(prefix("/v1/long/prefix"), Some("GET"), &[])]],
        ),
        route("pattern", vec![vec![on(pattern("/v[12]/.*"), None, &[])]]),
        route("exact", vec![vec![on(exact("/v1/x"), None, &[])]]),
    ]);
    let name = |path: &str| ask(&table, &format!("GET {path}"), &[]).map(|(name, _)| name);
    assert_eq!(name("/v1/x").as_deref(), Some("exact"));
    assert_eq!(name("/v1/long/prefix/y").as_deref(), Some("pattern"));
    assert_eq!(name("/v3/y"), None);
    assert_eq!(name("/x/v1/y"), None);
}

#[test]
fn a_pattern_of_a_header_is_compared_with_the_whole_list() {
    let table = table(vec![route(
        "r",
        vec![vec![on(None, None, &[("x-v", "/a|b(,c)?/")])]],
    )]);
    let fits = |headers: &[&str]| ask(&table, "GET /", headers).is_some();
    assert!(fits(&["x-v: a"]) && fits(&["x-v: b,c"]) && fits(&["x-v: b", "x-v: c"]));
    assert!(!fits(&["x-v: ab"]) && !fits(&["x-v: a", "x-v: c"]) && !fits(&[]));
    let bytes = Table::compile(&PortPlan {
        port: 80,
        routes: vec![route("r", vec![vec![on(None, None, &[("x-v", "/(/")])]])],
    });
    assert!(matches!(bytes, Err(ClosedPort::Pattern(_))), "{bytes:?}");
}

#[test]
fn query_parameters_are_compared_decoded_and_the_first_of_a_name_counts() {
    let table = table(vec![route(
        "r",
        vec![vec![with_query(None, &[("v", "a b&"), ("n", "/[0-9]+/")])]],
    )]);
    let fits = |query: &str| ask(&table, &format!("GET /?{query}"), &[]).is_some();
    assert!(fits("v=a+b%26&n=1"));
    assert!(fits("x&n=12&y==&v=a%20b%26&v=other"));
    for query in [
        "",
        "v=a+b%26",
        "n=1",
        "V=a+b%26&n=1",
        "v=a+b%26&n=1a",
        "v=other&v=a+b%26&n=1",
        "v=a+b&n=1",
        "v=a+b%26;n=1",
    ] {
        assert!(!fits(query), "{query}");
    }
}

#[test]
fn of_equal_matches_the_one_with_most_parameters_wins() {
    let table = table(vec![
        route("none", vec![vec![on(None, None, &[])]]),
        route("one", vec![vec![with_query(None, &[("a", "1")])]]),
        route(
            "two",
            vec![vec![with_query(None, &[("a", "1"), ("b", "2")])]],
        ),
        route("header", vec![vec![on(None, None, &[("x", "1")])]]),
    ]);
    let name = |query: &str, headers: &[&str]| {
        ask(&table, &format!("GET /?{query}"), headers)
            .expect("one fits")
            .0
    };
    assert_eq!(name("a=1&b=2", &[]), "two");
    assert_eq!(name("b=3&a=1", &[]), "one");
    assert_eq!(name("a=1&b=2", &["x: 1"]), "header", "headers count first");
    assert_eq!(name("b=2", &[]), "none");
}

#[test]
fn every_match_that_does_not_govern_says_why() {
    let table = table(vec![route(
        "api",
        vec![
            vec![on(prefix("/a/"), None, &[]), on(exact("/b"), None, &[])],
            vec![on(pattern("/c.*"), None, &[]), on(None, Some("PUT"), &[])],
            vec![
                on(None, None, &[("x-v", "1")]),
                with_query(None, &[("q", "/z+/")]),
            ],
            vec![],
        ],
    )]);
    let headers = HeaderMap::new();
    let facts = Facts {
        method: &Method::GET,
        path: "/a/x",
        query: "q=y",
        headers: &headers,
    };
    let told: Vec<_> = table
        .considered(&facts)
        .iter()
        .map(|one| {
            let Found { rule, matched } = one.found;
            format!("{rule} {matched:?} {}", one.why_not)
        })
        .collect();
    assert_eq!(
        told,
        [
            "0 Some(1) the path is not /b",
            "1 Some(0) the path does not fit the pattern /c.*",
            "1 Some(1) the method is not PUT",
            "2 Some(0) the header x-v is missing",
            "2 Some(1) the query parameter q does not fit the pattern z+",
            "3 None it matches too, and another match comes first",
        ]
    );
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-v"), "2".parse().unwrap())]);
    let told = table.considered(&Facts {
        headers: &headers,
        query: "",
        ..facts
    });
    let told = [3, 4].map(|index| told[index].why_not.to_string());
    let missing = "the query parameter q is missing";
    assert_eq!(told, ["the header x-v is not \"1\"", missing]);
}

proptest! {
    /// What explains and what routes agree: all entries but the chosen one are considered,
    /// and one is outranked only where it comes after the chosen.
    #[test]
    fn what_is_considered_agrees_with_what_is_found(
        paths in prop::collection::vec(("[/abx]{0,3}", 0..3), 1..8), path in "/[/abx]{0,3}",
    ) {
        let rules = paths.iter().map(|(written, kind)| {
            let written = format!("/{written}");
            vec![on(Some(match kind {
                0 => PathPlan::Exact(written),
                1 => PathPlan::Prefix(written),
                _ => PathPlan::Regex(written),
            }), None, &[])]
        });
        let table = table(vec![route("r", rules.collect())]);
        let headers = HeaderMap::new();
        let facts = Facts { method: &Method::GET, path: &path, query: "", headers: &headers };
        let considered = table.considered(&facts);
        let outranked = considered.iter().any(|one| matches!(one.why_not, WhyNot::Outranked));
        match table.find(&facts) {
            Some(found) => {
                prop_assert_eq!(considered.len(), paths.len() - 1);
                prop_assert!(considered.iter().all(|one| one.found != found));
            }
            None => prop_assert!(!outranked && considered.len() == paths.len()),
        }
    }
}
