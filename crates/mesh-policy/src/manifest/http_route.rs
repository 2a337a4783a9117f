//! gateway.networking.k8s.io `HTTPRoute` on Services (GAMMA, GEP-1426).

mod filters;
mod limits;
mod matches;

pub use limits::{RuleRetry, RuleTimeouts};

use super::fields::{At, Fields, each, repeated};
use super::meta::Meta;
use super::resilience::{self, Resilience};
use crate::name::ServiceName;
use crate::plan::outbound::{FilterPlan, MatchPlan};

/// Gateway API's limits on lists.
const MOST_PARENTS: usize = 32;
const MOST_RULES: usize = 16;
const MOST_MATCHES: usize = 64;
const MOST_MATCHES_OF_ALL_RULES: usize = 128;
const MOST_BACKENDS: usize = 16;
const MOST_WEIGHT: i128 = 1_000_000;

/// Rules for requests to services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// The services it governs; never empty, none twice.
    pub parents: Vec<Parent>,
    /// Its rules in their written order; never empty.
    pub rules: Vec<RouteRule>,
    /// What its annotations say of all its rules.
    pub resilience: Resilience,
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
    /// What is done on the way.
    pub filters: Vec<FilterPlan>,
    /// Where requests go; empty means the service itself (GEP-1426).
    pub backends: Vec<BackendRef>,
    /// How long things may take.
    pub timeouts: RuleTimeouts,
    /// What is tried again, if it says anything of that.
    pub retry: Option<RuleRetry>,
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
    /// What is done on the way to it.
    pub filters: Vec<FilterPlan>,
}

pub(super) fn read(meta: &Meta, at: &At<'_>, metadata: &At<'_>) -> Option<HttpRoute> {
    let resilience = resilience::read(metadata);
    let mut fields = at.fields();
    let parents = fields.need_items(
        "parentRefs",
        MOST_PARENTS,
        "name the Service that the route is for",
    );
    let rules = fields.need("rules", "write at least one rule with backendRefs");
    if let Some(at) = fields.take("hostnames")
        && at.list(16).is_some_and(|names| !names.is_empty())
    {
        at.refuse::<()>(
            "has no meaning on a Service: requests are governed by the service they call",
            "leave it out",
        );
    }
    fields.finish();
    let parents = parents.and_then(|items| {
        let parents = each(&items, |at| parent(meta, at))?;
        let keys = parents.iter().map(|one| (one.service.clone(), one.port));
        match repeated(keys) {
            None => Some(parents),
            Some(index) => items[index].refuse("names the same parent again", "leave it out"),
        }
    });
    let rules = rules.and_then(|at| all_rules(meta, &at));
    Some(HttpRoute {
        parents: parents?,
        rules: rules?,
        resilience,
    })
}

fn all_rules(meta: &Meta, at: &At<'_>) -> Option<Vec<RouteRule>> {
    let items = at.list(MOST_RULES)?;
    if items.is_empty() {
        // Gateway API would answer every request 404.
        return at.refuse("is empty", "write at least one rule with backendRefs");
    }
    let rules = each(&items, |at| rule(meta, at))?;
    let matches: usize = rules.iter().map(|rule| rule.matches.len()).sum();
    if matches > MOST_MATCHES_OF_ALL_RULES {
        return at.refuse(
            format!("has {matches} matches in all"),
            format!("write at most {MOST_MATCHES_OF_ALL_RULES}, or a second route"),
        );
    }
    let named: Vec<_> = rules.iter().filter_map(|rule| rule.name.as_ref()).collect();
    if let Some(index) = repeated(&named) {
        return at.refuse(
            format!("has two rules with the name {:?}", named[index]),
            "give each rule a name of its own",
        );
    }
    Some(rules)
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

/// The logical port that a reference may name; the outer `None` is a mistake.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether it could be read"
)]
fn port(fields: &mut Fields<'_>) -> Option<Option<u16>> {
    match fields.take("port") {
        Some(at) => at.port().map(Some),
        None => Some(None),
    }
}

