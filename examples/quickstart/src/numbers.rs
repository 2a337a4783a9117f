//! What `web` has seen, read from its own `/metrics` as any scraper would.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mesh_core::BoxError;
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
    /// The latency below which `share` of the answers lie, in milliseconds, within its bucket by straight line.
    pub fn quantile(&self, share: f64) -> f64 {
        let total = self.latency.values().next_back().copied().unwrap_or(0.0);
        let rank = share * total;
        let (mut bound_below, mut count_below) = (0.0, 0.0);
        for (&bound, &count) in &self.latency {
            if count >= rank && count > count_below {
                #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
                let bound = if bound == u64::MAX {
                    bound_below
                } else {
                    bound as f64
                };
                return bound_below
                    + (bound - bound_below) * (rank - count_below) / (count - count_below);
            }
            #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
            let bound = bound as f64;
            (bound_below, count_below) = (bound, count);
        }
        0.0
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

/// Scrapes `admin` and sums what it says of each backend.
pub async fn scrape(admin: SocketAddr) -> Result<BTreeMap<String, Backend>, BoxError> {
    let mut stream = TcpStream::connect(admin).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(read(&text))
}

fn read(exposition: &str) -> BTreeMap<String, Backend> {
    let mut backends: BTreeMap<String, Backend> = BTreeMap::new();
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
        let (Some("outbound"), Some(service), Ok(value)) = (
            label("direction"),
            label("dst_service"),
            value.parse::<f64>(),
        ) else {
            continue;
        };
        let backend = backends.entry(service.to_owned()).or_default();
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
    backends
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# TYPE response_total counter
response_total{direction="outbound",dst_service="api",classification="success",tls="true"} 3
response_total{direction="outbound",dst_service="api",classification="failure",tls="no_identity"} 1
response_total{direction="inbound",classification="success",tls="true"} 9
response_latency_ms_bucket{direction="outbound",dst_service="api",le="1"} 2
response_latency_ms_bucket{direction="outbound",dst_service="api",le="2"} 4
response_latency_ms_bucket{direction="outbound",dst_service="api",le="+Inf"} 4
"#;

    #[test]
    fn a_backend_is_the_sum_of_its_series() {
        let backends = read(TEXT);
        assert_eq!(backends.len(), 1);
        let api = &backends["api"];
        assert!((api.answered - 4.0).abs() < 1e-9);
        assert!((api.succeeded - 3.0).abs() < 1e-9);
        assert!((api.over_mtls - 3.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let api = &read(TEXT)["api"];
        assert!((api.quantile(0.5) - 1.0).abs() < 1e-9);
        assert!((api.quantile(0.75) - 1.5).abs() < 1e-9);
        assert!((Backend::default().quantile(0.5)).abs() < 1e-9);
    }
}
