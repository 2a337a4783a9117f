//! linkerd.io `ServiceProfile`, as Linkerd's webhook reads it.

use super::super::fields::{At, Fields, cut, each};
use super::Object;
use crate::route::pattern::Pattern;

const MOST_ROUTES: usize = 1_000;
const MOST_ITEMS: usize = 256;
const STATUSES: std::ops::RangeInclusive<i128> = 100..=599;

pub(super) fn check(object: &Object<'_>) -> Option<()> {
    if !object.meta.name.contains('.') {
        return object.metadata.refuse(
            "has a name that is no full name of a service",
            "write one such as api.shop.svc.cluster.local",
        );
    }
    let mut fields = object.spec.fields();
    let routes = fields.items("routes", MOST_ROUTES);
    let budget = fields.take("retryBudget");
    let overrides = fields.items("dstOverrides", MOST_ITEMS);
    let ports = fields.items("opaquePorts", MOST_ITEMS);
    fields.finish();
    let routes = each(&routes, route);
    if let Some(at) = budget {
        retry_budget(&at)?;
    }
    each(&overrides, |at| {
        let mut fields = at.fields();
        let authority = fields.need("authority", "name the service");
        fields.need("weight", "give it a share")?;
        fields.finish();
        authority?.text().map(drop)
    })?;
    each(&ports, |at| at.text().map(drop))?;
    routes.map(drop)
}

fn route(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let name = fields.need("name", "name the route");
    let condition = fields.need("condition", "write method, pathRegex or both");
    let classes = fields.items("responseClasses", MOST_ITEMS);
    let retryable = fields.take("isRetryable");
    let timeout = fields.take("timeout");
    fields.finish();
    let read = condition.map(|at| request(&at));
    each(&classes, response_class)?;
    if let Some(at) = retryable {
        at.boolean()?;
    }
    if let Some(at) = timeout {
        time(&at)?;
    }
    name?.text()?;
    read?
}

/// The conditions that `all`, `any` and `not` hold, each read by `read`; how many there are.
fn nested(fields: &mut Fields<'_>, read: fn(&At<'_>) -> Option<()>) -> Option<usize> {
    let mut count = 0;
    for name in ["all", "any"] {
        let items = fields.items(name, MOST_ITEMS);
        count += items.len();
        each(&items, read)?;
    }
    if let Some(at) = fields.take("not") {
        count += 1;
        read(&at)?;
    }
    Some(count)
}

/// A condition on requests, which names something.
fn request(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let nested = nested(&mut fields, request)?;
    let method = fields.take("method");
    let path = fields.take("pathRegex");
    fields.finish();
    if nested == 0 && method.is_none() && path.is_none() {
        return at.refuse("matches nothing in particular", "write method or pathRegex");
    }
    if let Some(at) = method {
        at.text()?;
    }
    match path {
        None => Some(()),
        Some(at) => match Pattern::new(at.text()?) {
            Ok(_) => Some(()),
            Err(error) => at.refuse(error, "correct it"),
        },
    }
}

fn response_class(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let condition = fields.need("condition", "write status");
    let failure = fields.take("isFailure");
    fields.finish();
    if let Some(at) = failure {
        at.boolean()?;
    }
    response(&condition?)
}

/// A condition on responses, which names something.
fn response(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let nested = nested(&mut fields, response)?;
    let status = fields.take("status");
    fields.finish();
    match status {
        Some(at) => statuses(&at),
        None if nested == 0 => at.refuse("matches nothing in particular", "write status"),
        None => Some(()),
    }
}

fn statuses(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let ends = ["min", "max"].map(|name| fields.take(name));
    fields.finish();
    let [min, max] = ends.map(|end| end.map(|at| at.integer(STATUSES)));
    match (min, max) {
        (Some(min), Some(max)) if min? > max? => {
            at.refuse("ends before it begins", "write a max that is at least min")
        }
        (Some(None), _) | (_, Some(None)) => None,
        _ => Some(()),
    }
}

fn retry_budget(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let ratio = fields.need("retryRatio", "write a number such as 0.2");
    let floor = fields.need("minRetriesPerSecond", "write a whole number");
    let ttl = fields.need("ttl", "write a time such as 10s");
    fields.finish();
    let (ratio, floor, ttl) = (ratio?, floor?, ttl?);
    if !ratio.number()?.is_sign_positive() {
        return ratio.refuse("is below zero", "write a number such as 0.2");
    }
    floor.integer(0..=i128::from(u32::MAX))?;
    time(&ttl)
}

/// Go's form of a time: numbers with units, such as `1m30s` or `1.5s`.
fn time(at: &At<'_>) -> Option<()> {
    let text = at.text()?;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
        let after = digits.filter(|at| *at > 0).map(|at| &rest[at..]);
        let next = after.and_then(|unit| {
            let mut known = units.iter();
            known.find_map(|known| unit.strip_prefix(known))
        });
        let Some(next) = next else {
            return at.refuse(
                format!("{:?} is no time", cut(text)),
                "write one such as 10s",
            );
        };
        rest = next;
    }
    match text {
        "" => at.refuse("is no time", "write one such as 10s"),
        _ => Some(()),
    }
}
