//! What a status says, in a world where it is so.

use std::fmt::Write as _;
use std::sync::Arc;

use mesh_policy::manifest::{parse_json, parse_yaml};
use mesh_policy::plan::registration::Registration;
use mesh_policy::plan::watch::Cursor;

use super::*;
use crate::compile::{Registered, Sources};

/// Every object of `yaml` and how it stands, one line a condition.
fn told(yaml: &str, served: &[&str]) -> String {
    told_of(yaml, served, Vec::new())
}

fn told_of(yaml: &str, served: &[&str], registrations: Vec<Registered>) -> String {
    let parsed = parse_yaml("test.yaml", yaml).unwrap();
    let aged = parsed.manifests.iter().enumerate().map(|(age, manifest)| {
        let mut json = manifest.raw.clone();
        json["metadata"]["creationTimestamp"] = format!("2026-01-01T00:00:{age:02}Z").into();
        Arc::new(parse_json(&json).unwrap())
    });
    let objects: Vec<_> = aged.collect();
    let world = World::new(Sources {
        cursor: Cursor {
            store: "s".to_owned(),
            revision: 1,
        },
        domain: "mesh.local".parse().unwrap(),
        objects: objects.clone(),
        registrations,
        served: served.iter().map(|port| port.parse().unwrap()).collect(),
    });
    let mut lines = String::new();
    for object in &objects {
        let conditions = match world.status(object) {
            Status::Object(conditions) => conditions,
            Status::Parents(parents) => parents.into_iter().flat_map(|(_, all)| all).collect(),
        };
        for Condition {
            about,
            holds,
            reason,
            ..
        } in conditions
        {
            let name = &object.meta.name;
            writeln!(lines, "{name} {about} {holds:?} {reason}").unwrap();
        }
    }
    lines
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
";

fn route(name: &str, parent: &str, backend: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: {name}, namespace: shop }}
spec:
  parentRefs: [{{ group: '', kind: Service, {parent} }}]
  rules: [{{ backendRefs: [{backend}] }}]
---
"
    )
}

fn split(name: &str) -> String {
    format!(
        "apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {{ name: {name}, namespace: shop }}
spec: {{ service: api, backends: [{{ service: api, weight: 1 }}] }}
---
"
    )
}

#[test]
fn a_route_says_whether_its_parents_and_backends_are_there() {
    let good = route("good", "name: api", "{ name: api, port: 80 }");
    let parentless = route("parentless", "name: apo", "{ name: api, port: 80 }");
    let portless = route("portless", "name: api, port: 81", "{ name: api, port: 80 }");
    let lost = route("lost", "name: api", "{ name: gone, port: 80 }");
    let foreign = route(
        "foreign",
        "name: api",
        "{ name: x, namespace: bank, port: 80 }",
    );
    let unnamed = route(
        "unnamed",
        "name: api, sectionName: none",
        "{ name: api, port: 80 }",
    );
    let kind = route("kind", "name: api", "{ kind: Foo, name: api }");
    let filter = "{ name: api, port: 80, filters: [{ type: URLRewrite, urlRewrite: {} }] }";
    let filtered = route("filtered", "name: api", filter);
    let yaml = [
        SERVICE,
        &good,
        &parentless,
        &portless,
        &lost,
        &foreign,
        &unnamed,
        &kind,
        &filtered,
    ]
    .concat();
    let expected = "api Accepted Yes Accepted
good Accepted Yes Accepted
good ResolvedRefs Yes ResolvedRefs
parentless Accepted No NoMatchingParent
parentless ResolvedRefs Yes ResolvedRefs
portless Accepted No NoMatchingParent
portless ResolvedRefs Yes ResolvedRefs
lost Accepted Yes Accepted
lost ResolvedRefs No BackendNotFound
foreign Accepted Yes Accepted
foreign ResolvedRefs No BackendNotFound
unnamed Accepted No NoMatchingParent
unnamed ResolvedRefs Yes ResolvedRefs
kind Accepted Yes Accepted
kind ResolvedRefs No InvalidKind
filtered Accepted No UnsupportedValue
filtered ResolvedRefs Yes ResolvedRefs
";
    let told = told(&yaml, &[]);
    assert_eq!(told, expected);
}

#[test]
fn a_split_says_who_governs_in_its_place() {
    let alone = [SERVICE, &split("one")].concat();
    assert!(!told(&alone, &[]).contains("Conflicted"));
    let beside = [SERVICE, &split("one"), &split("two")].concat();
    assert!(told(&beside, &[]).contains("two Conflicted Yes Superseded"));
    assert!(!told(&beside, &[]).contains("one Conflicted"));
    let routed = beside + &route("r", "name: api", "{ name: api, port: 80 }");
    assert!(told(&routed, &[]).contains("one Conflicted Yes Superseded"));
    let nowhere = told(&split("one"), &[]);
    assert!(
        nowhere.contains("one Accepted No NoMatchingTarget"),
        "{nowhere}"
    );
    assert!(told(&split("one"), &["api.shop:80"]).contains("one Accepted Yes"));
}

