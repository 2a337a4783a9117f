//! What a rule, its route and its Service say of retries and timeouts, as one plan.

use mesh_policy::plan::outbound::{
    BudgetPlan, RetryMethods, RetryPlan, RulePlan, StatusRange, TimeoutsPlan,
};
use mesh_policy::plan::part::Part;

use super::*;

fn service(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: api, namespace: shop, annotations: {{ {annotations} }} }}\nspec: {{ ports: [{{ port: 80 }}] }}\n---\n"
    )
}

fn route(annotations: &str, rule: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: r, namespace: shop, annotations: {{ {annotations} }} }}\nspec:\n  parentRefs: [{{ group: '', kind: Service, name: api }}]\n  rules: [{{ {rule} }}]\n---\n"
    )
}

/// The only rule of `api.shop`, and what a reader must know to act on its route.
fn rule(yaml: &str) -> (RulePlan, Vec<String>) {
    let world = world_of(yaml, &[], Vec::new());
    let plan = world.service_plan(&"api.shop".parse().unwrap(), "shop");
    let part = &plan.unwrap().ports[0].routes[0];
    let Part::Understood { requires, body } = part else {
        panic!("{part:?}");
    };
    (body.rules[0].clone(), requires.iter().cloned().collect())
}

const fn range(from: u16, to: u16) -> StatusRange {
    StatusRange { from, to }
}

#[test]
fn a_route_that_says_nothing_of_it_requires_nothing_of_it() {
    let (plan, requires) = rule(&(service("") + &route("", "timeouts: { request: 1s }")));
    assert_eq!(plan.retry, None);
    assert_eq!(plan.timeouts.request_ms, Some(1_000));
    assert_eq!(requires, ["route/1"]);
}

#[test]
fn a_rule_says_its_retries_and_timeouts() {
    let (plan, requires) = rule(
        &(service("")
            + &route(
                "",
                "retry: { codes: [503], attempts: 3, backoff: 50ms }, timeouts: { request: 0s, backendRequest: 2s }",
            )),
    );
    let retry = RetryPlan {
        attempts: 3,
        codes: vec![range(503, 503)],
        backoff_ms: Some(50),
        ..RetryPlan::default()
    };
    assert_eq!(plan.retry, Some(retry));
    let timeouts = TimeoutsPlan {
        backend_request_ms: Some(2_000),
        ..TimeoutsPlan::default()
    };
    assert_eq!(plan.timeouts, timeouts);
    assert_eq!(requires, ["retry/1", "route/1", "timeouts/1"]);
}

const OF_SERVICE: &str = "retry.linkerd.io/http: 5xx, retry.linkerd.io/grpc: unavailable, retry.linkerd.io/limit: '2', retry.linkerd.io/timeout: 300ms, timeout.linkerd.io/request: 10s, timeout.linkerd.io/idle: 5s";

#[test]
fn annotations_of_a_service_hold_with_and_without_a_route() {
    let expected = RetryPlan {
        attempts: 2,
        codes: vec![range(500, 599)],
        grpc: vec![14],
        ..RetryPlan::default()
    };
    let timeouts = TimeoutsPlan {
        response_headers_ms: Some(300),
        stream_ms: Some(10_000),
        idle_ms: Some(5_000),
        ..TimeoutsPlan::default()
    };
    let split = "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: { name: s, namespace: shop }\nspec: { service: api, backends: [{ service: api, weight: 1 }] }\n---\n";
    for governed in [String::new(), route("", ""), split.to_owned()] {
        let (plan, _) = rule(&(service(OF_SERVICE) + &governed));
        assert_eq!(plan.retry.as_ref(), Some(&expected), "{governed}");
        assert_eq!(plan.timeouts, timeouts, "{governed}");
    }
}

#[test]
fn annotations_of_a_route_replace_those_of_the_service_group_by_group() {
    let (plan, _) = rule(&(service(OF_SERVICE) + &route("retry.linkerd.io/http: '502'", "")));
    let retry = RetryPlan {
        attempts: 1,
        codes: vec![range(502, 502)],
        ..RetryPlan::default()
    };
    assert_eq!(plan.retry, Some(retry));
    // Of the other group nothing was said.
    let timeouts = TimeoutsPlan {
        stream_ms: Some(10_000),
        idle_ms: Some(5_000),
        ..TimeoutsPlan::default()
    };
    assert_eq!(plan.timeouts, timeouts);
    let (plan, _) = rule(&(service(OF_SERVICE) + &route("timeout.linkerd.io/idle: '0'", "")));
    assert_eq!(
        (plan.timeouts.stream_ms, plan.timeouts.idle_ms),
        (None, None)
    );
}

#[test]
fn a_field_of_a_rule_wins_over_the_annotation_of_its_meaning() {
    let written = "retry: { codes: [503], attempts: 4 }, timeouts: { request: 2s }";
    let (plan, _) = rule(&(service(OF_SERVICE) + &route("", written)));
    let retry = RetryPlan {
        attempts: 4,
        codes: vec![range(503, 503)],
        grpc: vec![14],
        ..RetryPlan::default()
    };
    assert_eq!(plan.retry, Some(retry));
    assert_eq!(plan.timeouts.request_ms, Some(2_000));
    assert_eq!(plan.timeouts.stream_ms, None, "the rule's own is meant");
    assert_eq!(plan.timeouts.response_headers_ms, Some(300));
    let off = rule(&(service(OF_SERVICE) + &route("", "timeouts: { request: 0s }"))).0;
    assert_eq!(
        (off.timeouts.request_ms, off.timeouts.stream_ms),
        (None, None)
    );
}

#[test]
fn a_limit_of_zero_is_none_and_no_limit_is_one() {
    let attempts = |annotation: &str| {
        rule(&service(annotation))
            .0
            .retry
            .map(|retry| retry.attempts)
    };
    assert_eq!(attempts("retry.linkerd.io/limit: '0'"), Some(0));
    assert_eq!(attempts("retry.linkerd.io/http: 5xx"), Some(1));
    assert_eq!(
        attempts("mesh.rs/retry-methods: all"),
        None,
        "asks for none by itself"
    );
}

#[test]
fn methods_and_the_budget_come_from_annotations_of_ours() {
    let methods = |service_says: &str, route_says: &str| {
        let yaml = service(service_says) + &route(route_says, "retry: {}");
        rule(&yaml).0.retry.expect("it is asked for").methods
    };
    let all = "mesh.rs/retry-methods: all";
    assert_eq!(methods("", ""), RetryMethods::Idempotent);
    assert_eq!(methods(all, ""), RetryMethods::All);
    assert_eq!(methods("", all), RetryMethods::All);
    assert_eq!(
        methods(all, "mesh.rs/retry-methods: idempotent"),
        RetryMethods::Idempotent
    );

    let budget = |annotation: &str| {
        let world = world_of(&service(annotation), &[], Vec::new());
        let plan = world.service_plan(&"api.shop".parse().unwrap(), "shop");
        plan.unwrap().budget
    };
    assert_eq!(budget(""), None);
    let half = BudgetPlan {
        ratio_per_mille: 500,
        ..BudgetPlan::default()
    };
    assert_eq!(budget("mesh.rs/retry-budget-ratio: '0.5'"), Some(half));
}
