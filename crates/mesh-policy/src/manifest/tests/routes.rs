//! `HTTPRoute`: what is refused, in which words, and what is read.

use std::time::Duration;

use super::*;
use crate::plan::outbound::{FieldPlan, MatchPlan, PathPlan, ValuePlan};

const KIND: &str = "gateway.networking.k8s.io/v1 HTTPRoute";

fn with_rules(rules: &str) -> String {
    format!("{{ parentRefs: [{{ group: '', kind: Service, name: api }}], rules: [{rules}] }}")
}

fn route(spec: &str) -> (HttpRoute, Vec<String>) {
    match accepted(KIND, spec) {
        (Spec::HttpRoute(route), warnings) => (route, warnings),
        other => panic!("a route, not {other:?}"),
    }
}

#[test]
fn a_route_that_governs_nothing_or_something_else_is_refused() {
    let table = [
        (
            "{ parentRefs: [{ group: '', kind: Service, name: api, port: 0 }], rules: [{}] }",
            "67: spec.parentRefs[0].port: 0 is out of range, write a whole number from 1 to 65535",
        ),
        (
            "{ parentRefs: [{ group: '', kind: Service, name: a }, { group: core, kind: Service, name: a }], rules: [{}] }",
            "61: spec.parentRefs[1]: names the same parent again, leave it out",
        ),
        (
            "{ parentRefs: api, rules: [{}] }",
            "21: spec.parentRefs: is text, not a list, begin each item with '- '",
        ),
    ];
    let more = [
        (
            "{ parentRefs: [{ group: policy.linkerd.io, kind: EgressNetwork, name: api }], rules: [{}] }",
            "22: spec.parentRefs[0]: names an EgressNetwork without a port, write the port",
        ),
        (
            "{ parentRefs: [{ group: '', kind: Service, name: api }], rules: [{}], hostnames: ['a b'] }",
            "89: spec.hostnames[0]: \"a b\" is no host name, write lower-case labels with dots between them, such as *.example.com",
        ),
    ];
    refused(KIND, &table);
    refused(KIND, &more);
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a table, one mistake after the other"
)]
fn a_rule_that_cannot_be_meant_or_honoured_is_refused() {
    let table = [
        (
            "{ name: a_b }",
            "80: spec.rules[0].name: \"a_b\" is no name, write lower-case letters, digits and inner '-'",
        ),
        (
            "{ timeouts: { request: 1s, backendRequest: 1001ms } }",
            "115: spec.rules[0].timeouts.backendRequest: allows one try longer than the whole request, which has 1s, write at most as much, or a longer request",
        ),
        (
            "{ retry: { codes: [200] } }",
            "91: spec.rules[0].retry.codes[0]: 200 is out of range, write a whole number from 400 to 599",
        ),
        (
            "{ retry: { codes: [5xx] } }",
            "91: spec.rules[0].retry.codes[0]: is text, not a number, write a whole number from 400 to 599",
        ),
        (
            "{ retry: { attempts: -1, backoff: 1.5s, atempts: 2 } }",
            "93: spec.rules[0].retry.attempts: -1 is out of range, write a whole number from 0 to 2147483647
106: spec.rules[0].retry.backoff: \"1.5s\" is no duration: write whole numbers with h, m, s or ms, such as 250ms, 10s or 1m30s
112: spec.rules[0].retry.atempts: is no field that is known here, write attempts",
        ),
        (
            "{ timeouts: { request: 10 } }",
            "95: spec.rules[0].timeouts.request: is a number, not text, put it in quotes",
        ),
        (
            "{ backendRefs: [{ name: a, port: 1, weight: 1000001 }] }",
            "116: spec.rules[0].backendRefs[0].weight: 1000001 is out of range, write a whole number from 0 to 1000000",
        ),
        (
            "{ backendRefs: [{ name: a, port: 1, weight: 0.5 }] }",
            "116: spec.rules[0].backendRefs[0].weight: 0.5 is not a whole number, write a whole number from 0 to 1000000",
        ),
        (
            "{ backendRefs: [{ name: a, port: '1' }] }",
            "105: spec.rules[0].backendRefs[0].port: is text, not a number, write a whole number from 1 to 65535",
        ),
        (
            "{ backendRefs: [{ port: 1 }] }",
            "88: spec.rules[0].backendRefs[0].name: is missing, name the Service",
        ),
        (
            "{ matches: [{ path: { value: api } }] }",
            "101: spec.rules[0].matches[0].path.value: \"api\" is a path that no request has, write an absolute path of at most 1024 bytes without '//', '.' or '..' segments, query or fragment",
        ),
        (
            "{ matches: [{ path: { value: /a//b } }] }",
            "101: spec.rules[0].matches[0].path.value: \"/a//b\" is a path that no request has, write an absolute path of at most 1024 bytes without '//', '.' or '..' segments, query or fragment",
        ),
        (
            "{ matches: [{ path: { value: /a%zz } }] }",
            "101: spec.rules[0].matches[0].path.value: \"/a%zz\" is a path that no request has, write an absolute path of at most 1024 bytes without '//', '.' or '..' segments, query or fragment",
        ),
        (
            "{ matches: [{ path: { value: /a?b=c } }] }",
            "101: spec.rules[0].matches[0].path.value: \"/a?b=c\" is a path that no request has, write an absolute path of at most 1024 bytes without '//', '.' or '..' segments, query or fragment",
        ),
        (
            "{ matches: [{ queryParams: [{ name: a, value: b }, { name: a, value: c }] }] }",
            "123: spec.rules[0].matches[0].queryParams[1]: names the same parameter again, write it once",
        ),
        (
            "{ matches: [{ queryParams: [{ name: 'a b', value: '' }] }] }",
            "108: spec.rules[0].matches[0].queryParams[0].name: is no name that can be compared, write letters, digits and '-'",
        ),
        (
            "{ matches: [{ path: { type: RegularExpression } }] }",
            "92: spec.rules[0].matches[0].path: has no pattern, write the value",
        ),
        (
            "{ matches: [{ method: get }] }",
            "94: spec.rules[0].matches[0].method: \"get\" is not known, write GET",
        ),
        (
            "{ matches: [{ headers: [{ name: x-a, value: '(?=1)', type: RegularExpression }] }] }",
            "116: spec.rules[0].matches[0].headers[0].value: \"(?=1)\" is no pattern of RE2's syntax: look-around, including look-ahead and look-behind, is not supported, correct it; it is compared with the whole value",
        ),
        (
            "{ matches: [{ headers: [{ name: x a, value: '1' }] }] }",
            "104: spec.rules[0].matches[0].headers[0].name: is no name that can be compared, write letters, digits and '-'",
        ),
        (
            "{ matches: [{ headers: [{ name: x-a, value: '1' }, { name: x-a, value: '2' }] }] }",
            "123: spec.rules[0].matches[0].headers[1]: names the same header again, write it once",
        ),
        (
            "{ matches: [{ headers: [{ name: x-a, value: 1 }] }] }",
            "116: spec.rules[0].matches[0].headers[0].value: is a number, not text, put it in quotes",
        ),
        (
            "{ matches: [{ header: [] }] }",
            "86: spec.rules[0].matches[0].header: is no field that is known here, write headers",
        ),
    ];
    for (rule, told) in table {
        refused(KIND, &[(&with_rules(rule), told)]);
    }
}

