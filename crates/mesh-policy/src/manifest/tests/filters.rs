//! Filters of rules and backends: what is refused, in which words, and what is read.

use super::*;
use crate::plan::outbound::{
    FilterPlan, HeaderEditPlan, HeaderValuePlan, PathEditPlan, RedirectPlan,
};

const KIND: &str = "gateway.networking.k8s.io/v1 HTTPRoute";

fn with_rule(rule: &str) -> String {
    format!("{{ parentRefs: [{{ group: '', kind: Service, name: api }}], rules: [{rule}] }}")
}

fn rule(rule: &str) -> RouteRule {
    match accepted(KIND, &with_rule(rule)) {
        (Spec::HttpRoute(mut route), warnings) => {
            assert_eq!(warnings, [""; 0]);
            route.rules.remove(0)
        }
        other => panic!("a route, not {other:?}"),
    }
}

fn redirect(what: &str) -> Option<RedirectPlan> {
    let written = format!("{{ filters: [{{ type: RequestRedirect, requestRedirect: {what} }}] }}");
    match rule(&written).filters.remove(0) {
        FilterPlan::Redirect(plan) => Some(plan),
        _ => None,
    }
}

#[test]
fn headers_are_changed_on_rules_and_backends() {
    let rule = rule(
        "{ filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: X-Env, value: a b }],
            add: [{ name: x-tag, value: '1' }], remove: [X-Debug] } }], backendRefs: [{ name: a, port: 80, filters:
            [{ type: ResponseHeaderModifier, responseHeaderModifier: { remove: [server] } }] }] }",
    );
    let pair = |name: &str, value: &str| HeaderValuePlan {
        name: name.into(),
        value: value.into(),
    };
    let edit = HeaderEditPlan {
        set: vec![pair("x-env", "a b")],
        add: vec![pair("x-tag", "1")],
        remove: vec!["x-debug".into()],
    };
    assert_eq!(rule.filters, [FilterPlan::RequestHeaders(edit)]);
    let edit = HeaderEditPlan {
        remove: vec!["server".into()],
        ..HeaderEditPlan::default()
    };
    let expected = [FilterPlan::ResponseHeaders(edit)];
    assert_eq!(rule.backends[0].filters, expected);
}

#[test]
fn a_redirect_says_what_changes_and_302_by_default() {
    let plan = RedirectPlan {
        scheme: None,
        host: None,
        port: None,
        path: None,
        status: 302,
    };
    assert_eq!(redirect("{}"), Some(plan));
    let all = "{ scheme: https, hostname: a.example, port: 8443, statusCode: 308, path: { type: ReplaceFullPath, replaceFullPath: /x } }";
    assert_eq!(
        redirect(all),
        Some(RedirectPlan {
            scheme: Some("https".into()),
            host: Some("a.example".into()),
            port: Some(8443),
            path: Some(PathEditPlan::Full("/x".into())),
            status: 308,
        })
    );
    let prefix = "{ path: { type: ReplacePrefixMatch, replacePrefixMatch: /x } }";
    let from = |from: &str| {
        Some(PathEditPlan::Prefix {
            from: from.into(),
            to: "/x".into(),
        })
    };
    assert_eq!(redirect(prefix).and_then(|plan| plan.path), from("/"));
    let matched = format!(
        "{{ matches: [{{ path: {{ value: /v1 }} }}], filters: [{{ type: RequestRedirect, requestRedirect: {prefix} }}] }}"
    );
    let FilterPlan::Redirect(plan) = rule(&matched).filters.remove(0) else {
        panic!("a redirect");
    };
    assert_eq!(plan.path, from("/v1"));
}

