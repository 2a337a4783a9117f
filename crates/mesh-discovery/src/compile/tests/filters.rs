//! What a route does on the way, as a plan.

use mesh_policy::plan::outbound::{FilterPlan, HeaderEditPlan};
use mesh_policy::plan::part::Part;

use super::*;

#[test]
fn filters_of_rules_and_backends_travel_and_are_required() {
    let remove = |kind: &str, header: &str| {
        let field = format!("{}{}", kind[..1].to_lowercase(), &kind[1..]);
        format!("filters: [{{ type: {kind}, {field}: {{ remove: [{header}] }} }}]")
    };
    let of_backend = remove("ResponseHeaderModifier", "server");
    let yaml = service("api")
        + &route(
            "shop",
            "r",
            &format!("{{ name: api, port: 80, {of_backend} }}"),
        )
        .replace(
            "rules: [{",
            &format!("rules: [{{ {},", remove("RequestHeaderModifier", "x-a")),
        );
    let world = world_of(&yaml, &[], Vec::new());
    let plan = world.service_plan(&"api.shop".parse().unwrap(), "shop");
    let part = &plan.unwrap().ports[0].routes[0];
    let Part::Understood { requires, body } = part else {
        panic!("{part:?}");
    };
    let removes = |header: &str| HeaderEditPlan {
        remove: vec![header.into()],
        ..HeaderEditPlan::default()
    };
    let rule = &body.rules[0];
    assert_eq!(rule.filters, [FilterPlan::RequestHeaders(removes("x-a"))]);
    let of_backend = [FilterPlan::ResponseHeaders(removes("server"))];
    assert_eq!(rule.backends[0].filters, of_backend);
    assert!(requires.contains("filters/1"), "{requires:?}");
}
