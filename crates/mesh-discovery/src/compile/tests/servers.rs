//! Which `Server` governs a port, and that a guess never lets a client in.

use std::fmt::Write as _;

use mesh_policy::plan::inbound::InboundPlan;
use mesh_policy::plan::part::Part;
use proptest::prelude::*;

use super::*;

const STRANGER: Option<&str> = None;

/// A Service of the namespace shop that selects app=api.
pub(super) fn service_of(name: &str, ports: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ selector: {{ app: {name} }}, ports: [{ports}] }}\n"
    )
}

/// A `Server` of the namespace shop: its name, labels that it selects, port and access policy.
pub(super) fn server_of(name: &str, labels: &str, port: &str, access: &str) -> String {
    format!(
        "---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\n\
         metadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ podSelector: {{ matchLabels: {{ {labels} }} }}, port: {port}, accessPolicy: {access}, proxyProtocol: HTTP/1 }}\n"
    )
}

fn grant_to(server: &str, client: &str) -> String {
    format!(
        "---\napiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\n\
         metadata: {{ name: {server}, namespace: shop }}\n\
         spec: {{ server: {{ name: {server} }}, client: {client} }}\n"
    )
}

pub(super) fn plan_for(world: &World, serves: &str, labels: &[(&str, &str)]) -> Part<InboundPlan> {
    let labels = labels.iter();
    let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let labels: BTreeMap<_, _> = labels.collect();
    let workload = Workload {
        namespace: "shop",
        labels: &labels,
    };
    world.inbound_plan(&serves.parse().unwrap(), &workload)
}

pub(super) fn lets_in(plan: &Part<InboundPlan>, identity: Option<&str>) -> bool {
    let policy = Policy::compile(plan.understood().unwrap()).unwrap();
    let identity = identity.map(|identity| identity.parse().unwrap());
    let client = Client {
        identity: identity.as_ref(),
        address: [10, 0, 0, 1].into(),
    };
    !matches!(policy.decide(&client), Verdict::Deny { .. })
}

/// Which of web, ops and a client without an identity are let in.
fn callers(yaml: &str, serves: &str, labels: &[(&str, &str)]) -> [bool; 3] {
    let plan = plan_for(&world_of(yaml, &[], Vec::new()), serves, labels);
    [WEB, OPS, STRANGER].map(|identity| lets_in(&plan, identity))
}

const API: &[(&str, &str)] = &[("app", "api")];
const AUTHENTICATED: [bool; 3] = [true, true, false];

#[test]
fn z01_a_server_for_another_port_opens_nothing() {
    let anyone = "{ unauthenticated: true }";
    for port in ["linkerd-admin", "admin", "9090"] {
        let open = server_of("admin", "", port, "deny") + &grant_to("admin", anyone);
        let http = service_of("api", "{ name: http, port: 80 }");
        for services in ["", &http] {
            let yaml = format!("{services}{open}");
            for serves in ["api.shop", "api.shop:80"] {
                let found = callers(&yaml, serves, API);
                assert_eq!(found, AUTHENTICATED, "{port} of {serves} with {services}");
            }
        }
    }
    let open = server_of("admin", "", "9090", "all-unauthenticated");
    assert_eq!(callers(&open, "c.shop", &[]), AUTHENTICATED);
    let yaml = open + &service_of("c", "{ port: 80 }");
    assert_eq!(callers(&yaml, "c.shop", &[]), AUTHENTICATED);
}

#[test]
fn z01_a_server_guards_the_containers_port_behind_a_service() {
    let api = service_of("api", "{ name: http, port: 80, targetPort: 3000 }");
    let elsewhere = "{ unauthenticated: true, networks: [{ cidr: 172.16.0.0/20 }] }";
    for port in ["3000", "80", "http"] {
        let guarded = server_of("s", "app: api", port, "deny") + &grant_to("s", elsewhere);
        for serves in ["api.shop", "api.shop:80"] {
            let found = callers(&format!("{api}{guarded}"), serves, API);
            assert_eq!(found, [false; 3], "{port} of {serves}");
        }
    }
    let named = service_of("api", "{ port: 80, targetPort: web }");
    let guarded = named + &server_of("s", "app: api", "web", "deny");
    assert_eq!(callers(&guarded, "api.shop", API), [false; 3]);
}