#[test]
fn a_filter_that_cannot_be_meant_or_honoured_is_refused() {
    let headers = |what: &str| {
        format!("{{ filters: [{{ type: RequestHeaderModifier, requestHeaderModifier: {what} }}] }}")
    };
    let redirect = |what: &str| {
        format!("{{ filters: [{{ type: RequestRedirect, requestRedirect: {what} }}] }}")
    };
    let table = [
        ("{ filters: [{}] }".to_owned(), "filters[0].type: is missing, write the type"),
        ("{ filters: [{ type: RequestMirror, requestMirror: {} }] }".to_owned(), "filters[0].type: is not supported in this version, leave the filter out"),
        ("{ filters: [{ type: RequestHeaderModifer }] }".to_owned(), "is not known, write RequestHeaderModifier"),
        ("{ filters: [{ type: RequestRedirect }] }".to_owned(), "filters[0].requestRedirect: is missing"),
        ("{ filters: [{ type: RequestRedirect, requestRedirect: {}, requestHeaderModifier: {} }] }".to_owned(), "requestHeaderModifier: is no field that is known here"),
        ("{ filters: [{ type: RequestRedirect, requestRedirect: {} }, { type: RequestRedirect, requestRedirect: {} }] }".to_owned(), "filters[1]: is of the same type as another"),
        ("{ filters: [{ type: RequestRedirect, requestRedirect: {} }], backendRefs: [{ name: a, port: 80 }] }".to_owned(), "backendRefs: stands beside a redirect"),
        ("{ backendRefs: [{ name: a, port: 80, filters: [{ type: RequestRedirect, requestRedirect: {} }] }] }".to_owned(), "requestRedirect: stands on a backend"),
        (headers("{}"), "requestHeaderModifier: changes nothing"),
        (headers("{ set: [{ name: X-Mesh-Timeout, value: '1' }] }"), "set[0].name: x-mesh-timeout is a header that carries the message itself or the mesh's word"),
        (headers("{ remove: [Host] }"), "remove[0]: host is a header that carries the message itself"),
        (headers("{ add: [{ name: l5d-x, value: a }] }"), "add[0].name: l5d-x is a header"),
        (headers("{ set: [{ name: a, value: '1' }, { name: A, value: '2' }] }"), "set[1]: names the same header again"),
        (headers("{ set: [{ name: a, value: ' 1' }] }"), "set[0].value: is a value that no header has"),
        (headers("{ set: [{ name: a, value: '' }] }"), "set[0].value: is a value that no header has"),
        (headers("{ set: [{ name: a }] }"), "set[0].value: is missing"),
        (headers("{ set: }"), "set: is written and empty"),
        (redirect("{ scheme: ftp }"), "scheme: \"ftp\" is not known, write http"),
        (redirect("{ hostname: 'a:80' }"), "hostname: \"a:80\" is no host"),
        (redirect("{ statusCode: 304 }"), "statusCode: 304 is no redirect that carries an address"),
        (redirect("{ statusCode: 200 }"), "statusCode: 200 is out of range"),
        (redirect("{ path: { type: ReplaceFullPath } }"), "path: has no replaceFullPath"),
        (redirect("{ path: { type: ReplaceFullPath, replaceFullPath: //evil } }"), "replaceFullPath: \"//evil\" is no path to send callers to"),
        (redirect("{ path: { type: ReplaceFullPath, replaceFullPath: /a, replacePrefixMatch: /b } }"), "replacePrefixMatch: belongs to the other type"),
        ("{ matches: [{ path: { type: Exact, value: /a } }], filters: [{ type: RequestRedirect, requestRedirect: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /b } } }] }".to_owned(), "path: replaces a start that the rule does not name"),
    ];
    for (rule, told) in table {
        let found = problems(&document(KIND, &with_rule(&rule)));
        assert!(!found.is_empty(), "{rule}");
        assert!(found[0].starts_with("policy.yaml:4:"), "{}", found[0]);
        assert!(
            found.iter().any(|one| one.contains(told)),
            "{rule}: {found:#?}"
        );
        assert!(found.len() <= 2, "{found:#?}");
    }
}
