//! policy.linkerd.io `HTTPLocalRateLimitPolicy`, as Linkerd's webhook reads it.

use super::super::fields::{At, each};
use super::{Object, reference};

const MOST_OVERRIDES: usize = 256;
const MOST_CLIENTS: usize = 256;

pub(super) fn check(object: &Object<'_>) -> Option<()> {
    let mut fields = object.spec.fields();
    let target = fields.need("targetRef", "name the Server");
    let total = fields.take("total");
    let identity = fields.take("identity");
    let overrides = fields.items("overrides", MOST_OVERRIDES);
    fields.finish();
    let mut target = target?.fields();
    let named = reference(&mut target, ("policy.linkerd.io", "Server"));
    target.finish();
    named?;
    let most = match total {
        Some(at) => Some(rate(&at, None)?),
        None => None,
    };
    if let Some(at) = identity {
        rate(&at, most)?;
    }
    each(&overrides, |at| one(at, most)).map(drop)
}

/// `requestsPerSecond`, more than nothing and at most that of all clients.
fn rate(at: &At<'_>, most: Option<i128>) -> Option<i128> {
    let mut fields = at.fields();
    let rate = fields.need("requestsPerSecond", "write a whole number");
    fields.finish();
    bounded(&rate?, most)
}

fn bounded(at: &At<'_>, most: Option<i128>) -> Option<i128> {
    let rate = at.integer(1..=i128::from(u32::MAX))?;
    match most {
        Some(most) if rate > most => at.refuse(
            format!("is more than the {most} of spec.total"),
            "write at most as much",
        ),
        _ => Some(rate),
    }
}

fn one(at: &At<'_>, most: Option<i128>) -> Option<()> {
    let mut fields = at.fields();
    let rate = fields.need("requestsPerSecond", "write a whole number");
    let clients = fields.need("clientRefs", "name the ServiceAccounts");
    fields.finish();
    bounded(&rate?, most)?;
    let clients = clients?.list(MOST_CLIENTS)?;
    each(&clients, |at| {
        let mut fields = at.fields();
        fields.pass(&["namespace"]);
        let named = reference(&mut fields, ("", "ServiceAccount"));
        fields.finish();
        named
    })
    .map(drop)
}