#[test]
fn z01_what_may_be_meant_narrows_what_is_certain() {
    let web = "{ meshTLS: { serviceAccounts: [{ name: web }] } }";
    let open = server_of("open", "app: api", "80", "all-unauthenticated");
    let maybe = server_of("maybe", "app: api", "8080", "deny") + &grant_to("maybe", web);
    // The process names no port, and nothing says that it has but one.
    let both = format!("{open}{maybe}");
    assert_eq!(callers(&both, "api.shop", API), [true, false, false]);
    assert_eq!(callers(&maybe, "api.shop", API), [true, false, false]);
    // It names its port: the other Server is about another one.
    assert_eq!(callers(&both, "api.shop:80", API), [true; 3]);

    let world = world_of(&maybe, &[], Vec::new());
    let plan = plan_for(&world, "api.shop", API);
    let Part::Understood { requires, body } = plan else {
        panic!("it is ours");
    };
    assert!(requires.contains("narrowing/1"), "older readers close");
    assert_eq!(body.http, HttpVersions::Both, "HTTP/1 is not taken over");
    let names: Vec<_> = body
        .narrowed_by
        .iter()
        .map(|one| &one.server.name)
        .collect();
    assert_eq!(names, ["maybe"]);
}

#[test]
fn a_port_with_a_server_of_its_own_is_not_narrowed_by_names_that_no_service_lists() {
    let http = service_of("api", "{ name: http, port: 80, targetPort: 3000 }");
    let open = server_of("http", "app: api", "http", "all-authenticated");
    let metrics = server_of("metrics", "app: api", "prom", "deny");
    let yaml = format!("{http}{open}{metrics}");
    assert_eq!(callers(&yaml, "api.shop", API), AUTHENTICATED);
    let yaml = format!("{http}{metrics}");
    assert_eq!(callers(&yaml, "api.shop", API), [false; 3]);
}

/// Policies as they are written for pods: a port of the application, one of metrics that some
/// Services list, and one of a proxy that no process here has.
fn for_pods() -> String {
    let anyone = "{ unauthenticated: true }";
    let front = "{ meshTLS: { serviceAccounts: [{ name: web }] } }";
    [
        service_of(
            "ballots",
            "{ name: grpc, port: 8080 }, { name: prom, port: 8801 }",
        ),
        service_of("front", "{ name: http, port: 80, targetPort: 8080 }"),
        server_of("ballots", "app: ballots", "grpc", "deny") + &grant_to("ballots", front),
        server_of("front", "app: front", "http", "deny") + &grant_to("front", anyone),
        server_of("metrics", "", "prom", "deny") + &grant_to("metrics", anyone),
        server_of("proxy", "", "linkerd-admin", "deny") + &grant_to("proxy", anyone),
    ]
    .concat()
}

#[test]
fn z01_policies_that_are_written_for_pods_let_in_whom_they_name() {
    let yaml = for_pods();
    let at = |serves: &str, app| callers(&yaml, serves, &[("app", app)]);
    assert_eq!(at("ballots.shop:8080", "ballots"), [true, false, false]);
    assert_eq!(at("ballots.shop:8801", "ballots"), [true; 3]);
    assert_eq!(at("front.shop", "front"), [true; 3]);
    // What no Server names stays as it was.
    assert_eq!(at("newcomer.shop:8080", "newcomer"), AUTHENTICATED);
    assert_eq!(at("newcomer.shop", "newcomer"), AUTHENTICATED);
}

/// One world: each part by number, so that parts can be left out.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    services: Vec<String>,
    pub(super) servers: Vec<(String, String)>,
}

impl Draw {
    pub(super) fn yaml(&self, without: Option<usize>) -> String {
        let servers = self.servers.iter().enumerate();
        let kept = servers.filter(|(place, _)| Some(*place) != without);
        let kept = kept.map(|(_, (yaml, _))| yaml.as_str());
        let services = self.services.iter().map(String::as_str);
        services.chain(kept).collect()
    }
}

prop_compose! {
    fn port()(
        number in prop::sample::select(vec![80_u16, 3000, 8080]),
        target in prop::sample::select(vec!["", ", targetPort: 80", ", targetPort: 3000", ", targetPort: web", ", targetPort: http"]),
    ) -> (u16, &'static str) {
        (number, target)
    }
}

fn service_drawn() -> impl Strategy<Value = String> {
    let names = prop::sample::subsequence(vec!["http", "web", "admin"], 1..3);
    let ports = prop::collection::vec(port(), 2);
    let name = prop::sample::select(vec!["api", "other"]);
    (name, names, ports).prop_map(|(name, names, mut ports)| {
        ports.dedup_by_key(|(number, _)| *number);
        let ports = names.iter().zip(ports);
        let ports = ports
            .map(|(name, (number, target))| format!("{{ name: {name}, port: {number}{target} }}"));
        let ports: Vec<_> = ports.collect();
        service_of(name, &ports.join(", ")).replace("app: other", "app: api")
    })
}

