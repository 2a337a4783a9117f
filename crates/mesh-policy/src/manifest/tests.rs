mod any;
mod filters;
mod foreign;
mod policies;
mod resilience;
mod routes;
mod services;

use super::*;

const EVERYDAY: &str = include_str!("../../tests/data/everyday.yaml");

fn problems(text: &str) -> Vec<String> {
    match parse_yaml("policy.yaml", text) {
        Ok(_) => Vec::new(),
        Err(Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A document of `kind`, such as `v1 Service`, in the namespace `shop`, with its `spec` on line 4.
fn document(kind: &str, spec: &str) -> String {
    let (version, kind) = kind.split_once(' ').expect("version and kind");
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: x, namespace: shop }}\nspec: {spec}\n"
    )
}

/// Every spec of the table must be refused with exactly its text, from the column on.
fn refused(kind: &str, table: &[(&str, &str)]) {
    for (spec, told) in table {
        let found = problems(&document(kind, spec));
        let expected: Vec<_> = told
            .lines()
            .map(|line| format!("policy.yaml:4:{line}"))
            .collect();
        assert_eq!(found, expected, "{spec}");
    }
}

/// What a spec that must be read says, and its warnings.
fn accepted(kind: &str, spec: &str) -> (Spec, Vec<String>) {
    let mut parsed = parse_yaml("policy.yaml", &document(kind, spec)).expect("a good document");
    let warnings = parsed.warnings.iter().map(ToString::to_string).collect();
    (parsed.manifests.remove(0).spec, warnings)
}

#[test]
fn what_people_write_every_day_is_read_with_warnings_alone() {
    let parsed = parse_yaml("everyday.yaml", EVERYDAY).unwrap();
    let kinds: Vec<_> = parsed
        .manifests
        .iter()
        .map(|m| m.meta.kind.kind())
        .collect();
    assert_eq!(
        kinds,
        [
            "Service",
            "TrafficSplit",
            "HTTPRoute",
            "Server",
            "AuthorizationPolicy",
            "MeshTLSAuthentication"
        ]
    );
    let warnings: Vec<_> = parsed.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    assert_eq!(
        warnings[0],
        "everyday.yaml:33:5: spec.parentRefs[0]: has neither group nor kind, which means a Gateway elsewhere \
         and a Service here, write group: \"\" and kind: Service"
    );
    let Spec::HttpRoute(route) = &parsed.manifests[2].spec else {
        panic!("a route");
    };
    let weights: Vec<_> = route.rules[0].backends.iter().map(|b| b.weight).collect();
    assert_eq!(weights, [95, 5]);
    let Spec::TrafficSplit(split) = &parsed.manifests[1].spec else {
        panic!("a split");
    };
    assert_eq!(split.backends[0].1, 950);
}

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r, namespace: shop }
spec:
  parentRefs: [{ group: '', kind: Service, name: api }]
  rules:
";

