//! What a route names: ports of its parents, backends of other kinds, filters that are not there.

use super::*;

#[test]
fn what_cannot_be_called_or_done_in_this_version_is_answered_500() {
    let gone = "{ kind: Foo, name: other, port: 80 }";
    let world = world_of(
        &(service("api") + &route("shop", "r", gone)),
        &[],
        Vec::new(),
    );
    assert_eq!(
        backends(&world, "api.shop", "shop"),
        ["1 other.shop InvalidKind"]
    );
    let filtered = "{ name: api, port: 80, filters: [{ type: URLRewrite, urlRewrite: {} }] }";
    let world = world_of(
        &(service("api") + &route("shop", "r", filtered)),
        &[],
        Vec::new(),
    );
    let unsupported = ["1 api.shop UnsupportedFilter"];
    assert_eq!(backends(&world, "api.shop", "shop"), unsupported);
    let rule = route("shop", "r", "{ name: api, port: 80 }").replace(
        "rules: [{",
        "rules: [{ filters: [{ type: CORS, cors: {} }],",
    );
    let world = world_of(&(service("api") + &rule), &[], Vec::new());
    assert_eq!(backends(&world, "api.shop", "shop"), unsupported);
}

#[test]
fn a_parent_may_name_its_port() {
    let ports = "apiVersion: v1\nkind: Service\nmetadata: { name: api, namespace: shop }\nspec: { ports: [{ name: http, port: 80 }, { name: admin, port: 81 }] }\n---\n";
    let route = |section: &str| {
        let written = route("shop", "r", "{ name: b, port: 80 }");
        written.replace("name: api,", &format!("name: api, sectionName: {section},"))
    };
    for (section, ports_governed) in [("http", [80].as_slice()), ("admin", &[81]), ("none", &[])] {
        let yaml = format!("{ports}{}{}", service("b"), route(section));
        let world = world_of(&yaml, &[], Vec::new());
        let plan = world
            .service_plan(&"api.shop".parse().unwrap(), "shop")
            .unwrap();
        let governed = plan.ports.iter().filter(|port| {
            let route = port.routes[0].understood().unwrap();
            route.source.kind == "HTTPRoute"
        });
        let governed: Vec<_> = governed.map(|port| port.port).collect();
        assert_eq!(governed, ports_governed, "{section}");
    }
}
