//! split.smi-spec.io `TrafficSplit`, v1alpha1 to v1alpha4 without matches.

mod quantity;

use super::fields::{At, cut, each, repeated};
use super::meta::Meta;
use crate::name::{Label, ServiceName};

const MOST_BACKENDS: usize = 64;

/// A service's requests, divided between others of its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficSplit {
    /// The service that clients call.
    pub service: ServiceName,
    /// The services that answer, and their shares; never empty, no service twice.
    pub backends: Vec<(ServiceName, u32)>,
}

pub(super) fn read(meta: &Meta, at: &At<'_>) -> Option<TrafficSplit> {
    let mut fields = at.fields();
    let service = fields.need("service", "name the service that clients call");
    let list = fields.need("backends", "name the services that answer");
    if matches!(
        meta.api_version.as_str(),
        "split.smi-spec.io/v1alpha3" | "split.smi-spec.io/v1alpha4"
    ) {
        fields.not_yet(&["matches"]);
    }
    fields.finish();
    let read: fn(&At<'_>) -> Option<u128> = match meta.api_version.as_str() {
        "split.smi-spec.io/v1alpha1" => quantity::read,
        _ => whole,
    };
    let service = service.and_then(|at| service_name(meta, &at));
    let list = list?;
    let items = list.list(MOST_BACKENDS)?;
    if items.is_empty() {
        return list.refuse("is empty", "name the services that answer");
    }
    let shares = each(&items, |at| backend(meta, at, read))?;
    if let Some(index) = repeated(shares.iter().map(|(service, _)| service)) {
        return items[index].refuse("names the same service again", "give it one share");
    }
    let weights: Vec<_> = shares.iter().map(|(_, weight)| *weight).collect();
    let Some(weights) = quantity::whole_numbers(&weights) else {
        return list.refuse(
            "has shares whose ratio no two numbers of 32 bits have",
            "write smaller or rounder numbers",
        );
    };
    if weights.iter().all(|weight| *weight == 0) {
        list.warn(
            "gives every backend the weight 0, so that requests are answered 500",
            "give one a weight",
        );
    }
    let services = shares.into_iter().map(|(service, _)| service);
    Some(TrafficSplit {
        service: service?,
        backends: services.zip(weights).collect(),
    })
}

/// The weight of a version later than v1alpha1.
fn whole(at: &At<'_>) -> Option<u128> {
    let weight = at.integer(0..=i128::from(u32::MAX))?;
    u128::try_from(weight)
        .ok()
        .map(|weight| weight * quantity::BILLIONTHS)
}

/// `api`, `api.ns` or the full name; a split stays within its namespace.
fn service_name(meta: &Meta, at: &At<'_>) -> Option<ServiceName> {
    let text = at.text()?;
    let found = match (
        text.parse::<Label>(),
        text.strip_suffix(".svc.cluster.local"),
    ) {
        (Ok(name), _) => Some(ServiceName {
            name,
            namespace: meta.namespace.clone(),
        }),
        (Err(_), short) => short.unwrap_or(text).parse().ok(),
    };
    match found {
        Some(service) if service.namespace == meta.namespace => Some(service),
        Some(_) => at.refuse(
            "is in another namespace than the split",
            "split services of one namespace",
        ),
        None => at.refuse(
            format!("{:?} is no service", cut(text)),
            "write its name, such as api",
        ),
    }
}

fn backend(
    meta: &Meta,
    at: &At<'_>,
    read: fn(&At<'_>) -> Option<u128>,
) -> Option<(ServiceName, u128)> {
    let mut fields = at.fields();
    let service = fields.need("service", "name the service");
    let weight = fields.need("weight", "give it a share");
    fields.finish();
    let service = service.and_then(|at| service_name(meta, &at));
    let weight = weight.and_then(|at| read(&at));
    Some((service?, weight?))
}
