mod filters;
mod offline;
mod references;
mod resilience;
mod servers;
mod warnings;

use std::collections::BTreeMap;

use mesh_policy::authorize::{Client, Policy, Verdict};
use mesh_policy::manifest::{parse_json, parse_yaml};
use mesh_policy::name::ServiceAddress;
use mesh_policy::plan::endpoint::HttpVersions;

use super::*;

const EVERYDAY: &str = include_str!("../../../mesh-policy/tests/data/everyday.yaml");

fn world_of(yaml: &str, served: &[&str], registrations: Vec<Registered>) -> World {
    let parsed = parse_yaml("test.yaml", yaml).unwrap();
    // As the store would, each object is given an age: that of its place in the file.
    let aged = parsed.manifests.iter().enumerate().map(|(age, manifest)| {
        let mut json = manifest.raw.clone();
        json["metadata"]["creationTimestamp"] = format!("2026-01-01T00:00:{age:02}Z").into();
        Arc::new(parse_json(&json).unwrap())
    });
    World::new(Sources {
        cursor: Cursor {
            store: "s".to_owned(),
            revision: 1,
        },
        domain: "mesh.local".parse().unwrap(),
        objects: aged.collect(),
        registrations,
        served: served.iter().map(|port| port.parse().unwrap()).collect(),
    })
}

/// The backends of the first rule of the first route of a port, as text.
fn backends(world: &World, service: &str, namespace: &str) -> Vec<String> {
    let plan = world
        .service_plan(&service.parse().unwrap(), namespace)
        .unwrap();
    let rule = &plan.ports[0].routes[0].understood().unwrap().rules[0];
    let text = |backend: &mesh_policy::plan::outbound::BackendPlan| {
        let target = match &backend.target {
            mesh_policy::plan::outbound::TargetPlan::Service(port) => port.to_string(),
            mesh_policy::plan::outbound::TargetPlan::Invalid { name, reason, .. } => {
                format!("{name} {reason}")
            }
        };
        format!("{} {target}", backend.weight)
    };
    rule.backends.iter().map(text).collect()
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ ports: [{{ port: 80 }}] }}\n---\n"
    )
}

fn route(namespace: &str, name: &str, backend: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: {name}, namespace: {namespace} }}\nspec:\n  parentRefs: [{{ group: '', kind: Service, name: api, namespace: shop }}]\n  rules: [{{ backendRefs: [{backend}] }}]\n---\n"
    )
}

#[test]
fn what_people_write_every_day_compiles_and_the_route_wins_over_the_split() {
    let served = ["api-stable.myapp:8080", "api-canary.myapp:8080"];
    let world = world_of(EVERYDAY, &served, Vec::new());
    let split = ["95 api-stable.myapp:8080", "5 api-canary.myapp:8080"];
    assert_eq!(backends(&world, "api.myapp", "myapp"), split);

    let without_route: String = EVERYDAY
        .split("---\n")
        .filter(|document| !document.contains("HTTPRoute"))
        .collect::<Vec<_>>()
        .join("---\n");
    let world = world_of(&without_route, &served, Vec::new());
    let split = ["950 api-stable.myapp:8080", "50 api-canary.myapp:8080"];
    assert_eq!(backends(&world, "api.myapp", "myapp"), split);
}

#[test]
fn a_backend_is_not_found_until_somebody_applies_or_serves_it() {
    let yaml = service("api") + &route("shop", "r", "{ name: other, port: 80 }");
    let world = world_of(&yaml, &[], Vec::new());
    assert_eq!(
        backends(&world, "api.shop", "shop"),
        ["1 other.shop BackendNotFound"]
    );
    let world = world_of(&yaml, &["other.shop:80"], Vec::new());
    assert_eq!(backends(&world, "api.shop", "shop"), ["1 other.shop:80"]);
    let world = world_of(&yaml, &["other.shop:81"], Vec::new());
    assert_eq!(
        backends(&world, "api.shop", "shop"),
        ["1 other.shop BackendNotFound"]
    );
    let world = world_of(&(yaml + &service("other")), &[], Vec::new());
    assert_eq!(backends(&world, "api.shop", "shop"), ["1 other.shop:80"]);
}