#[test]
fn the_defaults_of_a_match_are_those_of_gateway_api() {
    let plan = |one: &str| {
        let (route, warnings) = route(&with_rules(&format!("{{ matches: [{one}] }}")));
        assert_eq!(warnings, [""; 0], "{one}");
        route.rules[0].matches[0].clone()
    };
    let prefix = |path: &str| Some(PathPlan::Prefix(path.to_owned()));
    let exact = |path: &str| Some(PathPlan::Exact(path.to_owned()));
    assert_eq!(plan("{}"), MatchPlan::default());
    assert_eq!(plan("{ path: {} }").path, prefix("/"));
    assert_eq!(plan("{ path: { value: /a } }").path, prefix("/a"));
    // An exact match that says no value must not become everything.
    assert_eq!(plan("{ path: { type: Exact } }").path, exact("/"));
    let written = plan("{ path: { type: Exact, value: /a/ } }");
    assert_eq!(written.path, exact("/a/"));
    assert_eq!(plan("{ method: PATCH }").method.as_deref(), Some("PATCH"));
    let headers = vec![FieldPlan {
        name: "x-tenant".into(),
        value: ValuePlan::Exact("a b".into()),
    }];
    let written = plan("{ headers: [{ name: X-Tenant, value: a b }] }");
    assert_eq!(written.headers, headers);
    let written = plan("{ path: { type: RegularExpression, value: '/v[0-9]+' } }");
    assert_eq!(written.path, Some(PathPlan::Regex("/v[0-9]+".into())));
    let written = plan(
        "{ queryParams: [{ name: Q, value: 'a b' }, { type: RegularExpression, name: r, value: x+ }] }",
    );
    let query = [
        ("Q", ValuePlan::Exact("a b".into())),
        ("r", ValuePlan::Regex("x+".into())),
    ];
    let query = query.map(|(name, value)| FieldPlan {
        name: name.into(),
        value,
    });
    assert_eq!(written.query, query);
}

