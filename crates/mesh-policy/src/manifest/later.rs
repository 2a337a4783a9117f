//! Kinds that this version skips and later ones serve: a file that upstream's schemas or Linkerd's
//! webhook refuse is refused today, so that nobody learns of a mistake with an upgrade.

mod grpc_route;
mod rate_limit;
mod service_profile;

use super::fields::{At, Fields};
use super::kind::Kind;
use super::meta::{self, Meta};
use super::{http_route, network_authentication};

/// An object whose head was read.
struct Object<'a> {
    meta: Meta,
    metadata: At<'a>,
    spec: At<'a>,
}

/// Tells the problems of an object, if its kind is one of those that are known.
pub(super) fn check(group: &str, kind: &str, top: &At<'_>) {
    let check: fn(&Object<'_>) -> Option<()> = match (group, kind) {
        ("policy.linkerd.io", "HTTPRoute") => {
            |object| http_route::read(&object.meta, &object.spec, &object.metadata).map(drop)
        }
        ("policy.linkerd.io", "HTTPLocalRateLimitPolicy") => rate_limit::check,
        ("policy.linkerd.io", "EgressNetwork") => egress_network,
        ("gateway.networking.k8s.io", "GRPCRoute") => grpc_route::check,
        ("gateway.networking.k8s.io", "TLSRoute" | "TCPRoute") => stream_route,
        ("linkerd.io", "ServiceProfile") => service_profile::check,
        _ => return,
    };
    if let Some(object) = object(top) {
        // Problems are told where they are found.
        let _told: Option<()> = check(&object);
    }
}

fn object<'a>(top: &At<'a>) -> Option<Object<'a>> {
    let named = top.sink.object.borrow().clone();
    let mut fields = top.fields();
    let api_version = fields.take("apiVersion")?.text()?;
    fields.pass(&["kind", "status"]);
    let metadata = fields.need("metadata", "write metadata with a name")?;
    // The rules for names, labels and annotations are those of routes for all of these.
    let meta = meta::read(Kind::HttpRoute, api_version, &metadata);
    *top.sink.object.borrow_mut() = named;
    let spec = fields.need("spec", "write what the object should do");
    fields.finish();
    Some(Object {
        meta,
        metadata,
        spec: spec?,
    })
}

/// `EgressNetwork`.
fn egress_network(object: &Object<'_>) -> Option<()> {
    let mut fields = object.spec.fields();
    let policy = fields.need("trafficPolicy", "write Allow or Deny");
    let networks = fields.take("networks");
    fields.finish();
    if let Some(at) = networks {
        network_authentication::list(&at)?;
    }
    policy?.one_of(&[("Allow", ()), ("Deny", ())])
}

/// `TLSRoute` and `TCPRoute`: Linkerd takes exactly one rule.
fn stream_route(object: &Object<'_>) -> Option<()> {
    const MOST_RULES: usize = 16;
    let mut fields = object.spec.fields();
    http_route::parents(&object.meta, &mut fields, &object.spec)?;
    let rules = fields.need("rules", "write one rule with backendRefs");
    http_route::hostnames(&mut fields, None)?;
    fields.pass(&["useDefaultGateways"]);
    fields.finish();
    let rules = rules?;
    match rules.list(MOST_RULES)?.len() {
        1 => Some(()),
        count => rules.refuse(format!("has {count} rules"), "write exactly one"),
    }
}

/// Group, kind and name of a reference; `kinds` are those that it may name.
fn reference(fields: &mut Fields<'_>, known: (&str, &str)) -> Option<()> {
    let mut text = |name| fields.take(name).and_then(|at| at.text());
    let (group, kind) = (text("group").unwrap_or(""), text("kind").unwrap_or(""));
    let name = fields.need("name", "write the name");
    let (known_group, known_kind) = known;
    let same = group == known_group || (known_group.is_empty() && group == "core");
    if same && kind == known_kind {
        return name?.object_name().map(drop);
    }
    fields.refuse(
        format!("names {kind:?} of group {group:?}"),
        format!("write group: {known_group:?} and kind: {known_kind}"),
    )
}