#[test]
fn a_rule_without_backends_means_the_service_itself() {
    let yaml = service("api") + &route("shop", "r", "");
    let world = world_of(&yaml, &[], Vec::new());
    assert_eq!(backends(&world, "api.shop", "shop"), ["1 api.shop:80"]);
}

#[test]
fn a_route_in_the_callers_namespace_is_for_callers_there_alone() {
    let yaml = service("api") + &route("web", "mine", "{ name: api, namespace: web, port: 80 }");
    let world = world_of(&yaml, &["api.web:80"], Vec::new());
    assert_eq!(backends(&world, "api.shop", "web"), ["1 api.web:80"]);
    assert_eq!(backends(&world, "api.shop", "shop"), ["1 api.shop:80"]);
    assert_eq!(backends(&world, "api.shop", "other"), ["1 api.shop:80"]);
}

#[test]
fn a_backend_in_another_namespace_needs_no_grant() {
    let yaml = service("api") + &route("shop", "r", "{ name: api, namespace: bank, port: 80 }");
    let world = world_of(&yaml, &["api.bank:80"], Vec::new());
    assert_eq!(backends(&world, "api.shop", "shop"), ["1 api.bank:80"]);
}

#[test]
fn a_name_that_nobody_applied_or_served_has_no_plan() {
    let world = world_of(&service("api"), &["b.shop:1"], Vec::new());
    let known = |name: &str| world.service_plan(&name.parse().unwrap(), "shop").is_some();
    assert!(known("api.shop") && known("b.shop"));
    assert!(!known("api.bank"));
}

fn registered(id: &str, serves: &str, labels: &[(&str, &str)]) -> Registered {
    Registered {
        id: id.to_owned(),
        identity: "spiffe://mesh.local/ns/shop/sa/api".parse().unwrap(),
        registration: Registration {
            watch: "w".to_owned(),
            serves: serves.parse().unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            workload: "api".to_owned(),
            instance: id.to_owned(),
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            zone: None,
            weight: 100,
        },
    }
}

#[test]
fn a_registration_without_a_port_means_the_services_only_one_or_80() {
    let yaml = service("api").replace("port: 80", "port: 8080");
    let world = world_of(
        &yaml,
        &[],
        vec![
            registered("a", "api.shop", &[]),
            registered("b", "b.shop", &[]),
        ],
    );
    assert_eq!(
        world.endpoints(&"api.shop:8080".parse().unwrap()).0.len(),
        1
    );
    assert_eq!(world.endpoints(&"b.shop:80".parse().unwrap()).0.len(), 1);
    assert_eq!(world.endpoints(&"b.shop:81".parse().unwrap()).0.len(), 0);
}

#[test]
fn a_server_says_which_http_its_endpoints_take() {
    let yaml = service("api")
        + "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: { name: s, namespace: shop }\nspec: { podSelector: { matchLabels: { v: '1' } }, port: 80, proxyProtocol: HTTP/1 }\n";
    let world = world_of(
        &yaml,
        &[],
        vec![
            registered("a", "api.shop", &[("v", "1")]),
            registered("b", "api.shop", &[]),
        ],
    );
    let set = world.endpoints(&"api.shop:80".parse().unwrap());
    assert_eq!(set.0["a"].http, HttpVersions::Http1);
    assert_eq!(set.0["b"].http, HttpVersions::Both);
}

