//! What `web` has seen, read from its own `/metrics` as any scraper would.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_core::BoxError;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Counters of one backend since the start.
#[derive(Clone, Debug, Default)]
pub struct Backend {
    /// Answers that were a success.
    pub succeeded: f64,
    /// All answers.
    pub answered: f64,
    /// Answers over mutual TLS.
    pub over_mtls: f64,
    /// Cumulative counts by upper bound in milliseconds.
    pub latency: BTreeMap<u64, f64>,
}

impl Backend {
    /// The latency below which `share` of the answers lie, by straight line within its bucket.
    ///
    /// `None` without an answer. Within the first bucket, which begins at nothing, a straight line would be an
    /// invention: there the quantile is the bucket's end, and says so.
    pub fn quantile(&self, share: f64) -> Option<Quantile> {
        let total = self.latency.values().next_back().copied()?;
        let rank = share * total;
        let mut below: Option<(f64, f64)> = None;
        for (&bound, &count) in &self.latency {
            let count_below = below.map_or(0.0, |(_, count)| count);
            if count >= rank && count > count_below {
                return Some(match below {
                    None => Quantile {
                        milliseconds: milliseconds(bound),
                        in_first_bucket: true,
                    },
                    Some((start, _)) => {
                        let end = if bound == u64::MAX {
                            start
                        } else {
                            milliseconds(bound)
                        };
                        let part = (rank - count_below) / (count - count_below);
                        Quantile {
                            milliseconds: start + (end - start) * part,
                            in_first_bucket: false,
                        }
                    }
                });
            }
            below = Some((milliseconds(bound), count));
        }
        None
    }

    /// What has come since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let earlier = |bound: &u64| before.latency.get(bound).copied().unwrap_or(0.0);
        Self {
            succeeded: self.succeeded - before.succeeded,
            answered: self.answered - before.answered,
            over_mtls: self.over_mtls - before.over_mtls,
            latency: self
                .latency
                .iter()
                .map(|(bound, count)| (*bound, count - earlier(bound)))
                .collect(),
        }
    }
}

/// A latency that a share of the answers stays below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// The latency.
    pub milliseconds: f64,
    /// Whether the histogram knows no more than that the latency is smaller.
    pub in_first_bucket: bool,
}

#[expect(clippy::cast_precision_loss, reason = "bounds are small")]
fn milliseconds(bound: u64) -> f64 {
    bound as f64
}

/// What became of tries beyond the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// Requests that were sent again.
    pub sent: u64,
    /// Those that had a response in the end.
    pub succeeded: u64,
    /// Those that the budget did not pay for.
    pub refused_by_budget: u64,
}

/// All that `web` says of its calls.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// By backend.
    pub backends: BTreeMap<String, Backend>,
    /// Of all of them.
    pub retries: Retries,
}

impl Numbers {
    /// What has come since `before`, by backend.
    pub fn since(&self, before: &Self) -> BTreeMap<String, Backend> {
        let recent = self.backends.iter().map(|(name, now)| {
            let earlier = before.backends.get(name).cloned().unwrap_or_default();
            (name.clone(), now.since(&earlier))
        });
        recent.collect()
    }
}

/// Scrapes `admin` and sums what it says.
pub async fn scrape(admin: SocketAddr) -> Result<Numbers, BoxError> {
    let mut stream = TcpStream::connect(admin).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(read(&text))
}

fn read(exposition: &str) -> Numbers {
    let mut numbers = Numbers::default();
    for line in exposition.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let Some((name, labels)) = series.split_once('{') else {
            continue;
        };
        let label = |wanted: &str| {
            let (_, rest) = labels.split_once(&format!("{wanted}=\""))?;
            rest.split('"').next()
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counters are whole numbers from 0 up"
        )]
        match name {
            "outbound_http_route_retry_requests_total" => numbers.retries.sent += value as u64,
            "outbound_http_route_retry_successes_total" => {
                numbers.retries.succeeded += value as u64
            }
            "mesh_outbound_not_retried_total" if label("reason") == Some("budget") => {
                numbers.retries.refused_by_budget += value as u64;
            }
            _ => {}
        }
        // A try that no server took has no status: it is a retry, and no answer of the backend.
        let answered = name != "response_total" || label("status_code") != Some("");
        let (Some("outbound"), Some(service), true) =
            (label("direction"), label("dst_service"), answered)
        else {
            continue;
        };
        let backend = numbers.backends.entry(service.to_owned()).or_default();
        match name {
            "response_total" => {
                backend.answered += value;
                if label("classification") == Some("success") {
                    backend.succeeded += value;
                }
                if label("tls") == Some("true") {
                    backend.over_mtls += value;
                }
            }
            "response_latency_ms_bucket" => {
                let bound = label("le")
                    .and_then(|le| le.parse().ok())
                    .unwrap_or(u64::MAX);
                *backend.latency.entry(bound).or_default() += value;
            }
            _ => {}
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# TYPE response_total counter
response_total{direction="outbound",dst_service="api",classification="success",tls="true"} 3
response_total{direction="outbound",dst_service="api",classification="failure",tls="no_identity"} 1
response_total{direction="outbound",dst_service="api",status_code="",classification="failure",tls="true"} 7
outbound_http_route_retry_requests_total{authority="api"} 7
outbound_http_route_retry_successes_total{authority="api"} 6
mesh_outbound_not_retried_total{reason="budget"} 1
mesh_outbound_not_retried_total{reason="method"} 2
response_total{direction="inbound",classification="success",tls="true"} 9
response_latency_ms_bucket{direction="outbound",dst_service="api",le="1"} 2
response_latency_ms_bucket{direction="outbound",dst_service="api",le="2"} 4
response_latency_ms_bucket{direction="outbound",dst_service="api",le="+Inf"} 4
"#;

    #[test]
    fn a_backend_is_the_sum_of_its_series() {
        let Numbers { backends, retries } = read(TEXT);
        assert_eq!(backends.len(), 1);
        let expected = Retries {
            sent: 7,
            succeeded: 6,
            refused_by_budget: 1,
        };
        assert_eq!(retries, expected);
        let api = &backends["api"];
        assert!((api.answered - 4.0).abs() < 1e-9);
        assert!((api.succeeded - 3.0).abs() < 1e-9);
        assert!((api.over_mtls - 3.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_lie_within_their_bucket_and_in_the_first_they_are_its_end() {
        let api = &read(TEXT).backends["api"];
        let first = api.quantile(0.5).unwrap();
        assert!(first.in_first_bucket && (first.milliseconds - 1.0).abs() < 1e-9);
        let second = api.quantile(0.75).unwrap();
        assert!(!second.in_first_bucket && (second.milliseconds - 1.5).abs() < 1e-9);
        assert_eq!(Backend::default().quantile(0.5), None);
    }
}
