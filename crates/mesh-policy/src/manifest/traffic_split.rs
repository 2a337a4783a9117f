//! split.smi-spec.io `TrafficSplit`, v1alpha1 to v1alpha4 without matches.

use super::fields::At;
use super::meta::Meta;
use super::node::Value;
use crate::name::{Label, ServiceName};

const MOST_BACKENDS: usize = 64;
/// Quantities are counted in thousandths, so that `500m` is a whole number.
const MILLI: i128 = 1000;

/// A service's requests, divided between others of its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficSplit {
    /// The service that clients call.
    pub service: ServiceName,
    /// The services that answer, and their shares.
    pub backends: Vec<(ServiceName, u32)>,
}

pub(super) fn read(meta: &Meta, at: &At<'_>) -> Option<TrafficSplit> {
    let mut fields = at.fields();
    let service = fields.need("service", "name the service that clients call");
    let backends = fields.need("backends", "name the services that answer");
    if matches!(
        meta.api_version.as_str(),
        "split.smi-spec.io/v1alpha3" | "split.smi-spec.io/v1alpha4"
    ) {
        fields.not_yet(&["matches"]);
    }
    fields.finish();
    let quantities = meta.api_version == "split.smi-spec.io/v1alpha1";
    let service = service.and_then(|at| service_name(meta, &at));
    let backends = backends?.list(MOST_BACKENDS);
    let read: Vec<_> = backends
        .iter()
        .map(|at| backend(meta, at, quantities))
        .collect();
    let read: Vec<_> = read.into_iter().collect::<Option<_>>()?;
    Some(TrafficSplit {
        service: service?,
        backends: scale(read),
    })
}

/// `api`, `api.ns` or the full name; a split stays within its namespace.
fn service_name(meta: &Meta, at: &At<'_>) -> Option<ServiceName> {
    let text = at.text()?;
    let short = text.strip_suffix(".svc.cluster.local").unwrap_or(text);
    let found = match short.parse::<Label>() {
        Ok(name) => Some(ServiceName {
            name,
            namespace: meta.namespace.clone(),
        }),
        Err(_) => short.parse().ok(),
    };
    match found {
        Some(service) if service.namespace == meta.namespace => Some(service),
        Some(_) => at.refuse(
            "is in another namespace than the split",
            "split services of one namespace",
        ),
        None => at.refuse(
            format!("{text:?} is no service"),
            "write its name, such as api",
        ),
    }
}

fn backend(meta: &Meta, at: &At<'_>, quantities: bool) -> Option<(ServiceName, i128)> {
    let mut fields = at.fields();
    let service = fields.need("service", "name the service");
    let weight = fields.need("weight", "give it a share");
    fields.finish();
    let service = service_name(meta, &service?);
    let weight = weight?;
    let weight = if quantities {
        quantity(&weight)
    } else {
        weight
            .integer(0..=i128::from(u32::MAX))
            .map(|weight| weight * MILLI)
    };
    Some((service?, weight?))
}

/// A Kubernetes quantity in thousandths: `950`, `500m`, `1k`, `1.5`.
fn quantity(at: &At<'_>) -> Option<i128> {
    let written = match &at.node.value {
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        _ => at.text()?.to_owned(),
    };
    parse_quantity(&written)
        .filter(|thousandths| (0..=i128::from(u32::MAX) * MILLI).contains(thousandths))
        .or_else(|| {
            at.refuse(
                format!(
                    "{:?} is no weight",
                    written.chars().take(40).collect::<String>()
                ),
                "write a quantity such as 950, 500m or 1k",
            )
        })
}

fn parse_quantity(written: &str) -> Option<i128> {
    let digits = written
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(written.len());
    let (number, suffix) = written.split_at(digits);
    // In thousandths of a thousandth, so that `1.5m` can be told from `1m` and refused.
    let scale: i128 = match suffix {
        "m" => 1_000,
        "" => 1_000_000,
        "k" => 1_000_000_000,
        "M" => 1_000_000_000_000,
        "Ki" => 1_024_000_000,
        "Mi" => 1_048_576_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 15 || fraction.len() > 6 {
        return None;
    }
    let parse = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<i128>().ok()
        }
    };
    let tenth = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let millionths = parse(whole)? * scale + parse(fraction)? * scale / tenth;
    (millionths % 1_000 == 0).then_some(millionths / 1_000)
}

/// Whole numbers in the same ratios: thousandths where some share needs them and all fit.
fn scale(backends: Vec<(ServiceName, i128)>) -> Vec<(ServiceName, u32)> {
    let whole = backends
        .iter()
        .all(|(_, thousandths)| thousandths % MILLI == 0);
    let fits = backends
        .iter()
        .all(|(_, thousandths)| u32::try_from(*thousandths).is_ok());
    let unit = if whole || !fits { MILLI } else { 1 };
    let weight = |thousandths: i128| {
        // A share that is not zero stays one, however small beside a huge one.
        let least = i128::from(thousandths > 0);
        u32::try_from((thousandths / unit).max(least)).unwrap_or(u32::MAX)
    };
    backends
        .into_iter()
        .map(|(service, thousandths)| (service, weight(thousandths)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        let good = [
            ("950", 950_000),
            ("500m", 500),
            ("1k", 1_000_000),
            ("1.5", 1_500),
            ("0", 0),
            (".5", 500),
            ("2Ki", 2_048_000),
        ];
        for (written, thousandths) in good {
            assert_eq!(parse_quantity(written), Some(thousandths), "{written}");
        }
        for written in [
            "",
            ".",
            "-1",
            "1x",
            "m",
            "1.5m",
            "1e3",
            "1 k",
            "9999999999999999",
        ] {
            assert_eq!(parse_quantity(written), None, "{written}");
        }
    }

    #[test]
    fn ratios_survive_the_scaling() {
        let backends = |weights: &[i128]| {
            let weights = weights
                .iter()
                .map(|weight| ("a.b".parse().unwrap(), *weight));
            scale(weights.collect())
                .into_iter()
                .map(|(_, weight)| weight)
                .collect::<Vec<_>>()
        };
        assert_eq!(backends(&[950_000, 50_000]), [950, 50]);
        assert_eq!(backends(&[500, 1_500]), [500, 1_500]);
        assert_eq!(backends(&[0, 1]), [0, 1]);
        assert_eq!(backends(&[1, i128::from(u32::MAX) * MILLI]), [1, u32::MAX]);
    }
}
