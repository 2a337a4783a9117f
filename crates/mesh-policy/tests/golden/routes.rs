//! The routes of a service, and what each feature of them requires.

use mesh_policy::name::ObjectRef;
use mesh_policy::plan::outbound::{
    BackendPlan, BudgetPlan, FieldPlan, FilterPlan, HeaderEditPlan, HeaderValuePlan, MatchPlan,
    PathEditPlan, PathPlan, PortPlan, RedirectPlan, RetryMethods, RetryPlan, RoutePlan, RulePlan,
    ServicePlan, StatusRange, TargetPlan, TimeoutsPlan, ValuePlan,
};
use mesh_policy::plan::part::Part;
use mesh_policy::plan::watch::Change;

use super::{agree, event, object, port};

fn canary_rule() -> RulePlan {
    let exact_get = MatchPlan {
        path: Some(PathPlan::Exact("/orders".into())),
        method: Some("GET".into()),
        headers: vec![FieldPlan {
            name: "x-canary".into(),
            value: ValuePlan::Exact("yes".into()),
        }],
        query: Vec::new(),
    };
    let prefix = MatchPlan {
        path: Some(PathPlan::Prefix("/orders/".into())),
        ..MatchPlan::default()
    };
    RulePlan {
        name: Some("canary".into()),
        matches: vec![exact_get, prefix],
        filters: Vec::new(),
        backends: vec![
            BackendPlan {
                weight: 95,
                target: TargetPlan::Service(port("api-stable.shop:80")),
                filters: Vec::new(),
            },
            BackendPlan {
                weight: 5,
                target: TargetPlan::Invalid {
                    name: "api-canary.shop".into(),
                    reason: "BackendNotFound".into(),
                    message: "apply the Service api-canary.shop".into(),
                },
                filters: Vec::new(),
            },
        ],
        timeouts: TimeoutsPlan {
            request_ms: Some(1_500),
            ..TimeoutsPlan::default()
        },
        retry: None,
    }
}

#[test]
fn the_routes_of_a_service_keep_their_form() {
    let written = RoutePlan {
        source: object("gateway.networking.k8s.io", "HTTPRoute", "api"),
        rules: vec![canary_rule()],
    };
    let default = RoutePlan {
        source: ObjectRef::builtin("default"),
        rules: vec![RulePlan {
            backends: vec![BackendPlan {
                weight: 1,
                target: TargetPlan::Service(port("api.shop:8080")),
                filters: Vec::new(),
            }],
            ..RulePlan::default()
        }],
    };
    let governed_by = |port, route| PortPlan {
        port,
        routes: vec![RoutePlan::into_part(route)],
    };
    agree(
        &event(Change::Service {
            service: "api.shop".parse().unwrap(),
            plan: Some(ServicePlan {
                ports: vec![governed_by(80, written), governed_by(8080, default)],
                budget: None,
            }),
        }),
        include_str!("event-service.json"),
    );
    agree(
        &event(Change::Service {
            service: "nobody.shop".parse().unwrap(),
            plan: None,
        }),
        include_str!("event-service-unknown.json"),
    );
}

fn patient_rule() -> RulePlan {
    RulePlan {
        backends: vec![BackendPlan {
            weight: 1,
            target: TargetPlan::Service(port("api.shop:80")),
            filters: Vec::new(),
        }],
        timeouts: TimeoutsPlan {
            request_ms: Some(1_500),
            backend_request_ms: Some(500),
            response_headers_ms: Some(250),
            response_ms: Some(400),
            stream_ms: Some(30_000),
            idle_ms: Some(5_000),
        },
        retry: Some(RetryPlan {
            attempts: 2,
            codes: vec![
                StatusRange { from: 502, to: 504 },
                StatusRange { from: 429, to: 429 },
            ],
            grpc: vec![8, 14],
            backoff_ms: Some(50),
            methods: RetryMethods::All,
        }),
        ..RulePlan::default()
    }
}

