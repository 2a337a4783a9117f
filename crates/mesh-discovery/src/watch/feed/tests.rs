//! What readers are told, step by step.

use mesh_policy::plan::registration::Registration;
use mesh_policy::plan::watch::Cursor;

use super::*;
use crate::compile::{Registered, Sources};

/// A world in which `ports` of `api.shop` are served, one endpoint each for `served` ids.
fn world(revision: u64, served: &[&str]) -> World {
    let registered = |id: &&str| Registered {
        id: (*id).to_owned(),
        identity: "spiffe://mesh.local/ns/shop/sa/api".parse().unwrap(),
        registration: Registration {
            watch: "w".into(),
            serves: "api.shop".parse().unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            workload: "api".into(),
            instance: (*id).to_owned(),
            labels: BTreeMap::new(),
            zone: None,
            weight: 100,
        },
    };
    World::new(Sources {
        cursor: Cursor {
            store: "s".into(),
            revision,
        },
        domain: "mesh.local".parse().unwrap(),
        objects: Vec::new(),
        registrations: served.iter().map(registered).collect(),
        served: BTreeSet::from(["api.shop:80".parse().unwrap()]),
    })
}

/// A world in which nobody serves anything, and nobody ever did.
fn without_services(revision: u64) -> World {
    let cursor = Cursor {
        store: "s".into(),
        revision,
    };
    World::new(Sources {
        cursor,
        domain: "mesh.local".parse().unwrap(),
        objects: Vec::new(),
        registrations: Vec::new(),
        served: BTreeSet::new(),
    })
}

fn wants(services: &[&str]) -> Wanted {
    Wanted {
        subscriptions: Arc::new(Subscriptions {
            services: services.iter().map(|s| s.parse().unwrap()).collect(),
            ..Subscriptions::default()
        }),
        ..Wanted::default()
    }
}

/// What the reader is told next of `world`.
fn told(feed: &mut Feed, world: &World, wanted: &Wanted, reader: &Workload<'_>) -> Vec<String> {
    feed.advance(world, wanted.clone(), reader);
    let steps: Vec<_> = std::iter::from_fn(|| feed.next_step()).collect();
    assert!(feed.is_told());
    let text = |step: Step| match step.into_change() {
        Change::Service { service, plan } => format!("{service} {}", plan.is_some()),
        Change::Endpoints { port, delta } => {
            let put: Vec<_> = delta.put.0.keys().map(|id| format!("+{id}")).collect();
            let gone: Vec<_> = delta.gone.iter().map(|id| format!("-{id}")).collect();
            let whole = if delta.base.is_none() {
                "whole"
            } else {
                "delta"
            };
            format!("{port} {whole} {}{}", put.concat(), gone.concat())
        }
        Change::Inbound { serves, .. } => format!("inbound {serves}"),
        other => format!("{other:?}"),
    };
    steps.into_iter().map(text).collect()
}

fn reader(labels: &BTreeMap<String, String>) -> Workload<'_> {
    Workload {
        namespace: "shop",
        labels,
    }
}

#[test]
fn a_reader_is_told_everything_once_and_then_what_changes() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let wanted = wants(&["api.shop", "nobody.shop"]);
    let mut feed = Feed::default();
    let first = told(&mut feed, &world(1, &["a"]), &wanted, &reader);
    let all = ["api.shop true", "api.shop:80 whole +a", "nobody.shop false"];
    assert_eq!(first, all);

    let nothing = told(&mut feed, &world(2, &["a"]), &wanted, &reader);
    assert_eq!(nothing, [""; 0]);
    let change = told(&mut feed, &world(3, &["b"]), &wanted, &reader);
    assert_eq!(change, ["api.shop:80 delta +b-a"]);
}

#[test]
fn worlds_that_a_slow_reader_missed_are_never_told() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let wanted = wants(&["api.shop"]);
    let mut feed = Feed::default();
    told(&mut feed, &world(1, &["a"]), &wanted, &reader);
    for revision in 2..1_000 {
        // Worlds come and go while nobody asks.
        drop(world(revision, &["x"]));
    }
    let change = told(&mut feed, &world(1_000, &["a", "b"]), &wanted, &reader);
    assert_eq!(change, ["api.shop:80 delta +b"]);
}

#[test]
fn a_subscription_that_comes_back_is_told_anew() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let world = world(1, &["a"]);
    let mut feed = Feed::default();
    told(&mut feed, &world, &wants(&["api.shop"]), &reader);
    assert_eq!(told(&mut feed, &world, &wants(&[]), &reader), [""; 0]);
    let again = told(&mut feed, &world, &wants(&["api.shop"]), &reader);
    assert_eq!(again, ["api.shop true", "api.shop:80 whole +a"]);
}

