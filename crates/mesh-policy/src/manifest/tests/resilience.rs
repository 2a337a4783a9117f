//! Annotations and fields about retries, timeouts and the budget.

use std::time::Duration;

use super::*;
use crate::plan::outbound::{BudgetPlan, RetryMethods, StatusRange};

fn service(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: x\n  annotations:\n    {annotations}\nspec: {{ ports: [{{ port: 80 }}] }}\n"
    )
}

fn said(annotations: &str) -> Resilience {
    let mut parsed = parse_yaml("policy.yaml", &service(annotations)).expect("good annotations");
    match parsed.manifests.remove(0).spec {
        Spec::Service(service) => service.resilience,
        other => panic!("a Service, not {other:?}"),
    }
}

const fn range(from: u16, to: u16) -> StatusRange {
    StatusRange { from, to }
}

#[test]
fn annotations_of_linkerd_mean_what_they_mean_there() {
    let said = said(
        "{ retry.linkerd.io/http: '5xx, gateway-error,429,500-503', retry.linkerd.io/grpc: 'unavailable,cancelled,unavailable',
           retry.linkerd.io/limit: '3', retry.linkerd.io/timeout: 300ms, timeout.linkerd.io/request: 10s,
           timeout.linkerd.io/response: '0', timeout.linkerd.io/idle: 1d }",
    );
    let retry = AnnotatedRetry {
        codes: vec![
            range(500, 599),
            range(502, 504),
            range(429, 429),
            range(500, 503),
        ],
        grpc: vec![1, 14],
        limit: Some(3),
        timeout: Some(Duration::from_millis(300)),
    };
    assert_eq!(said.retry, Some(retry));
    let timeouts = AnnotatedTimeouts {
        request: Some(Duration::from_secs(10)),
        response: Some(Duration::ZERO),
        idle: Some(Duration::from_secs(86_400)),
    };
    assert_eq!(said.timeouts, Some(timeouts));
    assert_eq!(said.methods, None);
    assert_eq!(said.budget, None);
}

#[test]
fn annotations_of_ours_set_methods_and_the_budget() {
    assert_eq!(said("{}"), Resilience::default());
    let methods = |text: &str| said(&format!("mesh.rs/retry-methods: {text}")).methods;
    assert_eq!(methods("all"), Some(RetryMethods::All));
    assert_eq!(methods("idempotent"), Some(RetryMethods::Idempotent));
    let ratio = |text: &str| {
        let said = said(&format!("mesh.rs/retry-budget-ratio: '{text}'"));
        said.budget.expect("it is said").ratio_per_mille
    };
    for (text, per_mille) in [
        ("0", 0),
        ("0.05", 50),
        ("0.2", 200),
        ("1", 1_000),
        ("1.125", 1_125),
    ] {
        assert_eq!(ratio(text), per_mille, "{text}");
    }
    let all = "{ mesh.rs/retry-budget-min-per-second: '0', mesh.rs/retry-budget-window: 1m }";
    let budget = BudgetPlan {
        ratio_per_mille: 200,
        min_per_second: 0,
        window_ms: 60_000,
    };
    assert_eq!(said(all).budget, Some(budget));
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a table, one mistake after the other"
)]
fn an_unknown_value_of_an_annotation_is_refused_with_the_nearest_that_is_known() {
    let table = [
        (
            "retry.linkerd.io/http: 5x",
            "6:28: metadata.annotations[\"retry.linkerd.io/http\"]: \"5x\" names no statuses, write 5xx",
        ),
        (
            "retry.linkerd.io/http: gateway_errors",
            "names no statuses, write gateway-error",
        ),
        (
            "retry.linkerd.io/http: '99'",
            "\"99\" names no statuses, write 5xx, gateway-error, a status such as 503",
        ),
        (
            "retry.linkerd.io/http: '504-500'",
            "\"504-500\" names no statuses",
        ),
        ("retry.linkerd.io/http: '500,'", "\"\" names no statuses"),
        (
            "retry.linkerd.io/http: 503",
            "is a number, not text, put it in quotes",
        ),
        (
            "retry.linkerd.io/grpc: unavailabel",
            "\"unavailabel\" is not known, write unavailable",
        ),
        (
            "retry.linkerd.io/grpc: not-found",
            "write one of cancelled, deadline-exceeded",
        ),
        (
            "retry.linkerd.io/limit: '70000'",
            "write a whole number from 0 to 65535, in quotes",
        ),
        (
            "retry.linkerd.io/limit: '+1'",
            "\"+1\" is out of range or no number",
        ),
        (
            "retry.linkerd.io/timeout: 1.5s",
            "\"1.5s\" is no duration: write a whole number with ms, s, m, h or d",
        ),
        ("timeout.linkerd.io/request: '10'", "\"10\" is no duration"),
        (
            "timeout.linkerd.io/reqest: 10s",
            "did you mean timeout.linkerd.io/request?",
        ),
        (
            "mesh.rs/retry-methods: al",
            "\"al\" is not known, write all",
        ),
        (
            "mesh.rs/retry-budget-ratio: '0.1234'",
            "\"0.1234\" is no ratio, write a number from 0 to 10",
        ),
        ("mesh.rs/retry-budget-ratio: '11'", "is no ratio"),
        ("mesh.rs/retry-budget-ratio: '.5'", "is no ratio"),
        (
            "mesh.rs/retry-budget-window: 100ms",
            "is too short or too long, write 1s to 60s",
        ),
        (
            "mesh.rs/retry-budget-windw: 10s",
            "did you mean mesh.rs/retry-budget-window?",
        ),
    ];
    for (annotation, told) in table {
        let found = problems(&service(annotation));
        assert_eq!(found.len(), 1, "{annotation}: {found:#?}");
        assert!(found[0].starts_with("policy.yaml:6:"), "{}", found[0]);
        assert!(found[0].contains(told), "{annotation}: {}", found[0]);
    }
}

#[test]
fn a_budget_is_of_a_service_and_not_of_a_route() {
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r, annotations: { ANNOTATION } }\nspec: { parentRefs: [{ group: '', kind: Service, name: a }], rules: [{}] }\n";
    let with = |annotation: &str| {
        let parsed = parse_yaml("r.yaml", &route.replace("ANNOTATION", annotation));
        parsed.expect("a good route").warnings.len()
    };
    assert_eq!(with("retry.linkerd.io/limit: '0'"), 0);
    assert_eq!(with("mesh.rs/retry-budget-ratio: '0.1'"), 1);
}

#[test]
fn a_rule_says_codes_attempts_backoff_and_both_timeouts() {
    let spec = "{ parentRefs: [{ group: '', kind: Service, name: api }], rules: [{ retry: { codes: [502, 503],
        attempts: 2, backoff: 50ms }, timeouts: { request: 0s, backendRequest: 2s } }, { retry: {} }] }";
    let (Spec::HttpRoute(route), warnings) =
        accepted("gateway.networking.k8s.io/v1 HTTPRoute", spec)
    else {
        panic!("a route");
    };
    assert_eq!(warnings, [""; 0]);
    let retry = RuleRetry {
        codes: vec![range(502, 502), range(503, 503)],
        attempts: Some(2),
        backoff: Some(Duration::from_millis(50)),
    };
    assert_eq!(route.rules[0].retry, Some(retry));
    let timeouts = RuleTimeouts {
        request: Some(Duration::ZERO),
        backend_request: Some(Duration::from_secs(2)),
    };
    assert_eq!(route.rules[0].timeouts, timeouts);
    assert_eq!(route.rules[1].retry, Some(RuleRetry::default()));
}