#[test]
fn times_weights_and_ports_are_read() {
    let (route, warnings) = route(
        "{ parentRefs: [{ group: core, kind: Service, name: api, namespace: other, port: 80 }],
           rules: [{ name: main, filters: [], timeouts: { request: 1m30s }, backendRefs:
             [{ name: a, port: 80, weight: 9 }, { group: '', kind: Service, name: b, port: 81 }] },
             { timeouts: { request: 0s } }] }",
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!(route.parents[0].service.to_string(), "api.other");
    assert_eq!(route.parents[0].port, Some(80));
    let rule = &route.rules[0];
    assert_eq!(rule.name.as_deref(), Some("main"));
    assert_eq!(rule.timeouts.request, Some(Duration::from_secs(90)));
    let backends: Vec<_> = rule
        .backends
        .iter()
        .map(|backend| format!("{} {:?} {}", backend.service, backend.port, backend.weight))
        .collect();
    assert_eq!(backends, ["a.shop Some(80) 9", "b.shop Some(81) 1"]);
    assert_eq!(route.rules[1].timeouts.request, Some(Duration::ZERO));
}

#[test]
fn what_is_doubtful_is_read_with_a_warning() {
    let (_, warnings) = route(
        "{ parentRefs: [{ name: a }, { kind: Service, name: b }], rules: [{ backendRefs:
           [{ name: c, weight: 0 }, { name: d, namespace: far, port: 1, weight: 0 }] }] }",
    );
    let told = [
        "spec.parentRefs[0]: has neither group nor kind",
        "spec.parentRefs[1]: says half of what it is for",
        "spec.rules[0].backendRefs[0]: has no port",
        "spec.rules[0].backendRefs: gives every backend the weight 0",
    ];
    assert_eq!(warnings.len(), told.len(), "{warnings:#?}");
    for (warning, told) in warnings.iter().zip(told) {
        assert!(warning.contains(told), "{warning}");
    }
}