#[test]
fn c06_every_problem_says_what_where_and_what_to_write_instead() {
    let table = [
        (
            "  - backendRef: []",
            "policy.yaml:7:5: spec.rules[0].backendRef: is no field that is known here, write backendRefs",
        ),
        (
            "  - backendRefs: [{ name: API, port: 1 }]",
            "policy.yaml:7:27: spec.rules[0].backendRefs[0].name: \"API\" is no name: write 1 to 63 lower-case letters, digits or inner '-', such as web-1, ",
        ),
        (
            "  - backendRefs: [{ name: a, port: 70000 }]",
            "policy.yaml:7:36: spec.rules[0].backendRefs[0].port: 70000 is out of range, write a whole number from 1 to 65535",
        ),
        (
            "  - backendRefs: [{ name: a, port: 1, weight: -1 }]",
            "policy.yaml:7:47: spec.rules[0].backendRefs[0].weight: -1 is out of range, write a whole number from 0 to 1000000",
        ),
        (
            "  - matches: [{ path: { type: Prefix, value: / } }]",
            "policy.yaml:7:31: spec.rules[0].matches[0].path.type: \"Prefix\" is not known, write one of PathPrefix, Exact, RegularExpression",
        ),
        (
            "  - matches: [{ path: { type: RegularExpression, value: '/(a' } }]",
            "policy.yaml:7:25: spec.rules[0].matches[0].path.value: \"/(a\" is no pattern of RE2's syntax: unclosed group, correct it; it is compared with the whole value",
        ),
        (
            "  - retry: { attempt: 1 }",
            "policy.yaml:7:14: spec.rules[0].retry.attempt: is no field that is known here, write attempts",
        ),
        (
            "  - timeouts: { request: 1.5s }",
            "policy.yaml:7:26: spec.rules[0].timeouts.request: \"1.5s\" is no duration: write whole numbers with h, m, s or ms, such as 250ms, 10s or 1m30s, ",
        ),
    ];
    for (rule, expected) in table {
        let found = problems(&format!("{ROUTE}{rule}\n"));
        let expected = expected.trim_end_matches(", ");
        // The column of a value of a known type may be that of the type's holder.
        let without_place = |text: &str| text.splitn(4, ':').nth(3).unwrap_or_default().to_owned();
        assert_eq!(found.len(), 1, "{rule}: {found:#?}");
        assert_eq!(without_place(&found[0]), without_place(expected), "{rule}");
        assert!(
            found[0].starts_with("policy.yaml:7:"),
            "{rule}: {}",
            found[0]
        );
    }
}

#[test]
fn c06_all_problems_of_a_file_are_told_at_once_and_nothing_is_read() {
    let text = format!(
        "{ROUTE}  - bakendRefs: []\n    nam: x\n---\nkind: Servic\napiVersion: v1\nmetadata: {{ name: a }}\n"
    );
    let found = problems(&text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[2].contains("write apiVersion v1, kind Service"),
        "{}",
        found[2]
    );
}

#[test]
fn z12_what_could_be_read_as_everyone_is_refused_and_what_means_everyone_is_told_in_capitals() {
    let policy = "apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: { name: p }\nspec:\n  targetRef: { group: policy.linkerd.io, kind: Server, name: s }\n  requiredAuthenticationRefs: []\n";
    let parsed = parse_yaml("policy.yaml", policy).expect("Linkerd takes it");
    let warning = parsed.warnings[0].to_string();
    assert!(warning.contains("LETS EVERYBODY IN"), "{warning}");
    for spec in [
        "{}",
        "{ identities: [] }",
        "{ identityRefs: [] }",
        "{ identities: ['*'], identityRefs: [] }",
    ] {
        let text = format!(
            "apiVersion: policy.linkerd.io/v1alpha1\nkind: MeshTLSAuthentication\nmetadata: {{ name: a }}\nspec: {spec}\n"
        );
        assert_eq!(problems(&text).len(), 1, "{spec}");
    }
    let networks = "apiVersion: policy.linkerd.io/v1alpha1\nkind: NetworkAuthentication\nmetadata: { name: a }\nspec: { networks: [] }\n";
    assert_eq!(problems(networks).len(), 1);
}

#[test]
fn unknown_annotations_that_would_change_behaviour_are_refused() {
    let server = |annotation: &str| {
        format!(
            "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata:\n  name: s\n  annotations: {{ {annotation} }}\nspec: {{ podSelector: {{}}, port: 80 }}\n"
        )
    };
    assert!(problems(&server("mesh.rs/request-body-idle: 'off'")).is_empty());
    assert!(problems(&server("example.org/anything: x")).is_empty());
    assert!(
        problems(&server("mesh.rs/request-body-idel: 10s"))[0]
            .contains("did you mean mesh.rs/request-body-idle?")
    );
    assert!(
        problems(&server("retry.linkerd.io/htpt: 5xx"))[0]
            .contains("did you mean retry.linkerd.io/http?")
    );
    assert_eq!(
        problems(&server("mesh.rs/request-body-idle: soon")).len(),
        1
    );
}