/// Whether `identity` may call what a process with label app=api serves as `api.shop`.
fn admits(yaml: &str, identity: Option<&str>) -> bool {
    let world = world_of(yaml, &[], Vec::new());
    let labels = BTreeMap::from([("app".to_owned(), "api".to_owned())]);
    let serves: ServiceAddress = "api.shop".parse().unwrap();
    let workload = Workload {
        namespace: "shop",
        labels: &labels,
    };
    let plan = world.inbound_plan(&serves, &workload);
    let policy = Policy::compile(plan.understood().unwrap()).unwrap();
    let identity = identity.map(|identity| identity.parse().unwrap());
    let client = Client {
        identity: identity.as_ref(),
        address: [10, 0, 0, 1].into(),
    };
    !matches!(policy.decide(&client), Verdict::Deny { .. })
}

/// Whether web may call a process with label app=api that serves `serves`.
fn admits_web_at(yaml: &str, serves: &str) -> bool {
    let world = world_of(yaml, &[], Vec::new());
    let labels = BTreeMap::from([("app".to_owned(), "api".to_owned())]);
    let workload = Workload {
        namespace: "shop",
        labels: &labels,
    };
    let plan = world.inbound_plan(&serves.parse().unwrap(), &workload);
    let policy = Policy::compile(plan.understood().unwrap()).unwrap();
    let identity = WEB.map(|identity| identity.parse().unwrap());
    let client = Client {
        identity: identity.as_ref(),
        address: [10, 0, 0, 1].into(),
    };
    !matches!(policy.decide(&client), Verdict::Deny { .. })
}

#[test]
fn z01_an_edit_to_a_service_opens_nothing_that_a_server_guards() {
    let guarded = SERVER.replace("port: 80", "port: 8080");
    let two = service("api").replace(
        "[{ port: 80 }]",
        "[{ port: 8080, name: a }, { port: 9090, name: b }]",
    );
    let one = service("api").replace("port: 80", "port: 8080");
    for services in [one.as_str(), two.as_str(), ""] {
        let yaml = format!("{services}{guarded}");
        assert!(!admits_web_at(&yaml, "api.shop"), "{services}");
        assert!(!admits_web_at(&yaml, "api.shop:8080"), "{services}");
        assert!(
            admits_web_at(&yaml, "api.shop:9090"),
            "another port is another matter: {services}"
        );
    }
}

#[test]
fn z01_a_server_whose_named_port_is_not_found_guards_all_the_same() {
    let guarded = SERVER.replace("port: 80", "port: http");
    assert!(!admits_web_at(&guarded, "api.shop"));
    assert!(!admits_web_at(&guarded, "api.shop:8080"));
    let named = service("api").replace("{ port: 80 }", "{ port: 80, name: http }");
    assert!(!admits_web_at(&format!("{named}{guarded}"), "api.shop:80"));
    assert!(
        admits_web_at(&format!("{named}{guarded}"), "api.shop:81"),
        "it is known to be another"
    );
}

#[test]
fn a_consumers_route_may_name_the_service_that_was_called() {
    let yaml = service("api") + &route("web", "mine", "{ name: api, namespace: shop, port: 80 }");
    let world = world_of(&yaml, &[], Vec::new());
    assert_eq!(backends(&world, "api.shop", "web"), ["1 api.shop:80"]);
}

const WEB: Option<&str> = Some("spiffe://mesh.local/ns/shop/sa/web");
const OPS: Option<&str> = Some("spiffe://mesh.local/ns/shop/sa/ops");
const SERVER: &str = "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: { name: s, namespace: shop, labels: { tier: a } }\nspec: { podSelector: { matchLabels: { app: api } }, port: 80 }\n---\n";

fn policy(refs: &str) -> String {
    format!(
        "{SERVER}apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{ name: p, namespace: shop }}\nspec:\n  targetRef: {{ group: policy.linkerd.io, kind: Server, name: s }}\n  requiredAuthenticationRefs: [{refs}]\n---\n"
    )
}

