//! Filters of rules and backends: what is refused, in which words, and what is read.

use super::*;
use crate::filter::{Redirect, Target};
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
        ("{ filters: [{ type: RequestMirror, requestMirror: {} }] }".to_owned(), "filters[0].requestMirror.backendRef: is missing"),
        ("{ filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: a }, percent: 101 } }] }".to_owned(), "percent: 101 is out of range"),
        ("{ filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: a }, percent: 1, fraction: { numerator: 1 } } }] }".to_owned(), "fraction: stands beside percent"),
        ("{ filters: [{ type: URLRewrite, urlRewrite: { hostnam: a } }] }".to_owned(), "urlRewrite.hostnam: is no field that is known here, write hostname"),
        ("{ matches: [{ path: { type: Exact, value: /a } }], filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /b } } }] }".to_owned(), "path: replaces a start that the rule does not name"),
        ("{ filters: [{ type: URLRewrite, urlRewrite: {} }, { type: RequestRedirect, requestRedirect: {} }] }".to_owned(), "filters[0]: stands beside a redirect"),
        ("{ filters: [{ type: ExtensionRef, extensionRef: { kind: A, name: a } }] }".to_owned(), "extensionRef.group: is missing"),
        ("{ filters: [{ type: RequestHeaderModifer }] }".to_owned(), "is not known, write RequestHeaderModifier"),
        ("{ filters: [{ type: RequestRedirect }] }".to_owned(), "filters[0].requestRedirect: is missing"),
        ("{ filters: [{ type: RequestRedirect, requestRedirect: {}, requestHeaderModifier: {} }] }".to_owned(), "requestHeaderModifier: is no field that is known here"),
        ("{ filters: [{ type: RequestRedirect, requestRedirect: {} }, { type: RequestRedirect, requestRedirect: {} }] }".to_owned(), "filters[1]: is of the same type as another"),
        ("{ filters: [{ type: RequestRedirect, requestRedirect: {} }], backendRefs: [{ name: a, port: 80 }] }".to_owned(), "backendRefs: stands beside a redirect"),
        (headers("{ set: [{ name: a, value: '1' }, { name: a, value: '2' }] }"), "set[1]: names the same header again"),
        (headers("{ remove: [a, a] }"), "remove[1]: names the same header again"),
        (headers("{ set: [{ name: a, value: ' ' }] }"), "set[0].value: is a value that no header has"),
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

fn warned(rule: &str) -> (RouteRule, Vec<String>) {
    match accepted(KIND, &with_rule(rule)) {
        (Spec::HttpRoute(mut route), warnings) => (route.rules.remove(0), warnings),
        other => panic!("a route, not {other:?}"),
    }
}

#[test]
fn a_filter_that_this_version_does_not_have_is_read_and_never_skipped() {
    let filters = |filter: &str| format!("{{ filters: [{filter}] }}");
    let table = [
        (
            "URLRewrite",
            "{ type: URLRewrite, urlRewrite: { hostname: a.example, path: { type: ReplacePrefixMatch, replacePrefixMatch: '' } } }",
        ),
        (
            "CORS",
            "{ type: CORS, cors: { allowOrigins: ['*'], allowMethods: [GET], maxAge: 5, allowCredentials: true } }",
        ),
        (
            "ExtensionRef",
            "{ type: ExtensionRef, extensionRef: { group: x.io, kind: A, name: a } }",
        ),
        (
            "ExternalAuth",
            "{ type: ExternalAuth, externalAuth: { protocol: GRPC, backendRef: { name: a, port: 80 } } }",
        ),
    ];
    for (name, filter) in table {
        let (rule, warnings) = warned(&filters(filter));
        assert_eq!(rule.unsupported, Some(name));
        assert!(warnings[0].contains("ARE ANSWERED 500"), "{warnings:#?}");
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
    }
    let (rule, warnings) = warned(&filters(
        "{ type: RequestMirror, requestMirror: { backendRef: { name: a, port: 80 }, fraction: { numerator: 1, denominator: 3 } } }, { type: RequestMirror, requestMirror: { backendRef: { name: b } } }",
    ));
    assert_eq!(rule.unsupported, None);
    assert!(
        warnings[1].contains("no request is sent twice"),
        "{warnings:#?}"
    );
    let redirect = "{ backendRefs: [{ name: a, port: 80, filters: [{ type: RequestRedirect, requestRedirect: {} }] }] }";
    let (rule, _) = warned(redirect);
    assert_eq!(rule.unsupported, None);
    let unusable = Some(Unusable::Filter("RequestRedirect"));
    assert_eq!(rule.backends[0].unusable, unusable);
}

