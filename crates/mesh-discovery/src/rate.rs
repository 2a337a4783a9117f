//! How often one identity may ask, and how much it may send.
//!
//! A fleet that starts asks a lot at once and little afterwards, so there is room for a burst.
//! Reading a large body costs as much as many small ones: each further part of it counts as a
//! request of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use mesh_policy::identity::Identity;
use tokio::time::Instant;

use crate::caller::Caller;
use crate::refused::Refused;
use crate::server::Shared;

/// Requests a second of one identity: as many as 4,000 processes make that report every 4 s.
const PER_SECOND: u32 = 1_000;
/// Requests that may come at once: 2,000 processes that join, watch, register and report.
const BURST: u32 = 10_000;
/// A body counts as one more request for each part of this size.
const BODY_PART_BYTES: usize = 16 * 1024;
/// Identities above which those are forgotten that have asked for nothing lately.
const MANY: usize = 4_096;

/// How often each identity has asked lately.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<BTreeMap<Identity, Pace>>);

/// A leaky bucket, kept as the moment at which it has run empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    empty: Instant,
}

impl Pace {
    /// Takes `requests`; how long to wait where that is too many.
    fn take(&mut self, requests: u32, now: Instant) -> Result<(), Duration> {
        let one = Duration::from_secs(1) / PER_SECOND;
        let empty = self.empty.max(now) + one * requests;
        match (empty - now).checked_sub(one * BURST) {
            None | Some(Duration::ZERO) => {
                self.empty = empty;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }
}

impl Rates {
    fn take(&self, identity: &Identity, requests: u32) -> Result<(), TooOften> {
        let now = Instant::now();
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paces.len() >= MANY && !paces.contains_key(identity) {
            paces.retain(|_, pace| pace.empty > now);
        }
        let pace = paces.entry(identity.clone());
        let pace = pace.or_insert(Pace { empty: now });
        pace.take(requests, now).map_err(|wait| TooOften {
            identity: identity.clone(),
            wait,
        })
    }
}

/// Of whom a request is: its body counts too, once it is read.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    rates: Arc<Rates>,
    identity: Identity,
}

impl Allowance {
    /// Counts a body of `bytes`.
    ///
    /// # Errors
    ///
    /// [`TooOften`] where the identity has sent too much lately.
    pub(crate) fn take_body(&self, bytes: usize) -> Result<(), TooOften> {
        let parts = u32::try_from(bytes / BODY_PART_BYTES).unwrap_or(u32::MAX);
        self.rates.take(&self.identity, parts)
    }
}

/// An identity asks more often than one may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{identity} asks more often than {PER_SECOND} times a second, where each {BODY_PART_BYTES} bytes of a body count as one more: try again in {} ms",
    wait.as_millis()
)]
pub(crate) struct TooOften {
    identity: Identity,
    wait: Duration,
}

impl IntoResponse for TooOften {
    fn into_response(self) -> Response {
        let seconds = self.wait.as_secs() + 1;
        let mut response = Refused::from(self).into_response();
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        response
    }
}

/// Lets the requests of one identity through as often as it may ask, and counts what is refused
/// for being too much.
pub(crate) async fn limit(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let identity = match request.extensions().get() {
        Some(Caller::Workload(identity)) => identity.clone(),
        _ => return next.run(request).await,
    };
    let response = match shared.rates.take(&identity, 1) {
        Ok(()) => {
            let rates = Arc::clone(&shared.rates);
            request
                .extensions_mut()
                .insert(Allowance { rates, identity });
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    };
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        shared.metrics.over_limit.increment(1);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(account: &str) -> Identity {
        let text = format!("spiffe://mesh.local/ns/shop/sa/{account}");
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn an_identity_has_its_burst_and_then_its_rate_and_takes_nobody_elses() {
        let rates = Rates::default();
        let (eve, web) = (identity("eve"), identity("web"));
        for _ in 0..BURST {
            assert_eq!(rates.take(&eve, 1), Ok(()));
        }
        let refused = rates.take(&eve, 1).unwrap_err();
        assert!(refused.to_string().contains("1000 times a second"));
        assert_eq!(rates.take(&web, 1), Ok(()));
        tokio::time::advance(Duration::from_millis(100)).await;
        let let_in = (0..1_000).filter(|_| rates.take(&eve, 1).is_ok());
        assert_eq!(let_in.count(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_counts_as_many_requests() {
        let rates = Arc::new(Rates::default());
        let identity = identity("eve");
        let allowance = Allowance { rates, identity };
        let parts = u32::try_from(1024 * 1024 / BODY_PART_BYTES).unwrap();
        let read = (0..BURST).take_while(|_| allowance.take_body(1024 * 1024).is_ok());
        assert_eq!(read.count(), usize::try_from(BURST / parts).unwrap());
        assert_eq!(allowance.take_body(BODY_PART_BYTES - 1), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn identities_that_asked_long_ago_are_forgotten() {
        let rates = Rates::default();
        for number in 0..2 * MANY {
            assert_eq!(rates.take(&identity(&format!("i{number}")), 1), Ok(()));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(rates.0.lock().unwrap().len() <= MANY + 1);
    }
}