#[test]
fn a_reader_that_resumes_is_told_sets_as_the_difference() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let wanted = wants(&["api.shop"]);
    let mut feed = Feed::resume(&world(1, &["a"]), &wanted.subscriptions, &reader);
    let change = told(&mut feed, &world(2, &["a", "b"]), &wanted, &reader);
    assert_eq!(change, ["api.shop true", "api.shop:80 delta +b"]);

    // A set that has not changed is told as an empty difference, which shows who lacks it.
    let mut feed = Feed::resume(&world(1, &["a"]), &wanted.subscriptions, &reader);
    let change = told(&mut feed, &world(2, &["a"]), &wanted, &reader);
    assert_eq!(change, ["api.shop true", "api.shop:80 delta "]);
    let nothing = told(&mut feed, &world(3, &["a"]), &wanted, &reader);
    assert_eq!(nothing, [""; 0]);
}

#[test]
fn a_set_that_is_asked_for_comes_whole() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let wanted = wants(&["api.shop"]);
    let mut feed = Feed::default();
    told(&mut feed, &world(1, &["a"]), &wanted, &reader);
    let these = Resend::These(BTreeSet::from(["api.shop:80".parse().unwrap()]));
    for resend in [these, Resend::All] {
        let again = Wanted {
            resend,
            ..wanted.clone()
        };
        let whole = told(&mut feed, &world(1, &["a"]), &again, &reader);
        assert_eq!(whole, ["api.shop:80 whole +a"]);
    }
}

#[test]
fn a_service_that_was_let_go_between_two_looks_is_told_anew() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let wanted = wants(&["api.shop", "nobody.shop"]);
    let mut feed = Feed::default();
    let first = told(&mut feed, &world(1, &["a"]), &wanted, &reader);
    let left = Left {
        services: wanted.subscriptions.services.clone(),
        ..Left::default()
    };
    let again = Wanted {
        left,
        ..wanted.clone()
    };
    let again = told(&mut feed, &world(1, &["a"]), &again, &reader);
    assert_eq!(again, first);
}

#[test]
fn inbound_policy_is_told_when_it_is_wanted_and_when_it_changes() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let wanted = Wanted {
        subscriptions: Arc::new(Subscriptions {
            inbound: BTreeSet::from(["api.shop".parse().unwrap()]),
            ..Subscriptions::default()
        }),
        ..Wanted::default()
    };
    let mut feed = Feed::default();
    let first = told(&mut feed, &world(1, &[]), &wanted, &reader);
    assert_eq!(first, ["inbound api.shop"]);
    assert_eq!(
        told(&mut feed, &world(2, &["a"]), &wanted, &reader),
        [""; 0]
    );
}

#[test]
fn a_served_name_that_was_let_go_between_two_looks_is_told_anew() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let inbound = BTreeSet::from(["api.shop".parse().unwrap()]);
    let mut wanted = Wanted {
        subscriptions: Arc::new(Subscriptions {
            inbound: inbound.clone(),
            ..Subscriptions::default()
        }),
        ..Wanted::default()
    };
    let mut feed = Feed::default();
    told(&mut feed, &world(1, &[]), &wanted, &reader);
    wanted.left.inbound = inbound;
    let again = told(&mut feed, &world(1, &[]), &wanted, &reader);
    assert_eq!(again, ["inbound api.shop"]);
}

#[test]
fn a_name_that_appears_or_goes_is_told_also_by_worlds_that_were_missed() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let none = |revision| without_services(revision);
    let (first, with) = (none(1), world(2, &["a"]));
    let with = with.after(&first);
    let without = none(3).after(&with);
    let again = world(4, &["b"]).after(&without);
    let wanted = wants(&["api.shop", "nobody.shop"]);
    let unknown = ["api.shop false", "nobody.shop false"];
    let known = ["api.shop true", "api.shop:80 whole +a"];

    let mut feed = Feed::default();
    assert_eq!(told(&mut feed, &first, &wanted, &reader), unknown);
    assert_eq!(told(&mut feed, &with, &wanted, &reader), known);
    assert_eq!(told(&mut feed, &without, &wanted, &reader), unknown[..1]);

    let mut slow = Feed::default();
    assert_eq!(told(&mut slow, &first, &wanted, &reader), unknown);
    let known = ["api.shop true", "api.shop:80 whole +b"];
    assert_eq!(told(&mut slow, &again, &wanted, &reader), known);
}

#[test]
fn names_that_nobody_serves_are_looked_up_again_only_when_names_change() {
    let labels = BTreeMap::new();
    let reader = reader(&labels);
    let made_up = (0..3_999).map(|n| format!("n{n}.shop"));
    let made_up: Vec<_> = made_up.chain(["api.shop".to_owned()]).collect();
    let made_up: Vec<_> = made_up.iter().map(String::as_str).collect();
    let wanted = wants(&made_up);
    let mut feed = Feed::default();
    let first = without_services(1);
    assert_eq!(told(&mut feed, &first, &wanted, &reader).len(), 4_000);
    // Worlds whose names are said to be the same, and one name is not: no look finds it.
    let lookup_free = told(&mut feed, &world(2, &["a"]), &wanted, &reader);
    assert_eq!(lookup_free, [""; 0]);
    assert!(feed.services.is_empty(), "it copies names");
}
