use std::collections::BTreeMap;

use mesh_policy::manifest::parse_yaml;

use super::*;
use crate::compile::services::Services;

/// A Service of the namespace shop that selects app=api.
fn service(name: &str, ports: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: shop }}\n\
         spec: {{ selector: {{ app: api }}, ports: [{ports}] }}\n"
    )
}

fn fit(yaml: &str, serves: &str, wanted: &str) -> Fit {
    let manifests = parse_yaml("", yaml).unwrap().manifests;
    let services = Services::new(&manifests, &[].into());
    let labels = BTreeMap::from([("app".to_owned(), "api".to_owned())]);
    let workload = Workload {
        namespace: "shop",
        labels: &labels,
    };
    let facts = PortFacts::new(&services, &serves.parse().unwrap(), &workload);
    facts.fit(&match wanted.parse() {
        Ok(number) => PortSelector::Number(number),
        Err(_) => PortSelector::Name(wanted.to_owned()),
    })
}

/// Compares each `port=fit` of `expected`.
fn agree(yaml: &str, serves: &str, expected: &str) {
    for pair in expected.split(' ') {
        let (wanted, expected) = pair.split_once('=').unwrap();
        let found = format!("{:?}", fit(yaml, serves, wanted));
        assert_eq!(found, expected, "{wanted} of {serves} in {yaml}");
    }
}

const TWO: &str =
    "{ name: http, port: 80, targetPort: 3000 }, { name: grpc, port: 81, targetPort: web }";

#[test]
fn a_server_means_the_logical_port_or_the_containers_behind_it() {
    let api = service("api", TWO);
    agree(&api, "api.shop:80", "80=Exact http=Exact 3000=Exact");
    agree(
        &api,
        "api.shop:80",
        "81=Other grpc=Other web=Other 9090=Other",
    );
    agree(&api, "api.shop:81", "grpc=Exact web=Exact 3000=Other");
    let one = service("api", "{ port: 80, targetPort: 3000 }");
    agree(&one, "api.shop", "80=Exact 3000=Exact 9090=Other");
    agree(&one, "api.shop:9090", "9090=Exact 80=Other 3000=Other");
}

#[test]
fn what_services_leave_open_is_no_certainty() {
    // No Service lists the name; of the proxy's own ports that means nothing.
    let api = service("api", TWO);
    agree(&api, "api.shop:80", "prom=Unlisted linkerd-admin=Other");
    // The process named no port, and there are two, or nobody knows how many.
    let open = "80=Exact 81=Unsure grpc=Unsure 9090=Unsure prom=Unsure linkerd-admin=Other";
    agree(&api, "api.shop", open);
    agree("", "api.shop", "80=Exact 8080=Unsure http=Unsure");
    agree("", "api.shop:80", "80=Exact 8080=Other http=Unlisted");
    // 8080 is the container's port of 80, and a logical port of its own; so is `a`.
    let crossed = service(
        "api",
        "{ name: a, port: 80, targetPort: 8080 }, { name: b, port: 8080, targetPort: a }",
    );
    agree(&crossed, "api.shop:80", "80=Exact 8080=Unsure a=Unsure");
    agree(
        &crossed,
        "api.shop:8080",
        "8080=Unsure a=Unsure b=Exact 80=Other",
    );
}

#[test]
fn other_services_of_a_workload_say_which_ports_are_others() {
    let beside = [
        service("api", "{ port: 80, targetPort: 3000 }"),
        service("metrics", "{ name: prom, port: 9090 }"),
        service("outside", "{ name: shared, port: 8000, targetPort: 3000 }"),
    ];
    let beside = beside.concat();
    agree(&beside, "api.shop:80", "prom=Other 9090=Other 8000=Other");
    agree(&beside, "api.shop:80", "shared=Unsure");
    // A service without an object of its own: what others say of its port is no certainty.
    let other = "{ name: http, port: 80, targetPort: 3000 }, { name: prom, port: 90 }";
    let other = service("other", other);
    agree(&other, "api.shop:80", "80=Exact http=Unsure 3000=Unsure");
    agree(&other, "api.shop:80", "prom=Other 90=Other web=Unlisted");
    agree(&other, "api.shop:70", "prom=Unlisted 90=Other");
}