fn server_drawn() -> impl Strategy<Value = (String, &'static str, &'static str, &'static str)> {
    let labels = prop::sample::select(vec!["", "app: api", "tier: a"]);
    let ports = vec![
        "80",
        "3000",
        "8080",
        "http",
        "web",
        "admin",
        "linkerd-admin",
    ];
    let access = vec!["deny", "all-authenticated", "all-unauthenticated", "audit"];
    let clients = vec![
        "{ unauthenticated: true }",
        "{ meshTLS: { serviceAccounts: [{ name: web }] } }",
        "{ unauthenticated: true, networks: [{ cidr: 192.168.0.0/16 }] }",
    ];
    let (ports, access) = (prop::sample::select(ports), prop::sample::select(access));
    (labels, ports, access, prop::sample::select(clients))
        .prop_map(|(labels, port, access, client)| (labels.to_owned(), port, access, client))
}

pub(super) fn drawn() -> impl Strategy<Value = Draw> {
    let services = prop::collection::vec(service_drawn(), 0..3);
    let servers = prop::collection::vec(server_drawn(), 1..5);
    (services, servers).prop_map(|(mut services, servers)| {
        services.sort();
        services.dedup_by(|a, b| a.contains("name: api,") == b.contains("name: api,"));
        let servers = servers.into_iter().enumerate();
        let servers = servers.map(|(place, (labels, port, access, client))| {
            let name = format!("s{place}");
            let mut yaml = server_of(&name, &labels, port, access);
            write!(yaml, "{}", grant_to(&name, client)).unwrap();
            (yaml, port.to_owned())
        });
        Draw {
            services,
            servers: servers.collect(),
        }
    })
}

/// Whether `wanted` can be read as the very port that is served, by the service's own object.
fn may_be_exact(world: &World, serves: &str, wanted: &str) -> bool {
    let port = world.resolve(&serves.parse().unwrap());
    let object = world.services.object(&port.service);
    let listed = object.and_then(|object| object.ports.iter().find(|one| one.port == port.port));
    let listed = listed.is_some_and(|listed| {
        let target = listed.target.as_ref().map(ToString::to_string);
        listed.name.as_deref() == Some(wanted) || target.as_deref() == Some(wanted)
    });
    listed || wanted == port.port.to_string()
}

pub(super) const SERVED: [&str; 4] = ["api.shop", "api.shop:80", "api.shop:3000", "api.shop:8080"];
pub(super) const LABELS: [&[(&str, &str)]; 3] = [&[], API, &[("app", "api"), ("tier", "a")]];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Over any world, process and `Server`: but on the very port that it names, a `Server` lets
    /// in nobody who was not let in without it, and changes nothing else.
    #[test]
    fn z01_a_server_opens_no_port_but_its_own(draw in drawn()) {
        let with = world_of(&draw.yaml(None), &[], Vec::new());
        for (place, (_, wanted)) in draw.servers.iter().enumerate() {
            let without = world_of(&draw.yaml(Some(place)), &[], Vec::new());
            for serves in SERVED {
                if may_be_exact(&with, serves, wanted) {
                    continue;
                }
                for labels in LABELS {
                    let with = plan_for(&with, serves, labels);
                    let without = plan_for(&without, serves, labels);
                    for identity in [WEB, OPS, STRANGER] {
                        let opened = lets_in(&with, identity) && !lets_in(&without, identity);
                        prop_assert!(!opened, "s{place} lets {identity:?} into {serves} of {labels:?}\n{}", draw.yaml(None));
                    }
                    let http = |plan: &Part<InboundPlan>| plan.understood().unwrap().http;
                    prop_assert_eq!(http(&with), http(&without));
                }
            }
        }
    }

    /// A `Server` that is said to guard nothing makes no difference to any process that serves.
    #[test]
    fn a_server_that_is_said_to_guard_nothing_guards_nothing(draw in drawn()) {
        let served: Vec<_> = SERVED.iter().zip(LABELS.iter().cycle()).collect();
        let registrations = || {
            let served = served.iter().enumerate();
            let registered = served.map(|(id, (serves, labels))| registered(&id.to_string(), serves, labels));
            registered.collect::<Vec<_>>()
        };
        let with = world_of(&draw.yaml(None), &[], registrations());
        for place in 0..draw.servers.len() {
            let name = format!("s{place}");
            let manifest = with.objects.iter().find(|one| one.meta.name == name);
            let Status::Object(conditions) = with.status(manifest.unwrap()) else {
                panic!("a Server has conditions of its own");
            };
            let effective = conditions.iter().find(|one| one.about == "Effective").unwrap();
            let nothing = effective.holds == Holds::No && !effective.message.contains("takes away");
            let without = world_of(&draw.yaml(Some(place)), &[], registrations());
            let same = served.iter().all(|(serves, labels)| {
                plan_for(&with, serves, labels) == plan_for(&without, serves, labels)
            });
            prop_assert!(same || !nothing, "{effective:?}\n{}", draw.yaml(None));
        }
    }
}