fn parent(meta: &Meta, at: &At<'_>) -> Option<Parent> {
    const WRITE: &str = "write group: \"\" and kind: Service";
    let mut fields = at.fields();
    let group = match fields.take("group") {
        Some(at) => Some(at.text()?),
        None => None,
    };
    let kind = match fields.take("kind") {
        Some(at) => Some(at.text()?),
        None => None,
    };
    match (group, kind) {
        (Some("" | "core"), Some("Service")) => {}
        (None, None) => at.warn(
            "has neither group nor kind, which means a Gateway elsewhere and a Service here",
            WRITE,
        ),
        (None, Some("Service")) | (Some("" | "core"), None) => at.warn(
            "says half of what it is for, which means no Service elsewhere and one here",
            WRITE,
        ),
        _ => {
            return at.refuse(
                "names something that routes cannot be attached to here",
                WRITE,
            );
        }
    }
    let service = service(meta, &mut fields);
    let port = port(&mut fields);
    fields.not_yet(&["sectionName"]);
    fields.finish();
    Some(Parent {
        service: service?,
        port: port?,
    })
}

fn rule(meta: &Meta, at: &At<'_>) -> Option<RouteRule> {
    let mut fields = at.fields();
    let name = fields.take("name").map(|at| at.object_name());
    let matches = fields.items("matches", MOST_MATCHES);
    let references = fields.take("backendRefs");
    let timeouts = fields.take("timeouts");
    let retry = fields.take("retry");
    let filters = fields.take("filters");
    fields.not_yet(&["sessionPersistence"]);
    fields.finish();
    let timeouts = match timeouts {
        Some(at) => limits::timeouts(&at),
        None => Some(RuleTimeouts::default()),
    };
    let retry = retry.map(|at| limits::retry(&at));
    let matches = each(&matches, matches::read);
    let filters = filters.map_or(Some(Vec::new()), |at| {
        filters::of_rule(&at, matches.as_deref())
    });
    let redirects = filters
        .iter()
        .flatten()
        .any(|f| matches!(f, FilterPlan::Redirect(_)));
    let backends = match references {
        Some(at) if redirects => at.refuse(
            "stands beside a redirect, which sends nothing on",
            "leave one of them out",
        ),
        Some(at) => backends(meta, &at),
        None => Some(Vec::new()),
    };
    Some(RouteRule {
        name: match name {
            Some(name) => Some(name?),
            None => None,
        },
        matches: matches?,
        filters: filters?,
        backends: backends?,
        timeouts: timeouts?,
        retry: match retry {
            Some(retry) => Some(retry?),
            None => None,
        },
    })
}

fn backends(meta: &Meta, at: &At<'_>) -> Option<Vec<BackendRef>> {
    let items = at.list(MOST_BACKENDS)?;
    let backends = each(&items, |at| backend(meta, at))?;
    if !backends.is_empty() && backends.iter().all(|backend| backend.weight == 0) {
        at.warn(
            "gives every backend the weight 0, so that requests are answered 500",
            "give one a weight",
        );
    }
    Some(backends)
}

fn backend(meta: &Meta, at: &At<'_>) -> Option<BackendRef> {
    let mut fields = at.fields();
    for (name, known, remedy) in [
        ("group", ["", "core"], "write group: \"\""),
        ("kind", ["Service", "Service"], "write kind: Service"),
    ] {
        if let Some(at) = fields.take(name)
            && !known.contains(&at.text()?)
        {
            return at.refuse("names something other than a Service", remedy);
        }
    }
    let service = service(meta, &mut fields);
    let port = port(&mut fields);
    let weight = match fields.take("weight") {
        Some(at) => at.integer(0..=MOST_WEIGHT),
        None => Some(1),
    };
    let filters = fields.take("filters");
    let filters = filters.map_or(Some(Vec::new()), |at| filters::of_backend(&at));
    fields.finish();
    let (service, port) = (service?, port?);
    if port.is_none() {
        at.warn(
            "has no port, which means the service's only port",
            "write the port",
        );
    }
    if service.namespace != meta.namespace {
        at.warn(
            format!(
                "is in the namespace {}, which no ReferenceGrant opens here, so that its share is answered 500",
                service.namespace
            ),
            format!("name a Service of {}", meta.namespace),
        );
    }
    Some(BackendRef {
        service,
        port,
        weight: u32::try_from(weight?).ok()?,
        filters: filters?,
    })
}
