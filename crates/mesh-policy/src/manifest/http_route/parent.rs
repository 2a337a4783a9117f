//! What a route is attached to: Services here, and kinds that are pointed at.

use super::super::fields::{At, Fields, each, repeated};
use super::super::meta::Meta;
use super::{port, service};
use crate::name::{Label, ServiceName};

/// Gateway API's limit.
const MOST_PARENTS: usize = 32;
/// Gateway API's own group.
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// Linkerd's.
const POLICY_GROUP: &str = "policy.linkerd.io";

/// A service that a route governs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parent {
    /// The service.
    pub service: ServiceName,
    /// The one port it governs; all of them without it.
    pub port: Option<u16>,
    /// The name of the one port it governs (`sectionName`).
    pub section: Option<String>,
}

/// What a reference to a parent means here.
enum Kind {
    Service,
    Gateway,
    Server,
    EgressNetwork,
    Other,
}

/// The services among the parents; what else is named has no effect, and is pointed at.
pub(in super::super) fn parents(
    meta: &Meta,
    fields: &mut Fields<'_>,
    at: &At<'_>,
) -> Option<Vec<Parent>> {
    let items = fields.items("parentRefs", MOST_PARENTS);
    if items.is_empty() {
        at.warn(
            "names no parent, so that it governs nothing",
            "name a Service in parentRefs",
        );
    }
    let read = each(&items, |at| parent(meta, at))?;
    let services = read.iter().zip(&items);
    let services = services.filter_map(|(parent, at)| Some((parent.as_ref()?, at)));
    let (parents, places): (Vec<_>, Vec<_>) = services.unzip();
    match repeated(&parents) {
        None => Some(parents.into_iter().cloned().collect()),
        Some(index) => places[index].refuse("names the same parent again", "leave it out"),
    }
}

/// The outer `None` is a mistake, the inner one a parent of another kind.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether it could be read"
)]
fn parent(meta: &Meta, at: &At<'_>) -> Option<Option<Parent>> {
    let mut fields = at.fields();
    let kind = kind(&mut fields, at)?;
    let section = fields.take("sectionName").map(|at| at.object_name());
    let section = match section {
        Some(name) => Some(name?),
        None => None,
    };
    if matches!(kind, Kind::Service) {
        let service = service(meta, &mut fields);
        let port = port(&mut fields);
        fields.finish();
        return Some(Some(Parent {
            service: service?,
            port: port?,
            section,
        }));
    }
    let name = fields.need("name", "name the parent");
    let name = name.and_then(|at| at.object_name());
    let namespace = fields.take("namespace").map(|at| at.parse::<Label>());
    let port = port(&mut fields);
    fields.finish();
    if let Some(None) = namespace {
        return None;
    }
    name?;
    foreign(&kind, port?, at).then_some(None)
}

fn kind(fields: &mut Fields<'_>, at: &At<'_>) -> Option<Kind> {
    const WRITE: &str = "write group: \"\" and kind: Service";
    let mut text = |name| match fields.take(name) {
        Some(at) => at.text().map(Some),
        None => Some(None),
    };
    let (group, kind) = (text("group")?, text("kind")?);
    Some(match (group, kind) {
        (Some("" | "core"), Some("Service")) => Kind::Service,
        (None, None) => {
            at.warn(
                "has neither group nor kind, which means a Gateway elsewhere and a Service here",
                WRITE,
            );
            Kind::Service
        }
        (None, Some("Service")) | (Some("" | "core"), None) => {
            at.warn(
                "says half of what it is for, which means no Service elsewhere and one here",
                WRITE,
            );
            Kind::Service
        }
        (Some(GATEWAY_GROUP) | None, Some("Gateway")) | (Some(GATEWAY_GROUP), None) => {
            Kind::Gateway
        }
        (Some(POLICY_GROUP), Some("Server")) => Kind::Server,
        (Some(POLICY_GROUP), Some("EgressNetwork")) => Kind::EgressNetwork,
        _ => Kind::Other,
    })
}

/// Points at a parent that routes have no effect on; whether it may be written at all.
fn foreign(kind: &Kind, port: Option<u16>, at: &At<'_>) -> bool {
    let (message, remedy) = match kind {
        // Linkerd's rule.
        Kind::EgressNetwork if port.is_none() => {
            let message = "names an EgressNetwork without a port";
            return at.refuse::<()>(message, "write the port").is_some();
        }
        Kind::EgressNetwork => (
            "names an EgressNetwork: the route is NOT ENFORCED in this version",
            "calls to names outside the mesh are refused",
        ),
        Kind::Server => (
            "names a Server: the route is NOT ENFORCED in this version",
            "leave the route out, and put who may call in an AuthorizationPolicy on the Server",
        ),
        Kind::Gateway => (
            "names a Gateway, which this version does not serve: the route does not govern its requests",
            "name the Service that clients of the mesh call as well",
        ),
        Kind::Service | Kind::Other => (
            "names a kind that no route has an effect on here",
            "name a Service",
        ),
    };
    at.warn(message, remedy);
    true
}