#[test]
fn a_change_of_headers_without_effect_is_read_with_a_warning() {
    let headers = |what: &str| {
        let rule = format!(
            "{{ filters: [{{ type: RequestHeaderModifier, requestHeaderModifier: {what} }}] }}"
        );
        let (mut rule, warnings) = warned(&rule);
        assert_eq!(warnings.len(), 1, "{what}: {warnings:#?}");
        match rule.filters.remove(0) {
            FilterPlan::RequestHeaders(edit) => (edit, warnings[0].clone()),
            other => panic!("a change of headers, not {other:?}"),
        }
    };
    let pair = |value: &str| HeaderValuePlan {
        name: "a".into(),
        value: value.into(),
    };
    let nothing = HeaderEditPlan::default();
    for (what, told) in [
        ("{}", "changes nothing"),
        (
            "{ set: [{ name: X-Mesh-Timeout, value: '1' }], remove: [] }",
            "has no effect: x-mesh-timeout is a header",
        ),
        ("{ remove: [Host] }", "has no effect: host is a header"),
        (
            "{ add: [{ name: l5d-x, value: a }] }",
            "has no effect: l5d-x is a header",
        ),
    ] {
        let full = format!("{{ set: [{{ name: a, value: b }}], {}", &what[1..]);
        let (what, expected) = match what {
            "{}" => (what, nothing.clone()),
            _ if what.contains("set") => (what, nothing.clone()),
            _ => (
                full.as_str(),
                HeaderEditPlan {
                    set: vec![pair("b")],
                    ..nothing.clone()
                },
            ),
        };
        let written = match what.contains("X-Mesh-Timeout") {
            true => "{ set: [{ name: X-Mesh-Timeout, value: '1' }, { name: a, value: b }] }",
            false => what,
        };
        let expected = match written == what {
            true => expected,
            false => HeaderEditPlan {
                set: vec![pair("b")],
                ..nothing.clone()
            },
        };
        let (edit, warning) = headers(written);
        assert_eq!(edit, expected, "{written}");
        assert!(warning.contains(told), "{written}: {warning}");
    }
    let first = "{ set: [{ name: a, value: '1' }, { name: A, value: '2' }] }";
    let (edit, warning) = headers(first);
    assert_eq!(edit.set, [pair("1")]);
    assert!(warning.contains("set[1]: is ignored"), "{warning}");
    let (edit, warning) = headers("{ set: [{ name: a, value: ' 1' }] }");
    assert_eq!(edit.set, [pair("1")]);
    assert!(warning.contains("has spaces around it"), "{warning}");
}

/// Gateway API's table of `replacePrefixMatch`: request, prefix, replacement, and what comes of it.
#[test]
fn a_prefix_is_replaced_as_the_table_of_gateway_api_says() {
    let table = [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
    ];
    for (path, prefix, to, expected) in table {
        let mut rule = rule(&format!(
            "{{ matches: [{{ path: {{ value: {prefix} }} }}], filters: [{{ type: RequestRedirect, requestRedirect:
               {{ path: {{ type: ReplacePrefixMatch, replacePrefixMatch: '{to}' }} }} }}] }}"
        ));
        let FilterPlan::Redirect(plan) = rule.filters.remove(0) else {
            panic!("a redirect");
        };
        let asked = Target {
            scheme: "http",
            authority: "a",
            path,
            query: "",
        };
        let location = Redirect::new(&plan).unwrap().location(&asked).unwrap();
        let expected = format!("http://a{expected}");
        assert_eq!(location, expected, "{path} {prefix} {to:?}");
    }
    let full = "{ filters: [{ type: RequestRedirect, requestRedirect: { path: { type: ReplaceFullPath, replaceFullPath: '' } } }] }";
    assert_eq!(problems(&document(KIND, &with_rule(full))).len(), 1);
}