const MESH_TLS: &str = "{ group: policy.linkerd.io, kind: MeshTLSAuthentication, name: web }";
const NETWORK: &str = "{ group: policy.linkerd.io, kind: NetworkAuthentication, name: n }";
const WEB_ONLY: &str = "apiVersion: policy.linkerd.io/v1alpha1\nkind: MeshTLSAuthentication\nmetadata: { name: web, namespace: shop }\nspec: { identities: [web.shop.serviceaccount.identity.linkerd.cluster.local] }\n---\n";
const ELSEWHERE: &str = "apiVersion: policy.linkerd.io/v1alpha1\nkind: NetworkAuthentication\nmetadata: { name: n, namespace: shop }\nspec: { networks: [{ cidr: 192.168.0.0/16 }] }\n---\n";

#[test]
fn without_a_server_any_identity_may_call_and_nobody_else() {
    assert!(admits("", WEB));
    assert!(!admits("", None));
    assert!(admits("", Some("spiffe://other/x")));
}

#[test]
fn z01_a_server_alone_lets_nobody_in() {
    assert!(!admits(SERVER, WEB));
    assert!(!admits(SERVER, None));
}

#[test]
fn a_policy_lets_in_whoever_satisfies_all_its_references() {
    assert!(admits(&(policy(MESH_TLS) + WEB_ONLY), WEB));
    assert!(!admits(&(policy(MESH_TLS) + WEB_ONLY), OPS));
    let both = policy(&format!("{MESH_TLS}, {NETWORK}"));
    assert!(
        !admits(&(both + WEB_ONLY + ELSEWHERE), WEB),
        "the network does not fit"
    );
}

#[test]
fn a_reference_that_does_not_exist_makes_its_policy_grant_nothing() {
    assert!(!admits(&policy(MESH_TLS), WEB));
    let both = policy(&format!("{MESH_TLS}, {NETWORK}"));
    assert!(!admits(&(both + WEB_ONLY), WEB), "the network is missing");
    let account = policy("{ kind: ServiceAccount, name: web }");
    assert!(admits(&account, WEB), "a service account needs no object");
    assert!(!admits(&account, OPS));
}

#[test]
fn a_server_authorization_finds_its_servers_by_name_or_label() {
    let grant = |server: &str| {
        format!(
            "{SERVER}apiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\nmetadata: {{ name: a, namespace: shop }}\nspec: {{ server: {server}, client: {{ meshTLS: {{ serviceAccounts: [{{ name: web }}] }} }} }}\n"
        )
    };
    for server in ["{ name: s }", "{ selector: { matchLabels: { tier: a } } }"] {
        assert!(admits(&grant(server), WEB), "{server}");
        assert!(!admits(&grant(server), OPS), "{server}");
    }
    for server in ["{ name: t }", "{ selector: { matchLabels: { tier: b } } }"] {
        assert!(!admits(&grant(server), WEB), "{server}");
    }
}

#[test]
fn of_two_servers_on_one_port_the_older_holds() {
    let open = SERVER
        .replace("name: s", "name: a")
        .replace("port: 80", "port: 80, accessPolicy: all-unauthenticated");
    assert!(!admits(&format!("{SERVER}{open}"), WEB));
    assert!(admits(&format!("{open}{SERVER}"), WEB));
}

#[test]
fn every_default_policy_means_what_its_name_says() {
    let table = [
        ("all-unauthenticated", true, true),
        ("all-authenticated", true, false),
        ("cluster-unauthenticated", true, true),
        ("cluster-authenticated", true, false),
        ("deny", false, false),
        ("audit", true, true),
    ];
    for (name, with_identity, without) in table {
        let yaml = SERVER.replace("port: 80", &format!("port: 80, accessPolicy: {name}"));
        assert_eq!(admits(&yaml, WEB), with_identity, "{name}");
        assert_eq!(admits(&yaml, None), without, "{name}");
    }
}

#[test]
fn equal_input_gives_equal_bytes() {
    let bytes = || {
        let world = world_of(EVERYDAY, &["api-stable.myapp:8080"], Vec::new());
        let plan = world
            .service_plan(&"api.myapp".parse().unwrap(), "myapp")
            .unwrap();
        serde_json::to_vec(&*plan).unwrap()
    };
    assert_eq!(bytes(), bytes());
}
