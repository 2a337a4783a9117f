mod series;

use mesh_policy::name::ObjectRef;
use mesh_policy::plan::endpoint::{Endpoint, HttpVersions};
use mesh_policy::plan::outbound::{BackendPlan, PortPlan, RoutePlan, RulePlan, TargetPlan};
use tokio::sync::Notify;

use super::*;
use crate::telemetry::{Metrics, Recorder, Workload};

const SERVED: &str = "web.shop";

/// A follower, the plans it writes, and the history it is told.
struct World {
    plans: Arc<Plans>,
    served: Arc<Served>,
    follower: Follower,
    revision: u64,
}

impl World {
    fn new() -> Self {
        let changed: Arc<Notify> = Arc::default();
        let plans = Arc::new(Plans::new("shop".parse().unwrap(), Arc::clone(&changed)));
        let served = Arc::new(Served::new(&[SERVED.parse().unwrap()], changed));
        let outfit = Outfit::new(
            Arc::default(),
            Recorder::new(Metrics::Own).unwrap(),
            Arc::new(Workload {
                namespace: "shop".into(),
                deployment: "web".into(),
                pod: "web-1".into(),
            }),
        );
        let follower = Follower::new(Arc::clone(&plans), Arc::clone(&served), outfit);
        Self {
            plans,
            served,
            follower,
            revision: 0,
        }
    }

    fn cursor(&self) -> Cursor {
        Cursor {
            store: "s1".into(),
            revision: self.revision,
        }
    }

    /// Tells a change of the same revision.
    fn and(&mut self, change: Change) {
        let cursor = self.cursor();
        self.follower.apply(Event { cursor, change });
    }

    /// Tells a change of the next revision.
    fn then(&mut self, change: Change) {
        self.revision += 1;
        self.and(change);
    }

    /// The backends that requests to `api` would use now; `None` before there is a plan.
    fn backends(&self) -> Option<Vec<String>> {
        let (entry, _) = self.plans.find("api").unwrap();
        let Answer::Known(service) = Answer::clone(&entry.now()) else {
            return None;
        };
        let routes = service.port(80)?.routes.as_ref().ok()?;
        let places = (0..2).filter_map(|place| routes.backend(0, place));
        Some(places.map(|backend| backend.port().to_string()).collect())
    }
}

fn plan(backends: &[&str]) -> Change {
    let backends = backends.iter().map(|port| BackendPlan {
        weight: 1,
        target: TargetPlan::Service(port.parse().unwrap()),
        filters: Vec::new(),
    });
    let route = RoutePlan {
        source: ObjectRef::builtin("test"),
        rules: vec![RulePlan {
            backends: backends.collect(),
            ..RulePlan::default()
        }],
    };
    Change::Service {
        service: "api.shop".parse().unwrap(),
        plan: Some(ServicePlan {
            ports: vec![PortPlan {
                port: 80,
                routes: vec![Part::new("route/1", route)],
            }],
            ..ServicePlan::default()
        }),
    }
}

fn set(ports: &[u16]) -> EndpointSet {
    let endpoint = |port: &u16| Endpoint {
        address: ([127, 0, 0, 1], *port).into(),
        identity: None,
        http: HttpVersions::Both,
        weight: 100,
        workload: "api".into(),
        instance: "api-1".into(),
        zone: None,
    };
    let endpoints = ports.iter().map(|port| (port.to_string(), endpoint(port)));
    endpoints.collect()
}

fn endpoints(port: &str, delta: EndpointDelta) -> Change {
    let port = port.parse().unwrap();
    Change::Endpoints { port, delta }
}

fn inbound() -> Change {
    let plan = InboundPlan {
        port: "web.shop:80".parse().unwrap(),
        server: ObjectRef::builtin("all-authenticated"),
        http: HttpVersions::Both,
        authorizations: Vec::new(),
        narrowed_by: Vec::new(),
        request_body_idle_ms: None,
    };
    Change::Inbound {
        serves: SERVED.parse().unwrap(),
        plan: Part::new("inbound/1", plan),
    }
}

fn welcome(reset: bool) -> Change {
    Change::Welcome {
        watch: "w1".into(),
        replica: "r1".into(),
        now: 0,
        reset,
    }
}

