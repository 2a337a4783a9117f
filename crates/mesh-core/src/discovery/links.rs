//! The discovery servers of a process, tried in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Uri;

use super::link::Link;
use super::session::{Bearings, Session, WatchEnded};
use crate::causes::chain;
use crate::telemetry::control::ControlMetrics;
use crate::transport::connect::CurrentCredentials;

/// Opens watches, at the server that gave the last one first.
#[derive(Debug)]
pub(super) struct Links {
    urls: Vec<Uri>,
    next: AtomicUsize,
    credentials: CurrentCredentials,
    metrics: ControlMetrics,
}

impl Links {
    pub(super) fn new(
        urls: &[Uri],
        credentials: &CurrentCredentials,
        metrics: ControlMetrics,
    ) -> Self {
        Self {
            urls: urls.to_vec(),
            next: AtomicUsize::new(0),
            credentials: Arc::clone(credentials),
            metrics,
        }
    }

    /// Opens a watch at the first server that gives one. If none does, a refusal is the answer
    /// that counts: it will not be another one in a moment.
    pub(super) async fn open(&self, bearings: &Bearings) -> Result<Session, WatchEnded> {
        let mut last = WatchEnded::Closed;
        for _ in 0..self.urls.len() {
            let link = self.link();
            let server = link.base().to_owned();
            match bearings.open(link).await {
                Ok(session) => return Ok(session),
                Err(error) => {
                    self.next.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(server, error = chain(&error), "no watch at this server");
                    if !last.is_final() {
                        last = error;
                    }
                }
            }
        }
        Err(last)
    }

    /// A fresh link: one that lives would go on with the credentials it began with.
    fn link(&self) -> Link {
        let credentials = self.credentials.load_full();
        let credentials = credentials.expect("a process has credentials once it is identified");
        let tls = mesh_tls::config::to_discovery(&credentials);
        let url = &self.urls[self.next.load(Ordering::Relaxed) % self.urls.len()];
        Link::new(url, tls).counted(self.metrics.of(url))
    }
}