#[test]
fn known_annotations_without_effect_are_read_with_a_warning() {
    for annotation in [
        "retry.linkerd.io/http: 5xx",
        "balancer.linkerd.io/failure-accrual: consecutive",
        "config.linkerd.io/opaque-ports: '3306'",
        "mesh.rs/retry-budget-ratio: '0.2'",
    ] {
        let text = document(
            "policy.linkerd.io/v1beta3 Server",
            "{ podSelector: { matchLabels: { a: b } }, port: 1 }",
        );
        let text = text.replace(
            "name: x",
            &format!("name: x, annotations: {{ {annotation} }}"),
        );
        let parsed = parse_yaml("s.yaml", &text).expect("read");
        assert_eq!(parsed.warnings.len(), 1, "{annotation}");
        assert!(
            parsed.warnings[0]
                .message
                .contains("has no effect on a Server")
        );
    }
}

#[test]
fn selectors_select_as_kubernetes_does() {
    let text = "apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: { name: s }
spec:
  port: http
  podSelector:
    matchLabels: { app: api }
    matchExpressions:
    - { key: tier, operator: In, values: [a, b] }
    - { key: old, operator: DoesNotExist }
";
    let parsed = parse_yaml("s.yaml", text).unwrap();
    let Spec::Server(server) = &parsed.manifests[0].spec else {
        panic!("a server");
    };
    let fits = |labels: &[(&str, &str)]| {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        server.selector.matches(&labels.collect())
    };
    assert!(fits(&[("app", "api"), ("tier", "a")]));
    assert!(!fits(&[("app", "api")]));
    assert!(!fits(&[("app", "web"), ("tier", "a")]));
    assert!(!fits(&[("app", "api"), ("tier", "a"), ("old", "")]));
}

#[test]
fn a_mistake_in_the_head_does_not_hide_those_of_the_body() {
    let text = document("v1 Service", "{}").replace("name: x", "name: X, generateName: x-");
    let found = problems(&text);
    for (problem, told) in found.iter().zip([
        "metadata.name: \"X\" is no name",
        "metadata.generateName: is not supported",
        "spec.ports: is missing",
    ]) {
        assert!(problem.contains(told), "{problem}");
    }
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn words_and_numbers_of_yaml_1_1_stay_text() {
    let port = |port: &str| document("v1 Service", &format!("{{ ports: [{{ port: {port} }}] }}"));
    for text in ["010", "1_0", "no", "'1'"] {
        let found = problems(&port(text));
        assert_eq!(found.len(), 1, "{text}");
        assert!(found[0].contains("not a number"), "{text}: {found:?}");
    }
    assert_eq!(problems(&port("10")), [""; 0]);
    let norway = "{ ports: [{ port: 1 }], selector: { norway: no } }";
    assert_eq!(problems(&document("v1 Service", norway)), [""; 0]);
}

#[test]
fn what_is_no_object_is_told_once() {
    for text in ["scalar", "- a", "3", "[]"] {
        let found = problems(text);
        assert_eq!(
            found,
            ["policy.yaml:1:1: is no object, write apiVersion, kind, metadata and spec"]
        );
    }
    let broken = problems("a: [1\n");
    assert_eq!(
        broken,
        [
            "policy.yaml:1:4: this is no YAML that can be read: unclosed bracket '[', correct the text at this place"
        ]
    );
}

#[test]
fn lists_are_taken_apart_and_empty_documents_passed_over() {
    let item =
        "{ apiVersion: v1, kind: Service, metadata: { name: a }, spec: { ports: [{ port: 1 }] } }";
    let text = format!("---\n---\napiVersion: v1\nkind: List\nitems:\n- {item}\n- {item}\n---\n");
    assert_eq!(parse_yaml("l.yaml", &text).unwrap().manifests.len(), 2);
    assert!(parse_yaml("empty.yaml", "").unwrap().manifests.is_empty());
}

#[test]
fn the_api_reads_the_same_objects_without_positions() {
    for manifest in parse_yaml("everyday.yaml", EVERYDAY).unwrap().manifests {
        let again = parse_json(&manifest.raw).unwrap();
        assert_eq!(again.spec, manifest.spec);
        assert_eq!(again.meta, manifest.meta);
    }
    let Problems(found) = parse_json(&serde_json::json!({ "kind": "Service" })).unwrap_err();
    assert_eq!(
        found[0].to_string(),
        "apiVersion: is missing, write it, such as v1"
    );
}