#[test]
fn a_plan_is_current_only_once_the_endpoints_of_all_its_backends_have_come() {
    let mut world = World::new();
    assert_eq!(world.backends(), None);
    world.then(plan(&["api.shop:80"]));
    assert_eq!(world.backends(), None);
    world.and(endpoints("api.shop:80", set(&[1]).whole()));
    assert_eq!(world.backends().unwrap(), ["api.shop:80"]);

    world.then(plan(&["api.shop:80", "canary.shop:80"]));
    assert_eq!(
        world.backends().unwrap(),
        ["api.shop:80"],
        "half a plan is in force"
    );
    world.and(endpoints("canary.shop:80", set(&[2]).whole()));
    assert_eq!(world.backends().unwrap(), ["api.shop:80", "canary.shop:80"]);
}

#[test]
fn endpoints_may_come_before_the_plan_that_needs_them() {
    let mut world = World::new();
    assert_eq!(world.backends(), None);
    world.then(endpoints("api.shop:80", set(&[1]).whole()));
    world.and(plan(&["api.shop:80"]));
    assert_eq!(world.backends().unwrap(), ["api.shop:80"]);
}

#[test]
fn a_delta_that_does_not_fit_is_asked_for_whole_and_changes_nothing() {
    let mut world = World::new();
    assert_eq!(world.backends(), None);
    world.then(plan(&["api.shop:80"]));
    world.and(endpoints("api.shop:80", set(&[1]).whole()));
    world.then(endpoints("api.shop:80", set(&[7]).delta(&set(&[8]))));
    assert_eq!(world.follower.misfits().len(), 1);
    assert_eq!(
        world.follower.sets.values().next().unwrap().endpoints,
        set(&[1])
    );
    world.and(endpoints("api.shop:80", set(&[8]).whole()));
    assert!(world.follower.misfits().is_empty());
    // What resuming repeats is no misfit.
    world.and(endpoints("api.shop:80", set(&[1]).delta(&set(&[8]))));
    assert!(world.follower.misfits().is_empty());
}

#[test]
fn c01_a_reset_leaves_everything_in_force_until_it_is_told_anew() {
    let mut world = World::new();
    assert_eq!(world.backends(), None);
    world.then(plan(&["api.shop:80"]));
    world.and(endpoints("api.shop:80", set(&[1]).whole()));
    world.then(welcome(true));
    assert_eq!(world.backends().unwrap(), ["api.shop:80"]);
    // The endpoints that were known before the reset do not make a new plan current.
    world.and(plan(&["api.shop:80", "canary.shop:80"]));
    world.and(endpoints("canary.shop:80", set(&[2]).whole()));
    assert_eq!(world.backends().unwrap(), ["api.shop:80"]);
    world.and(endpoints("api.shop:80", set(&[3]).whole()));
    assert_eq!(world.backends().unwrap().len(), 2);
}

#[test]
fn a_service_that_is_gone_is_unknown_and_its_endpoints_are_let_go() {
    let mut world = World::new();
    assert_eq!(world.backends(), None);
    world.then(plan(&["api.shop:80"]));
    world.and(endpoints("api.shop:80", set(&[1]).whole()));
    let service = "api.shop".parse().unwrap();
    world.then(Change::Service {
        service,
        plan: None,
    });
    let (entry, _) = world.plans.find("api").unwrap();
    assert!(matches!(**entry.now(), Answer::Unknown));
    world.then(Change::Heartbeat { now: 0 });
    assert!(world.follower.sets.is_empty());
}

#[test]
fn z16_a_plan_that_is_not_understood_closes_its_port_and_is_reported() {
    let mut world = World::new();
    assert_eq!(world.backends(), None);
    let beyond = Part::NotUnderstood {
        requires: BTreeSet::new(),
        why: "it is beyond us".to_owned(),
    };
    world.then(Change::Service {
        service: "api.shop".parse().unwrap(),
        plan: Some(ServicePlan {
            ports: vec![PortPlan {
                port: 80,
                routes: vec![beyond],
            }],
            ..ServicePlan::default()
        }),
    });
    assert_eq!(world.backends(), None);
    let rejections = world.follower.rejections();
    assert_eq!(rejections[0].subject, "api.shop:80");
    assert!(rejections[0].why.contains("beyond us"));
}

