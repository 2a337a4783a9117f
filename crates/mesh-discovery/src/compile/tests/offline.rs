//! An explanation from files lets nobody in whom live traffic refuses.

use http::{HeaderMap, Method};
use mesh_policy::explain::Question;
use proptest::prelude::*;

use super::servers::{Draw, LABELS, SERVED, drawn, lets_in, plan_for};
use super::*;
use crate::compile::offline::Offline;

fn offline(yaml: &str) -> Offline {
    let manifests = parse_yaml("", yaml).unwrap().manifests;
    Offline::new("mesh.local".parse().unwrap(), manifests)
}

fn arrives(offline: &Offline, to: &str, identity: Option<&str>) -> bool {
    let identity = identity.map(|identity| identity.parse().unwrap());
    let question = Question {
        to: to.parse().unwrap(),
        method: Method::GET,
        path: "/",
        query: "",
        headers: HeaderMap::new(),
        client: Some(Client {
            identity: identity.as_ref(),
            address: [10, 0, 0, 1].into(),
        }),
    };
    let told = offline.explain(&question, "shop");
    let verdict = told
        .backends
        .first()
        .and_then(|one| one.authorization.as_ref());
    verdict.is_some_and(|one| one.verdict != mesh_policy::explain::answer::Verdict::Deny)
}

/// The world once the servers of `draw` were applied in the written order, or in the reverse.
fn live(draw: &Draw, reversed: bool) -> World {
    let mut draw = draw.clone();
    if reversed {
        draw.servers.reverse();
    }
    world_of(&draw.yaml(None), &[], Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever the files leave open: the order in which objects are applied, whether a process
    /// names its port, and labels beside those that a Service selects.
    #[test]
    fn z01_an_explanation_from_files_lets_in_nobody_whom_live_traffic_refuses(draw in drawn()) {
        let offline = offline(&draw.yaml(None));
        let worlds = [live(&draw, false), live(&draw, true)];
        let selected = worlds[0].services.object(&"api.shop".parse().unwrap());
        let selected = selected.is_some_and(|service| !service.selector.is_empty());
        for port in [80, 3000, 8080] {
            let to = format!("api.shop:{port}");
            for identity in [WEB, OPS, None] {
                if !arrives(&offline, &to, identity) {
                    continue;
                }
                for (world, serves) in worlds.iter().flat_map(|world| SERVED.map(|serves| (world, serves))) {
                    if world.resolve(&serves.parse().unwrap()).port != port {
                        continue;
                    }
                    let labels = LABELS.into_iter().filter(|labels| !selected || labels.contains(&("app", "api")));
                    for labels in labels {
                        let admitted = lets_in(&plan_for(world, serves, labels), identity);
                        prop_assert!(admitted, "{serves} of {labels:?} refuses {identity:?}\n{}", draw.yaml(None));
                    }
                }
            }
        }
    }
}

#[test]
fn what_files_leave_open_is_said() {
    let two = servers::server_of("a", "app: api", "80", "all-unauthenticated")
        + &servers::server_of("b", "app: api", "http", "deny");
    let yaml = servers::service_of("api", "{ name: http, port: 80 }") + &two;
    let guesses = |yaml: &str, to: &str| {
        let question = Question {
            to: to.parse().unwrap(),
            method: Method::GET,
            path: "/",
            query: "",
            headers: HeaderMap::new(),
            client: Some(Client {
                identity: None,
                address: [10, 0, 0, 1].into(),
            }),
        };
        let told = offline(yaml).explain(&question, "shop");
        assert_eq!(told.certain, told.guesses.is_empty());
        assert!(told.certain || !told.arrives());
        told.guesses.join("; ")
    };
    assert!(guesses(&yaml, "api.shop").contains("is the older one"));
    let aged = yaml.replace(
        "name: b,",
        "name: b, creationTimestamp: '2026-01-01T00:00:01Z',",
    );
    let aged = aged.replace(
        "name: a,",
        "name: a, creationTimestamp: '2026-01-01T00:00:00Z',",
    );
    assert_eq!(guesses(&aged, "api.shop"), "");
    let alone = guesses(&two, "api.shop");
    assert!(
        alone.contains("no file holds a Service api.shop"),
        "{alone}"
    );
    assert!(alone.contains("may have labels"), "{alone}");
}
