//! gateway.networking.k8s.io `HTTPRoute` on Services (GAMMA, GEP-1426).

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::fields::{At, Fields};
use super::meta::Meta;
use crate::duration;
use crate::name::ServiceName;
use crate::plan::outbound::{HeaderPlan, MatchPlan, PathPlan};

/// Gateway API's limits on lists.
const MOST_PARENTS: usize = 32;
const MOST_RULES: usize = 16;
const MOST_MATCHES: usize = 64;
const MOST_HEADERS: usize = 16;
const MOST_BACKENDS: usize = 16;
const MOST_WEIGHT: i128 = 1_000_000;

/// Rules for requests to services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// The services it governs.
    pub parents: Vec<Parent>,
    /// Its rules in their written order.
    pub rules: Vec<RouteRule>,
}

/// A service that a route governs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The service.
    pub service: ServiceName,
    /// The one port it governs; all of them without it.
    pub port: Option<u16>,
}

/// What happens to requests that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    /// The rule's name, if it has one.
    pub name: Option<String>,
    /// Any of these selects it; none at all selects everything.
    pub matches: Vec<MatchPlan>,
    /// Where requests go; empty is answered 500.
    pub backends: Vec<BackendRef>,
    /// From the call to the end of the response headers.
    pub request_timeout: Option<Duration>,
}

/// One backend and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendRef {
    /// The service.
    pub service: ServiceName,
    /// Its logical port; without one, the service's only port.
    pub port: Option<u16>,
    /// Its share over the sum of all.
    pub weight: u32,
}

pub(super) fn read(meta: &Meta, at: &At<'_>) -> Option<HttpRoute> {
    let mut fields = at.fields();
    let parents = fields.need("parentRefs", "name the Service that the route is for");
    let rules = fields.need("rules", "write at least one rule with backendRefs");
    if let Some(at) = fields.take("hostnames")
        && !at.list(16).is_empty()
    {
        at.refuse::<()>(
            "has no meaning on a Service: requests are governed by the service they call",
            "leave it out",
        );
    }
    fields.finish();
    let parents: Vec<_> = parents?
        .list(MOST_PARENTS)
        .iter()
        .map(|at| parent(meta, at))
        .collect();
    let rules: Vec<_> = rules?
        .list(MOST_RULES)
        .iter()
        .map(|at| rule(meta, at))
        .collect();
    Some(HttpRoute {
        parents: parents.into_iter().collect::<Option<_>>()?,
        rules: rules.into_iter().collect::<Option<_>>()?,
    })
}

/// The service that a reference names, in its own namespace or that of `meta`.
fn service(meta: &Meta, fields: &mut Fields<'_>) -> Option<ServiceName> {
    let name = fields
        .need("name", "name the Service")
        .and_then(|at| at.parse());
    let namespace = match fields.take("namespace") {
        Some(at) => at.parse(),
        None => Some(meta.namespace.clone()),
    };
    Some(ServiceName {
        name: name?,
        namespace: namespace?,
    })
}

fn parent(meta: &Meta, at: &At<'_>) -> Option<Parent> {
    let mut fields = at.fields();
    let group = fields.take("group");
    let kind = fields.take("kind");
    if group.is_none() && kind.is_none() {
        at.warn(
            "has neither group nor kind, which means a Gateway elsewhere and a Service here",
            "write group: \"\" and kind: Service",
        );
    }
    let is_service = kind
        .as_ref()
        .is_none_or(|kind| kind.text() == Some("Service"))
        && group
            .as_ref()
            .is_none_or(|group| matches!(group.text(), Some("" | "core")));
    if !is_service {
        return at.refuse(
            "names something that routes cannot be attached to here",
            "write group: \"\" and kind: Service",
        );
    }
    let service = service(meta, &mut fields);
    let port = match fields.take("port") {
        Some(at) => Some(at.port()?),
        None => None,
    };
    fields.not_yet(&["sectionName"]);
    fields.finish();
    Some(Parent {
        service: service?,
        port,
    })
}

fn rule(meta: &Meta, at: &At<'_>) -> Option<RouteRule> {
    let mut fields = at.fields();
    let name = fields
        .take("name")
        .and_then(|at| at.text())
        .map(ToOwned::to_owned);
    let matches = fields
        .take("matches")
        .map(|at| at.list(MOST_MATCHES))
        .unwrap_or_default();
    let backends = fields
        .take("backendRefs")
        .map(|at| at.list(MOST_BACKENDS))
        .unwrap_or_default();
    let timeouts = fields.take("timeouts");
    if let Some(filters) = fields.take("filters")
        && !filters.list(16).is_empty()
    {
        filters.refuse::<()>("is not supported in this version", "leave it out");
    }
    fields.not_yet(&["retry", "sessionPersistence"]);
    fields.finish();
    let request_timeout = match timeouts {
        Some(at) => timeout(&at)?,
        None => None,
    };
    let matches: Vec<_> = matches.iter().map(one_match).collect();
    let backends: Vec<_> = backends.iter().map(|at| backend(meta, at)).collect();
    Some(RouteRule {
        name,
        matches: matches.into_iter().collect::<Option<_>>()?,
        backends: backends.into_iter().collect::<Option<_>>()?,
        request_timeout,
    })
}

