//! gateway.networking.k8s.io `HTTPRoute` on Services (GAMMA, GEP-1426).

pub(super) mod filters;
mod limits;
mod matches;
mod parent;

pub use limits::{RuleRetry, RuleTimeouts};
pub use parent::Parent;

use filters::{Filters, Place};
pub(super) use matches::headers;
pub(super) use parent::parents;

use super::fields::{At, Fields, cut, each, repeated};
use super::meta::Meta;
use super::resilience::{self, Resilience};
use crate::filter::is_host;
use crate::name::ServiceName;
use crate::plan::outbound::{FilterPlan, MatchPlan};

/// Gateway API's limits on lists.
const MOST_RULES: usize = 16;
const MOST_MATCHES: usize = 64;
const MOST_MATCHES_OF_ALL_RULES: usize = 128;
const MOST_BACKENDS: usize = 16;
const MOST_HOSTNAMES: usize = 16;
const MOST_WEIGHT: i128 = 1_000_000;

/// Rules for requests to services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// The services it governs, none twice; empty where only other kinds are named.
    pub parents: Vec<Parent>,
    /// Its rules in their written order; without any, no request matches.
    pub rules: Vec<RouteRule>,
    /// What its annotations say of all its rules.
    pub resilience: Resilience,
}

/// What happens to requests that match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteRule {
    /// The rule's name, if it has one.
    pub name: Option<String>,
    /// Any of these selects it; none at all selects everything.
    pub matches: Vec<MatchPlan>,
    /// What is done on the way.
    pub filters: Vec<FilterPlan>,
    /// The type of a filter that this version does not have: requests of the rule are answered
    /// 500, since Gateway API lets no filter be skipped.
    pub unsupported: Option<&'static str>,
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
    /// Why its share is answered 500 whatever the service is.
    pub unusable: Option<Unusable>,
}

/// What makes a backend one that no request can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Its kind, which is not Service.
    Kind(String),
    /// The type of a filter that this version does not have on backends.
    Filter(&'static str),
}

pub(super) fn read(meta: &Meta, at: &At<'_>, metadata: &At<'_>) -> Option<HttpRoute> {
    let resilience = resilience::read(metadata);
    let mut fields = at.fields();
    let parents = parents(meta, &mut fields, at);
    let rules = fields.take("rules");
    let hostnames = hostnames(&mut fields, parents.as_deref());
    fields.without_effect(&["useDefaultGateways"], "this version serves no Gateway");
    fields.finish();
    let rules = match rules {
        Some(at) => all_rules(meta, &at),
        // Gateway API's default.
        None => Some(vec![RouteRule::default()]),
    };
    hostnames?;
    Some(HttpRoute {
        parents: parents?,
        rules: rules?,
        resilience,
    })
}

/// Hostnames select requests to a Gateway; towards Services they mean nothing (GEP-1426).
pub(super) fn hostnames(fields: &mut Fields<'_>, parents: Option<&[Parent]>) -> Option<()> {
    let Some(at) = fields.take("hostnames") else {
        return Some(());
    };
    let names = at.list(MOST_HOSTNAMES)?;
    each(&names, |at| {
        let name = at.text()?;
        if is_host(name.strip_prefix("*.").unwrap_or(name)) {
            return Some(());
        }
        at.refuse(
            format!("{:?} is no host name", cut(name)),
            "write lower-case labels with dots between them, such as *.example.com",
        )
    })?;
    if !names.is_empty() && parents.is_some_and(|parents| !parents.is_empty()) {
        at.warn(
            "has no effect on a Service: requests are governed by the service they call",
            "leave it out",
        );
    }
    Some(())
}

fn all_rules(meta: &Meta, at: &At<'_>) -> Option<Vec<RouteRule>> {
    let items = at.list(MOST_RULES)?;
    if items.is_empty() {
        at.warn(
            "is empty, so that every request is answered 404",
            "write at least one rule with backendRefs",
        );
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

fn rule(meta: &Meta, at: &At<'_>) -> Option<RouteRule> {
    let mut fields = at.fields();
    let name = fields.take("name").map(|at| at.object_name());
    let matches = fields.items("matches", MOST_MATCHES);
    let references = fields.take("backendRefs");
    let timeouts = fields.take("timeouts");
    let retry = fields.take("retry");
    let filters = fields.take("filters");
    fields.without_effect(
        &["sessionPersistence"],
        "each request picks its endpoint independently",
    );
    fields.finish();
    let timeouts = match timeouts {
        Some(at) => limits::timeouts(&at),
        None => Some(RuleTimeouts::default()),
    };
    let retry = retry.map(|at| limits::retry(&at));
    let matches = each(&matches, matches::read);
    let filters = filters.map_or(Some(Filters::default()), |at| {
        filters::read(&at, Place::Rule(matches.as_deref()))
    });
    let redirects = filters.as_ref().is_some_and(Filters::redirects);
    let backends = match references {
        Some(at) if redirects && at.list(MOST_BACKENDS).is_some_and(|refs| !refs.is_empty()) => at
            .refuse(
                "stands beside a redirect, which sends nothing on",
                "leave one of them out",
            ),
        Some(at) => backends(meta, &at),
        None => Some(Vec::new()),
    };
    let filters = filters?;
    Some(RouteRule {
        name: match name {
            Some(name) => Some(name?),
            None => None,
        },
        matches: matches?,
        filters: filters.plans,
        unsupported: filters.unsupported,
        backends: backends?,
        timeouts: timeouts?,
        retry: match retry {
            Some(retry) => Some(retry?),
            None => None,
        },
    })
}

pub(super) fn backends(meta: &Meta, at: &At<'_>) -> Option<Vec<BackendRef>> {
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

/// The kind of a reference that names no Service.
fn foreign(fields: &mut Fields<'_>) -> Option<String> {
    let mut text = |name| fields.take(name).and_then(|at| at.text());
    let (group, kind) = (
        text("group").unwrap_or(""),
        text("kind").unwrap_or("Service"),
    );
    match (group, kind) {
        ("" | "core", "Service") => None,
        ("" | "core", kind) => Some(cut(kind)),
        (group, kind) => Some(format!("{}.{}", cut(kind), cut(group))),
    }
}

fn backend(meta: &Meta, at: &At<'_>) -> Option<BackendRef> {
    let mut fields = at.fields();
    let foreign = foreign(&mut fields);
    let service = service(meta, &mut fields);
    let port = port(&mut fields);
    let weight = match fields.take("weight") {
        Some(at) => at.integer(0..=MOST_WEIGHT),
        None => Some(1),
    };
    let filters = fields.take("filters");
    let filters = filters.map_or(Some(Filters::default()), |at| {
        filters::read(&at, Place::Backend)
    });
    fields.finish();
    let (service, port, filters) = (service?, port?, filters?);
    if let Some(kind) = &foreign {
        at.warn(
            format!("names a {kind}, and only Services are called here: its share is answered 500"),
            "name a Service",
        );
    } else if port.is_none() {
        at.warn(
            "has no port, which means the service's only port",
            "write the port",
        );
    }
    let kind = foreign.map(Unusable::Kind);
    Some(BackendRef {
        service,
        port,
        weight: u32::try_from(weight?).ok()?,
        filters: filters.plans,
        unusable: kind.or(filters.unsupported.map(Unusable::Filter)),
    })
}