#[test]
fn a_parent_or_a_field_without_effect_is_read_with_a_warning() {
    let service = "parentRefs: [{ group: '', kind: Service, name: api }]";
    let parent =
        |parent: &str| format!("{{ parentRefs: [{{ {parent}, name: x }}], rules: [{{}}] }}");
    let table = [
        ("{ rules: [{}] }".to_owned(), "spec: names no parent"),
        (
            format!("{{ {service}, rules: [] }}"),
            "spec.rules: is empty, so that every request is answered 404",
        ),
        (
            format!("{{ {service}, hostnames: ['*.a.example'] }}"),
            "spec.hostnames: has no effect on a Service",
        ),
        (
            parent("group: gateway.networking.k8s.io, kind: Gateway"),
            "spec.parentRefs[0]: names a Gateway",
        ),
        (
            parent("kind: Gateway"),
            "spec.parentRefs[0]: names a Gateway",
        ),
        (
            parent("group: policy.linkerd.io, kind: Server"),
            "the route is NOT ENFORCED in this version, leave the route out, and put who may call",
        ),
        (
            parent("group: policy.linkerd.io, kind: EgressNetwork, port: 80"),
            "NOT ENFORCED",
        ),
        (
            parent("group: x.io, kind: Foo"),
            "names a kind that no route has an effect on here",
        ),
        (
            with_rules("{ sessionPersistence: {} }"),
            "sessionPersistence: has no effect",
        ),
        (
            with_rules("{ retry: { attempts: 1000 } }"),
            "attempts: is more than 100, which is what counts",
        ),
        (
            with_rules("{ backendRefs: [{ name: a, kind: Foo }] }"),
            "names a Foo, and only Services are called here: its share is answered 500",
        ),
        (
            with_rules("{ backendRefs: [{ name: a, group: x.io, kind: Foo }] }"),
            "names a Foo.x.io",
        ),
        (
            with_rules("{ matches: [{ path: { value: /%61b } }] }"),
            "is compared as \"/ab\", the spelling that requests have by then, write \"/ab\"",
        ),
        (
            with_rules("{ matches: [{ path: { value: /%2e%2e/a } }] }"),
            "requests with such a path are answered 400",
        ),
        (
            with_rules("{ matches: [{ headers: [{ name: x-a, value: ' 1' }] }] }"),
            "nothing is matched",
        ),
    ];
    for (spec, told) in table {
        let (_, warnings) = route(&spec);
        assert_eq!(warnings.len(), 1, "{spec}: {warnings:#?}");
        assert!(warnings[0].contains(told), "{spec}: {warnings:#?}");
    }
}

#[test]
fn of_headers_that_differ_in_case_alone_the_first_counts() {
    let (route, warnings) = route(&with_rules(
        "{ matches: [{ headers: [{ name: X-Tier, value: gold }, { name: x-tier, value: silver }] }] }",
    ));
    let expected = [FieldPlan {
        name: "x-tier".into(),
        value: ValuePlan::Exact("gold".into()),
    }];
    assert_eq!(route.rules[0].matches[0].headers, expected);
    assert!(
        warnings[0].contains("headers[1]: is ignored"),
        "{warnings:#?}"
    );
    assert_eq!(warnings.len(), 1);
}

#[test]
fn other_kinds_of_parents_are_left_out_and_a_section_is_a_ports_name() {
    let (route, _) = route(
        "{ parentRefs: [{ group: gateway.networking.k8s.io, kind: Gateway, name: g, sectionName: https },
           { group: '', kind: Service, name: api, sectionName: http }] }",
    );
    assert_eq!(route.parents.len(), 1);
    assert_eq!(route.parents[0].service.to_string(), "api.shop");
    assert_eq!(route.parents[0].section.as_deref(), Some("http"));
    assert_eq!(route.rules, [RouteRule::default()], "Gateway API's default");
}

#[test]
fn the_lists_of_gateway_api_have_their_limits() {
    let many = |count: usize, one: &str| vec![one; count].join(", ");
    let rule = |matches: usize| format!("{{ matches: [{}] }}", many(matches, "{}"));
    let table = [
        (many(17, "{}"), "has 17 items, write at most 16"),
        (rule(65), "has 65 items, write at most 64"),
        (many(3, &rule(43)), "has 129 matches in all"),
        (
            "{ name: a }, { name: a }".to_owned(),
            "has two rules with the name \"a\"",
        ),
    ];
    for (rules, told) in table {
        let found = problems(&document(KIND, &with_rules(&rules)));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(told), "{}", found[0]);
    }
}
