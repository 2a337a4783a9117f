//! gateway.networking.k8s.io `GRPCRoute`, as its schema and Linkerd's webhook read it.

use super::super::fields::{At, each, repeated};
use super::super::http_route::{backends, filters, headers, hostnames, parents};
use super::super::resilience;
use super::Object;
use crate::route::pattern::Pattern;

/// Gateway API's limits.
const MOST_RULES: usize = 16;
const MOST_MATCHES: usize = 64;
const MOST_FILTERS: usize = 16;

pub(super) fn check(object: &Object<'_>) -> Option<()> {
    resilience::read(&object.metadata);
    let mut fields = object.spec.fields();
    let parents = parents(&object.meta, &mut fields, &object.spec);
    let rules = fields.items("rules", MOST_RULES);
    hostnames(&mut fields, parents.as_deref())?;
    fields.pass(&["useDefaultGateways"]);
    fields.finish();
    let names = each(&rules, |at| rule(object, at))?;
    let named: Vec<_> = names.iter().flatten().collect();
    match repeated(&named) {
        None => Some(()),
        Some(index) => object.spec.refuse(
            format!("has two rules with the name {:?}", named[index]),
            "give each rule a name of its own",
        ),
    }
}

/// Gives the name of the rule, if it has one.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether it could be read"
)]
fn rule(object: &Object<'_>, at: &At<'_>) -> Option<Option<String>> {
    let mut fields = at.fields();
    let name = fields.take("name").map(|at| at.object_name());
    let matches = fields.items("matches", MOST_MATCHES);
    let filters_at = fields.take("filters");
    let references = fields.take("backendRefs");
    fields.pass(&["sessionPersistence"]);
    fields.finish();
    each(&matches, one_match)?;
    if let Some(at) = filters_at {
        each(&at.list(MOST_FILTERS)?, kind_of_filter)?;
        filters::read(&at, filters::Place::Backend)?;
    }
    if let Some(at) = references {
        backends(&object.meta, &at)?;
    }
    match name {
        Some(name) => name.map(Some),
        None => Some(None),
    }
}

/// The types that gRPC has of HTTP's.
fn kind_of_filter(at: &At<'_>) -> Option<()> {
    let kinds = [
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "ExtensionRef",
    ];
    let kind = at.fields().take("type");
    kind.map_or(Some(()), |at| at.one_of(&kinds.map(|name| (name, ()))))
}

fn one_match(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let method = fields.narrowing("method");
    let read = headers(&mut fields);
    fields.finish();
    if let Some(at) = method {
        method_match(&at)?;
    }
    read.map(drop)
}

fn method_match(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let exact = match fields.take("type") {
        Some(at) => at.one_of(&[("Exact", true), ("RegularExpression", false)])?,
        None => true,
    };
    let service = fields.take("service");
    let method = fields.take("method");
    fields.finish();
    let said = |at: &Option<At<'_>>| at.as_ref().is_some_and(|at| at.text() != Some(""));
    if !said(&service) && !said(&method) {
        return at.refuse("names no method", "write service, method or both");
    }
    if let Some(at) = &service {
        name(at, exact, |text| {
            let rest = text.strip_prefix('.').unwrap_or(text);
            rest.split('.').all(is_identifier)
        })?;
    }
    match &method {
        Some(at) => name(at, exact, is_identifier),
        None => Some(()),
    }
}

fn name(at: &At<'_>, exact: bool, fits: impl Fn(&str) -> bool) -> Option<()> {
    let text = at.text()?;
    if exact {
        return match text.is_empty() || fits(text) {
            true => Some(()),
            false => at.refuse("is no name of gRPC", "write letters, digits and '_'"),
        };
    }
    match Pattern::new(text) {
        Ok(_) => Some(()),
        Err(error) => at.refuse(error, "correct it"),
    }
}

fn is_identifier(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