#[test]
fn a_watch_resumes_at_the_last_whole_revision_also_while_a_plan_waits() {
    let mut world = World::new();
    world.and(welcome(true));
    assert_eq!(world.follower.resume(), None, "nothing is whole yet");
    world.then(inbound());
    world.then(Change::Heartbeat { now: 1 });
    assert_eq!(world.backends(), None);
    world.then(plan(&["api.shop:80"]));
    let resumed = world.follower.resume().expect("what came before is whole");
    assert_eq!(resumed.revision, 2);

    // The set breaks off. The next watch tells the plan again, and the set as the difference
    // from what a reader of that revision has: here it does not fit, and is asked for whole.
    world.and(welcome(false));
    world.and(plan(&["api.shop:80"]));
    world.and(endpoints("api.shop:80", set(&[1]).delta(&set(&[2]))));
    assert_eq!(world.follower.misfits().len(), 1);
    assert_eq!(world.backends(), None);
    world.and(endpoints("api.shop:80", set(&[2]).whole()));
    assert_eq!(world.backends().unwrap(), ["api.shop:80"]);
}

#[test]
fn what_is_not_in_force_is_not_reported_as_applied() {
    let mut world = World::new();
    world.and(welcome(true));
    let applied = |world: &World| world.follower.applied().map(|cursor| cursor.revision);
    assert_eq!(applied(&world), Some(0));
    assert_eq!(world.backends(), None);
    world.then(plan(&["api.shop:80"]));
    assert_eq!(applied(&world), Some(0), "the plan waits for endpoints");
    world.then(Change::Heartbeat { now: 1 });
    assert_eq!(applied(&world), Some(0), "it still waits");
    world.and(endpoints("api.shop:80", set(&[1]).whole()));
    assert_eq!(applied(&world), Some(2));

    world.then(endpoints("api.shop:80", set(&[7]).delta(&set(&[8]))));
    world.then(Change::Heartbeat { now: 2 });
    assert_eq!(applied(&world), Some(2), "a set did not fit");
    world.and(endpoints("api.shop:80", set(&[8]).whole()));
    assert_eq!(applied(&world), Some(4));

    // A watch that begins anew tells from the beginning what is in force already.
    world.then(welcome(true));
    world.revision = 0;
    world.and(inbound());
    assert_eq!(applied(&world), Some(4));
}

#[test]
fn after_distrust_everything_stays_in_force_and_is_told_anew() {
    let mut world = World::new();
    assert_eq!(world.backends(), None);
    world.then(plan(&["api.shop:80"]));
    world.and(endpoints("api.shop:80", set(&[1]).whole()));
    world.then(Change::Heartbeat { now: 1 });
    world.follower.distrust();
    assert_eq!(world.follower.resume(), None);
    assert_eq!(world.backends().unwrap(), ["api.shop:80"]);
}

#[test]
fn a_revision_counts_as_told_only_when_something_later_comes() {
    let mut world = World::new();
    world.then(inbound());
    assert_eq!(world.follower.resume(), None);
    world.then(Change::Unknown);
    assert_eq!(world.follower.resume().unwrap().revision, 1);
    // The next watch repeats what may have been cut in two.
    world.then(welcome(false));
    assert_eq!(world.follower.resume().unwrap().revision, 1);
    world.and(Change::Unknown);
    assert_eq!(world.follower.resume().unwrap().revision, 1);
    assert!(world.served.rejections().is_empty());
}

#[test]
fn a_set_that_passes_from_one_service_to_another_is_kept() {
    let mut world = World::new();
    world.plans.find("api").expect("a service");
    world.plans.find("zed").expect("a service");
    let named = |name: &str, backends: &[&str]| {
        let Change::Service { plan, .. } = plan(backends) else {
            unreachable!("a plan")
        };
        let service = name.parse().expect("a service");
        Change::Service { service, plan }
    };
    world.then(named("api.shop", &["a.shop:80", "b.shop:80"]));
    world.and(named("zed.shop", &["c.shop:80"]));
    for port in ["a.shop:80", "b.shop:80", "c.shop:80"] {
        world.and(endpoints(port, set(&[1]).whole()));
    }
    // One step: api gives `a` up and zed takes it. It has not changed, so it is not told again.
    world.then(named("api.shop", &["b.shop:80"]));
    world.and(named("zed.shop", &["a.shop:80"]));
    let zed = &world.follower.services[&"zed.shop".parse().expect("a service")];
    assert!(zed.pending.is_none(), "the new plan is current");
    world.then(Change::Heartbeat { now: 0 });
    let kept: Vec<_> = world
        .follower
        .sets
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        kept,
        ["a.shop:80", "b.shop:80"],
        "and what nobody needs goes"
    );
}