#[test]
fn retries_timeouts_and_the_budget_keep_their_form_and_name_what_they_require() {
    let route = RoutePlan {
        source: object("gateway.networking.k8s.io", "HTTPRoute", "api"),
        rules: vec![patient_rule()],
    };
    agree(
        &event(Change::Service {
            service: "api.shop".parse().unwrap(),
            plan: Some(ServicePlan {
                ports: vec![PortPlan {
                    port: 80,
                    routes: vec![route.into_part()],
                }],
                budget: Some(BudgetPlan {
                    ratio_per_mille: 200,
                    min_per_second: 10,
                    window_ms: 10_000,
                }),
            }),
        }),
        include_str!("event-service-retry.json"),
    );
}

fn field(name: &str, value: ValuePlan) -> FieldPlan {
    FieldPlan {
        name: name.into(),
        value,
    }
}

#[test]
fn patterns_and_query_parameters_keep_their_form_and_name_what_they_require() {
    let pattern = |pattern: &str| ValuePlan::Regex(pattern.into());
    let by_pattern = MatchPlan {
        path: Some(PathPlan::Regex("/v[12]/.*".into())),
        headers: vec![field("x-tenant", pattern("a|b"))],
        query: vec![
            field("Page", ValuePlan::Exact("a b".into())),
            field("n", pattern("[0-9]+")),
        ],
        ..MatchPlan::default()
    };
    let route = RoutePlan {
        source: object("gateway.networking.k8s.io", "HTTPRoute", "api"),
        rules: vec![RulePlan {
            matches: vec![by_pattern],
            ..RulePlan::default()
        }],
    };
    agree(&route.into_part(), include_str!("route-patterns.json"));
}

#[test]
fn a_field_that_is_compared_with_nothing_or_with_two_closes_its_route() {
    for compared in ["", r#","exact":"a","regex":"b""#, r#","suffix":"a""#] {
        let source = r#"{"group":"","kind":"k","namespace":"","name":"n"}"#;
        let rule =
            format!(r#"{{"matches":[{{"headers":[{{"name":"x"{compared}}}]}}],"backends":[]}}"#);
        let json = format!(r#"{{"requires":[],"body":{{"source":{source},"rules":[{rule}]}}}}"#);
        let part: Part<RoutePlan> = serde_json::from_str(&json).unwrap();
        assert!(part.understood().is_err(), "{compared}");
    }
}

#[test]
fn filters_keep_their_form_and_name_what_they_require() {
    let pair = |name: &str, value: &str| HeaderValuePlan {
        name: name.into(),
        value: value.into(),
    };
    let edit = HeaderEditPlan {
        set: vec![pair("x-env", "test")],
        add: vec![pair("x-tag", "a"), pair("x-hop", "1")],
        remove: vec!["x-debug".into()],
    };
    let changed = RulePlan {
        filters: vec![FilterPlan::RequestHeaders(edit.clone())],
        backends: vec![BackendPlan {
            weight: 1,
            target: TargetPlan::Service(port("api.shop:80")),
            filters: vec![FilterPlan::ResponseHeaders(edit)],
        }],
        ..RulePlan::default()
    };
    let sent_away = |path, status| RulePlan {
        filters: vec![FilterPlan::Redirect(RedirectPlan {
            scheme: Some("https".into()),
            host: Some("api.example".into()),
            port: Some(8443),
            path: Some(path),
            status,
        })],
        ..RulePlan::default()
    };
    let start = PathEditPlan::Prefix {
        from: "/v1".into(),
        to: "/v2".into(),
    };
    let route = RoutePlan {
        source: object("gateway.networking.k8s.io", "HTTPRoute", "api"),
        rules: vec![
            changed,
            sent_away(PathEditPlan::Full("/".into()), 302),
            sent_away(start, 308),
        ],
    };
    agree(&route.into_part(), include_str!("route-filters.json"));
}