/// GEP-1742: a zero duration switches the limit off.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether it could be read"
)]
fn timeout(at: &At<'_>) -> Option<Option<Duration>> {
    let mut fields = at.fields();
    let request = fields.take("request");
    fields.not_yet(&["backendRequest"]);
    fields.finish();
    let Some(at) = request else {
        return Some(None);
    };
    match duration::parse(at.text()?) {
        Ok(limit) => Some(Some(limit).filter(|limit| !limit.is_zero())),
        Err(error) => at.refuse(error, ""),
    }
}

fn one_match(at: &At<'_>) -> Option<MatchPlan> {
    let mut fields = at.fields();
    let path = fields.take("path");
    let method = fields.take("method");
    let headers = fields
        .take("headers")
        .map(|at| at.list(MOST_HEADERS))
        .unwrap_or_default();
    if let Some(at) = fields.take("queryParams")
        && !at.list(16).is_empty()
    {
        at.refuse::<()>(
            "is not supported in this version",
            "match on path, headers or method",
        );
    }
    fields.finish();
    let path = match path {
        Some(at) => Some(path_match(&at)?),
        None => None,
    };
    let method = match method {
        Some(at) => Some(method_match(&at)?),
        None => None,
    };
    let headers: Vec<_> = headers.iter().map(header_match).collect();
    Some(MatchPlan {
        path,
        method,
        headers: headers.into_iter().collect::<Option<_>>()?,
    })
}

fn method_match(at: &At<'_>) -> Option<String> {
    const METHODS: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    at.one_of(&METHODS.map(|method| (method, method)))
        .map(ToOwned::to_owned)
}

/// How a value is compared; `None` for what this version does not do.
fn comparison(fields: &mut Fields<'_>, known: &[(&'static str, Option<bool>)]) -> Option<bool> {
    let Some(at) = fields.take("type") else {
        return Some(false);
    };
    let supported = at.one_of(known)?;
    if supported.is_none() {
        return at.refuse(
            "RegularExpression is not supported in this version",
            "compare with Exact or PathPrefix",
        );
    }
    supported
}

fn path_match(at: &At<'_>) -> Option<PathPlan> {
    let mut fields = at.fields();
    let kinds = [
        ("PathPrefix", Some(false)),
        ("Exact", Some(true)),
        ("RegularExpression", None),
    ];
    let exact = comparison(&mut fields, &kinds);
    let value = fields.take("value");
    fields.finish();
    let exact = exact?;
    let Some(at) = value else {
        return Some(PathPlan::Prefix("/".to_owned()));
    };
    let path = at.text()?;
    let refused = !path.starts_with('/')
        || ["//", "/./", "/../", "%2f", "%2F", "#", "?"]
            .iter()
            .any(|part| path.contains(part))
        || path.ends_with("/..")
        || path.ends_with("/.")
        || path.bytes().any(|b| !(0x21..0x7f).contains(&b));
    if refused {
        return at.refuse(
            format!("{path:?} is a path that no request has"),
            "write an absolute path without '//', '.' or '..' segments, query or fragment",
        );
    }
    let path = path.to_owned();
    Some(if exact {
        PathPlan::Exact(path)
    } else {
        PathPlan::Prefix(path)
    })
}

fn header_match(at: &At<'_>) -> Option<HeaderPlan> {
    let mut fields = at.fields();
    let kinds = [("Exact", Some(true)), ("RegularExpression", None)];
    let compared = comparison(&mut fields, &kinds);
    let name = fields.need("name", "name the header");
    let value = fields.need("value", "write the value that it must have");
    fields.finish();
    compared?;
    let (name, value) = (name?, value?);
    let Ok(header) = HeaderName::from_bytes(name.text()?.as_bytes()) else {
        return name.refuse("is no name of a header", "write letters, digits and '-'");
    };
    let text = value.text()?;
    if HeaderValue::from_str(text).is_err() {
        return value.refuse("holds what no header can", "write visible characters");
    }
    Some(HeaderPlan {
        name: header.as_str().to_owned(),
        exact: text.to_owned(),
    })
}

fn backend(meta: &Meta, at: &At<'_>) -> Option<BackendRef> {
    let mut fields = at.fields();
    for (name, expected) in [("group", ""), ("kind", "Service")] {
        if let Some(at) = fields.take(name)
            && at.text()? != expected
        {
            return at.refuse(
                "names something other than a Service",
                format!("write {expected:?}"),
            );
        }
    }
    let service = service(meta, &mut fields);
    let port = match fields.take("port") {
        Some(at) => Some(at.port()?),
        None => {
            at.warn(
                "has no port, which means the service's only port",
                "write the port",
            );
            None
        }
    };
    let weight = match fields.take("weight") {
        Some(at) => at.integer(0..=MOST_WEIGHT)?,
        None => 1,
    };
    if let Some(filters) = fields.take("filters")
        && !filters.list(16).is_empty()
    {
        filters.refuse::<()>("is not supported in this version", "leave it out");
    }
    fields.finish();
    Some(BackendRef {
        service: service?,
        port,
        weight: u32::try_from(weight).ok()?,
    })
}
