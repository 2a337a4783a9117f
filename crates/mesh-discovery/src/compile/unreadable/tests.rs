use mesh_policy::manifest::parse_yaml;
use mesh_policy::plan::watch::Cursor;
use serde_json::json;

use super::*;
use crate::compile::{Sources, World};

const SHOP: &str = "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: guarded, namespace: shop}
spec: {podSelector: {matchLabels: {app: api}}, port: 80, accessPolicy: all-authenticated}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: routed, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: routed}]
  rules: [{backendRefs: [{name: routed, port: 80}]}]
";

fn unreadable(group: &str, plural: &str, json: Option<Value>) -> UnreadableObject {
    UnreadableObject {
        group: group.to_owned(),
        plural: plural.to_owned(),
        namespace: "shop".to_owned(),
        name: "x".to_owned(),
        json,
    }
}

fn world(object: UnreadableObject) -> World {
    let manifests = parse_yaml("", SHOP).unwrap().manifests;
    let served = ["api.shop:80", "web.shop:80", "routed.shop:80", "x.shop:80"];
    let served = served.into_iter().chain(["api.bank:80"]);
    World::new(Sources {
        cursor: Cursor {
            store: "s".to_owned(),
            revision: 1,
        },
        domain: "mesh.local".parse().unwrap(),
        objects: manifests.into_iter().map(Arc::new).collect(),
        registrations: Vec::new(),
        served: served.map(|port| port.parse().unwrap()).collect(),
    })
    .with_unreadable([Arc::new(object)])
}

/// The services that callers of `namespace` can no longer call.
fn calls_closed(world: &World, namespace: &str) -> Vec<String> {
    let closed = world.services().filter(|service| {
        let plan = world.service_plan(service, namespace).unwrap();
        let routes = plan.ports.iter().flat_map(|port| &port.routes);
        routes.map(Part::understood).any(|route| route.is_err())
    });
    closed.map(ToString::to_string).collect()
}

/// The workloads `app` of `shop`, serving `app.shop`, that nobody can call any more.
fn inbound_closed(world: &World) -> Vec<&'static str> {
    let closed = |app: &&str| {
        let labels = [("app".to_owned(), (*app).to_owned())].into();
        let workload = Workload {
            namespace: "shop",
            labels: &labels,
        };
        let serves = format!("{app}.shop:80").parse().unwrap();
        world.inbound_plan(&serves, &workload).understood().is_err()
    };
    ["api", "web"].into_iter().filter(closed).collect()
}

#[track_caller]
fn assert_closes(object: UnreadableObject, calls: &[&str], inbound: &[&str]) {
    let said = object.to_string();
    let world = world(object);
    assert_eq!(calls_closed(&world, "shop"), calls, "calls: {said}");
    assert_eq!(inbound_closed(&world), inbound, "inbound: {said}");
}

const ALL: &[&str] = &["api.shop", "routed.shop", "web.shop", "x.shop"];
const BOTH: &[&str] = &["api", "web"];

#[test]
fn z16_an_unreadable_route_closes_the_services_that_it_names_and_no_other() {
    let route = |spec: Value| Some(json!({ "spec": spec }));
    let parent = json!({"group": "", "kind": "Service", "name": "api"});
    for (group, plural) in [
        (GATEWAY, "httproutes"),
        (GATEWAY, "grpcroutes"),
        (POLICY, "httproutes"),
    ] {
        let spec = route(json!({ "parentRefs": [parent], "rules": [{"new": 1}] }));
        assert_closes(unreadable(group, plural, spec), &["api.shop"], &[]);
        // What it is about cannot be told.
        assert_closes(unreadable(group, plural, None), ALL, &[]);
    }
    let gateway = json!({"group": GATEWAY, "kind": "Gateway", "name": "edge"});
    let spec = route(json!({ "parentRefs": [gateway] }));
    assert_closes(unreadable(GATEWAY, "grpcroutes", spec), &[], &[]);
}

