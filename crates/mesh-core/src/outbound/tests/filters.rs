//! Filters of rules and backends, through the whole stack.

use mesh_policy::plan::outbound::{
    FilterPlan, HeaderEditPlan, HeaderValuePlan, PathEditPlan, RedirectPlan, RetryPlan, StatusRange,
};

use super::*;

fn set(name: &str, value: &str) -> HeaderEditPlan {
    HeaderEditPlan {
        set: vec![HeaderValuePlan {
            name: name.into(),
            value: value.into(),
        }],
        ..HeaderEditPlan::default()
    }
}

#[tokio::test]
async fn headers_are_changed_by_the_rule_and_by_the_chosen_backend_alone() {
    let mut world = World::new();
    let (one, other) = (
        memory("one", Behaviour::Answers),
        memory("other", Behaviour::Answers),
    );
    world.serve("one.shop:80", std::slice::from_ref(&one));
    world.serve("other.shop:80", std::slice::from_ref(&other));
    let backend = |port: &str, weight, mark: &str| BackendPlan {
        filters: vec![
            FilterPlan::RequestHeaders(set("x-backend", mark)),
            FilterPlan::ResponseHeaders(set("x-answered", mark)),
        ],
        ..to(port, weight)
    };
    let remove = HeaderEditPlan {
        remove: vec!["x-answered-by".into()],
        ..set("x-rule", "answer")
    };
    world.plan(vec![RulePlan {
        filters: vec![
            FilterPlan::RequestHeaders(set("x-rule", "request")),
            FilterPlan::ResponseHeaders(remove),
        ],
        ..rule(vec![
            backend("other.shop:80", 0, "other"),
            backend("one.shop:80", 1, "one"),
        ])
    }]);
    let answer = world.get("http://api.shop/").await.expect("it answers");
    assert_eq!(answer.headers()["x-rule"], "answer");
    assert_eq!(answer.headers()["x-answered"], "one");
    let seen = one.seen.lock().unwrap();
    let (_, headers) = &seen[0];
    assert_eq!(headers["x-rule"], "request");
    assert_eq!(headers["x-backend"], "one");
    assert!(other.seen.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_try_begins_with_what_the_caller_and_the_rule_made_of_the_request() {
    let mut world = World::new();
    let bad = memory("bad", Behaviour::Fails);
    world.serve("api.shop:80", std::slice::from_ref(&bad));
    let add = |name: &str| {
        let HeaderEditPlan { set, .. } = set(name, "1");
        FilterPlan::RequestHeaders(HeaderEditPlan {
            add: set,
            ..HeaderEditPlan::default()
        })
    };
    world.plan(vec![RulePlan {
        filters: vec![add("x-rule")],
        retry: Some(RetryPlan {
            attempts: 2,
            codes: vec![StatusRange { from: 500, to: 500 }],
            ..RetryPlan::default()
        }),
        ..rule(vec![BackendPlan {
            filters: vec![add("x-backend")],
            ..to("api.shop:80", 1)
        }])
    }]);
    let answer = world.get("http://api.shop/").await.expect("it answers");
    assert_eq!(answer.status(), 500);
    let seen = bad.seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    for (_, headers) in seen.iter() {
        for name in ["x-rule", "x-backend"] {
            assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_answered_and_nothing_is_sent_on() {
    let mut world = World::new();
    let server = memory("one", Behaviour::Answers);
    world.serve("api.shop:80", std::slice::from_ref(&server));
    let redirect = RedirectPlan {
        scheme: Some("https".into()),
        host: None,
        port: None,
        path: Some(PathEditPlan::Prefix {
            from: "/v1".into(),
            to: "/v2".into(),
        }),
        status: 308,
    };
    world.plan(vec![RulePlan {
        filters: vec![FilterPlan::Redirect(redirect)],
        ..rule(vec![to("api.shop:80", 1)])
    }]);
    let answer = world
        .get("http://api.shop/v1/a?b=c")
        .await
        .expect("it answers");
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.headers()["location"], "https://api.shop/v2/a?b=c");
    assert!(server.seen.lock().unwrap().is_empty());
}