const POLICY: &str = "
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: { name: allow, namespace: shop }
spec:
  targetRef: { group: policy.linkerd.io, kind: Server, name: api }
  requiredAuthenticationRefs:
  - { group: policy.linkerd.io, kind: MeshTLSAuthentication, name: web }
---
";
const WEB: &str = "
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: { name: web, namespace: shop }
spec: { identities: ['spiffe://mesh.local/ns/shop/sa/web'] }
---
";

fn server(name: &str) -> String {
    format!(
        "apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{ name: {name}, namespace: shop }}
spec: {{ podSelector: {{}}, port: 80 }}
---
"
    )
}

#[test]
fn a_policy_says_what_it_targets_and_requires_in_vain() {
    let in_vain = told(POLICY, &[]);
    let expected = "allow Accepted No NoMatchingTarget
allow ResolvedRefs No AuthenticationNotFound
";
    assert_eq!(in_vain, expected);
    let whole = told(&[POLICY, WEB, &server("api")].concat(), &[]);
    assert!(whole.contains("allow Accepted Yes Accepted"), "{whole}");
    assert!(
        whole.contains("allow ResolvedRefs Yes ResolvedRefs"),
        "{whole}"
    );
    let twins = told(&[server("api"), server("b")].concat(), &[]);
    assert!(twins.contains("b Conflicted Yes Superseded"), "{twins}");
    assert!(!twins.contains("api Conflicted"), "{twins}");
}

/// A process that serves this with these labels, as others would do it too.
fn process(serves: &str, labels: &[(&str, &str)]) -> Registered {
    let labels = labels.iter();
    let labels = labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Registered {
        id: "1".to_owned(),
        identity: "spiffe://mesh.local/ns/shop/sa/api".parse().unwrap(),
        registration: Registration {
            watch: "w".to_owned(),
            serves: serves.parse().unwrap(),
            address: ([127, 0, 0, 1], 1).into(),
            workload: "api".to_owned(),
            instance: "api-1".to_owned(),
            labels: labels.collect(),
            zone: None,
            weight: 100,
        },
    }
}

const OF_API: &str = "
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { selector: { app: api }, ports: [{ name: http, port: 80, targetPort: 3000 }] }
---
";

fn selecting(name: &str, app: &str, port: &str) -> String {
    let all = server(name).replace("port: 80", &format!("port: {port}"));
    all.replace(
        "podSelector: {}",
        &format!("podSelector: {{ matchLabels: {{ app: {app} }} }}"),
    )
}

#[test]
fn a_server_says_whether_it_guards_anything() {
    let labelled: &[_] = &[("app", "api")];
    let table = [
        ("api", "3000", Some(labelled), "Effective Yes Effective"),
        ("api", "http", Some(labelled), "Effective Yes Effective"),
        (
            "apii",
            "80",
            Some(labelled),
            "Effective No NoMatchingWorkload",
        ),
        ("api", "9090", Some(labelled), "Effective No NoMatchingPort"),
        (
            "api",
            "admin",
            Some(labelled),
            "Effective No NoMatchingPort",
        ),
        (
            "api",
            "linkerd-admin",
            Some(labelled),
            "Effective No NoMatchingPort",
        ),
        // MESH_LABELS was forgotten.
        ("api", "80", Some(&[]), "Effective No NoMatchingWorkload"),
        // What is about to run counts, where nobody serves the Service yet.
        ("api", "80", None, "Effective Yes Effective"),
        ("api", "81", None, "Effective No NoMatchingPort"),
    ];
    for (app, port, labels, expected) in table {
        let runs = labels.map(|labels| process("api.shop", labels));
        let yaml = [OF_API, &selecting("s", app, port)].concat();
        let found = told_of(&yaml, &[], runs.into_iter().collect());
        let line = format!("s {expected}");
        assert!(found.contains(&line), "{app} {port} {labels:?}: {found}");
    }
}

#[test]
fn a_server_that_loses_every_port_says_to_whom() {
    let older = selecting("older", "api", "http");
    let yaml = [
        OF_API,
        &older,
        &selecting("s", "api", "80"),
        &POLICY.replace("name: api }", "name: s }"),
        WEB,
    ]
    .concat();
    let found = told_of(&yaml, &[], vec![process("api.shop", &[("app", "api")])]);
    for line in [
        "older Effective Yes Effective",
        "s Effective No Superseded",
        "s Conflicted Yes Superseded",
        "allow Accepted Yes Accepted",
        "allow Effective No Superseded",
    ] {
        assert!(found.contains(line), "{line}: {found}");
    }
    // It loses one port of two.
    let yaml = yaml.replacen("metadata: { name: s, namespace: shop }\nspec: { podSelector: { matchLabels: { app: api } }", "metadata: { name: s, namespace: shop }\nspec: { podSelector: {}", 1);
    let other = Registered {
        id: "2".to_owned(),
        ..process("web.shop:80", &[])
    };
    let both = vec![process("api.shop", &[("app", "api")]), other];
    let found = told_of(&yaml, &[], both);
    assert!(found.contains("s Effective Yes Effective"), "{found}");
    assert!(found.contains("s Conflicted Yes Superseded"), "{found}");
}