#[test]
fn z16_an_unreadable_route_of_a_callers_namespace_closes_calls_from_there_alone() {
    let parent = json!({"kind": "Service", "name": "api", "namespace": "bank"});
    let json = Some(json!({"spec": {"parentRefs": [parent]}}));
    let world = world(unreadable(GATEWAY, "httproutes", json));
    assert_eq!(calls_closed(&world, "shop"), ["api.bank"]);
    assert_eq!(calls_closed(&world, "bank"), [""; 0]);
}

#[test]
fn z16_an_unreadable_split_closes_its_service_unless_a_route_governs_it() {
    let split = |service: &str| {
        let json = json!({"spec": {"service": service}});
        unreadable(SPLIT, "trafficsplits", Some(json))
    };
    assert_closes(split("api"), &["api.shop"], &[]);
    assert_closes(split("routed"), &[], &[]);
    let unrouted = &["api.shop", "web.shop", "x.shop"];
    assert_closes(unreadable(SPLIT, "trafficsplits", None), unrouted, &[]);
}

#[test]
fn z16_an_unreadable_policy_closes_what_it_is_about_or_its_namespace() {
    let policy = |plural: &str, spec: Value| {
        let json = Some(json!({ "spec": spec }));
        unreadable(POLICY, plural, json)
    };
    let selected = json!({"podSelector": {"matchLabels": {"app": "web"}}, "port": 1});
    assert_closes(policy("servers", selected), &[], &["web"]);
    let unknown = json!({"podSelector": {"matchLabels": {"app": "web"}, "new": 1}});
    assert_closes(policy("servers", unknown), &[], BOTH);
    assert_closes(unreadable(POLICY, "servers", None), &[], BOTH);

    let target = |group: &str, kind: &str| json!({"targetRef": {"group": group, "kind": kind, "name": "guarded"}});
    for plural in ["authorizationpolicies", "httplocalratelimitpolicies"] {
        assert_closes(policy(plural, target(POLICY, "Server")), &[], &["api"]);
        assert_closes(policy(plural, target("", "Namespace")), &[], BOTH);
        assert_closes(policy(plural, target(GATEWAY, "HTTPRoute")), &[], BOTH);
        assert_closes(unreadable(POLICY, plural, None), &[], BOTH);
    }
    let named = json!({"server": {"name": "guarded"}, "client": {"new": 1}});
    assert_closes(policy("serverauthorizations", named), &[], &["api"]);
    let selector = json!({"server": {"selector": {}}});
    assert_closes(policy("serverauthorizations", selector), &[], BOTH);
    // A policy that refers to it grants nothing.
    assert_closes(unreadable(POLICY, "meshtlsauthentications", None), &[], &[]);
}

#[test]
fn z16_an_unreadable_service_closes_calls_to_it_and_the_guarded_workloads_that_it_selects() {
    let service = |spec: Value| unreadable("", "services", Some(json!({ "spec": spec })));
    let selects = |app: &str| service(json!({"selector": {"app": app}, "ports": [{"new": 1}]}));
    assert_closes(selects("api"), &["x.shop"], &["api"]);
    assert_closes(selects("web"), &["x.shop"], &[]);
    assert_closes(service(json!({"ports": []})), &["x.shop"], &[]);
    assert_closes(unreadable("", "services", None), &["x.shop"], &["api"]);
}

#[test]
fn a_kind_of_another_group_closes_what_it_names_and_nothing_else() {
    let target = json!({"targetRefs": [{"group": "core", "kind": "Service", "name": "api"}]});
    let json = Some(json!({ "spec": target }));
    assert_closes(
        unreadable("mesh.rs", "servicepolicies", json),
        &["api.shop"],
        &[],
    );
    let json = Some(json!({"spec": {"objective": "99.9%"}}));
    assert_closes(unreadable("mesh.rs", "slos", json), &[], &[]);
}

#[test]
fn who_is_closed_out_is_told_which_object_cannot_be_read() {
    let world = world(unreadable(POLICY, "servers", None));
    let labels = BTreeMap::new();
    let workload = Workload {
        namespace: "shop",
        labels: &labels,
    };
    let plan = world.inbound_plan(&"api.shop:80".parse().unwrap(), &workload);
    let why = plan.understood().unwrap_err().to_string();
    assert!(why.contains("servers.policy.linkerd.io shop/x"), "{why}");
}
