//! What people are told of Servers that guard nothing after what they write.

use mesh_policy::manifest::Manifest;

use super::servers::{server_of, service_of};
use super::*;
use crate::compile::offline;

fn manifests(yaml: &str) -> Vec<Manifest> {
    parse_yaml("", yaml).unwrap().manifests
}

/// What is told when `written` is applied where `before` stands and these run.
fn told(before: &str, runs: &[(&str, &[(&str, &str)])], written: &str) -> Vec<String> {
    let runs = runs.iter().enumerate();
    let runs = runs.map(|(id, (serves, labels))| registered(&id.to_string(), serves, labels));
    let world = world_of(before, &[], runs.collect());
    let written = manifests(written);
    let found = world.ineffective(&Change::writing(&written));
    found
        .iter()
        .map(|one| format!("{} {}", one.object.name, one.reason))
        .collect()
}

const API: &[(&str, &str)] = &[("app", "api")];

#[test]
fn a_server_that_guards_nothing_is_warned_of_when_it_is_applied() {
    let server = |labels: &str, port: &str| server_of("s", labels, port, "deny");
    let runs = [("api.shop", API)];
    let api = service_of("api", "{ name: http, port: 80, targetPort: 3000 }");
    assert_eq!(told(&api, &runs, &server("app: api", "3000")), [""; 0]);
    let table = [
        ("app: apii", "80", "s NoMatchingWorkload"),
        ("app: api", "9090", "s NoMatchingPort"),
        ("app: api", "prom", "s NoMatchingPort"),
    ];
    for (labels, port, expected) in table {
        assert_eq!(told(&api, &runs, &server(labels, port)), [expected]);
    }
    let forgotten: [(&str, &[(&str, &str)]); 1] = [("api.shop", &[])];
    let found = told(&api, &forgotten, &server("app: api", "80"));
    assert_eq!(found, ["s NoMatchingWorkload"]);
    // What has no effect already, and is not touched, is not told again.
    let found = told(
        &(api + &server("app: apii", "80")),
        &runs,
        &service_of("b", "{ port: 1 }"),
    );
    assert_eq!(found, [""; 0]);
}

#[test]
fn an_edit_to_a_service_tells_which_servers_it_leaves_without_a_port() {
    let api = service_of("api", "{ port: 80, targetPort: 3000 }");
    let before = api.clone() + &server_of("s", "app: api", "3000", "deny");
    let runs = [("api.shop:80", API)];
    let edited = api.replace("3000", "4000");
    assert_eq!(told(&before, &runs, &edited), ["s NoMatchingPort"]);

    let world = world_of(&before, &[], vec![registered("1", "api.shop:80", API)]);
    let service = ObjectRef {
        group: String::new(),
        kind: "Service".to_owned(),
        namespace: "shop".to_owned(),
        name: "api".to_owned(),
    };
    let found = world.ineffective(&Change {
        written: &[],
        deleted: Some(&service),
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].to_string().starts_with("Server shop/s: "),
        "{found:?}"
    );
}

#[test]
fn of_two_servers_for_one_port_the_one_that_loses_is_warned_of() {
    let s1 = server_of("s1", "app: api", "http", "deny");
    let s0 = server_of("s0", "app: api", "80", "all-unauthenticated");
    let api = service_of("api", "{ name: http, port: 80 }");
    let runs = [("api.shop", API)];
    let applied = told(&format!("{api}{s1}"), &runs, &s0);
    assert_eq!(applied, ["s0 Superseded"]);

    let of_files = |yaml: &str| {
        let found = offline::ineffective("mesh.local".parse().unwrap(), &manifests(yaml));
        let told = found
            .iter()
            .map(|one| format!("{} {}", one.object.name, one.reason));
        told.collect::<Vec<_>>()
    };
    assert_eq!(of_files(&format!("{api}{s1}{s0}")), ["s1 Superseded"]);
    // No Service says so, but any process with these labels would.
    let twin = s1.replace("name: s1", "name: s2");
    assert_eq!(of_files(&format!("{s1}{twin}")), ["s2 Superseded"]);
    assert_eq!(
        of_files(&format!("{s1}{s0}")),
        [""; 0],
        "they may be two ports"
    );
    assert_eq!(of_files(&s1), [""; 0], "files do not say what runs");
    let other = server_of("s", "app: api", "9090", "deny");
    assert_eq!(of_files(&format!("{api}{other}")), ["s NoMatchingPort"]);
}
