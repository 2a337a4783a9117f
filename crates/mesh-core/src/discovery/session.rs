//! One watch: events come down, and what this process wants goes up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use mesh_policy::plan::watch::{Change, Subscriptions, WatchRequest};
use mesh_policy::plan::{CAPABILITIES, PROTOCOL_VERSION};
use tokio::sync::Notify;

use super::Served;
use super::events::Events;
use super::flush::Flush;
use super::follow::Follower;
use super::lines::LineTooLong;
use super::link::{Link, LinkFailed};
use super::tally::Tally;
use super::uplink::{Subscribed, Uplink};
use crate::plans::Plans;
use crate::telemetry::freshness::Freshness;

/// The library's own version.
pub(super) const LIBRARY: &str = env!("CARGO_PKG_VERSION");
/// From the request for a watch to its first event.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// What a process is, as it tells discovery. Constant after the join.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) workload: String,
    pub(super) instance: String,
    pub(super) labels: std::collections::BTreeMap<String, String>,
    pub(super) zone: Option<String>,
    pub(super) weight: u32,
    pub(super) admin: Option<String>,
}

/// What both directions of a watch share.
#[derive(Clone, Debug)]
pub(super) struct Bearings {
    pub(super) process: Arc<Process>,
    pub(super) plans: Arc<Plans>,
    pub(super) served: Arc<Served>,
    pub(super) follower: Arc<Mutex<Follower>>,
    pub(super) freshness: Freshness,
    /// What discovery has not been told of the traffic.
    pub(super) tally: Arc<Mutex<Tally>>,
    /// Who waits until discovery has been told all of it.
    pub(super) flush: Flush,
    /// Woken when there is something to tell discovery.
    pub(super) changed: Arc<Notify>,
}

/// An open watch, whose welcome has come.
#[derive(Debug)]
pub(super) struct Session {
    /// What comes down.
    pub(super) downlink: Downlink,
    /// What goes up.
    pub(super) uplink: Uplink,
}

/// Applies what discovery tells.
#[derive(Debug)]
pub(super) struct Downlink {
    bearings: Bearings,
    events: Events,
}

impl Bearings {
    /// Opens a watch over `link` where the last one stopped.
    pub(super) async fn open(&self, link: Link) -> Result<Session, WatchEnded> {
        let resume = self.follower().resume();
        let subscribed = self.subscribing();
        let request = WatchRequest {
            version: PROTOCOL_VERSION,
            capabilities: CAPABILITIES.iter().map(|&name| name.to_owned()).collect(),
            library: LIBRARY.to_owned(),
            workload: self.process.workload.clone(),
            instance: self.process.instance.clone(),
            labels: self.process.labels.clone(),
            admin: self.process.admin.clone(),
            resume,
            subscriptions: subscribed.to.clone(),
        };
        let opened = async {
            let response = link.open(Method::POST, "/v1/watch", &request).await?;
            let mut events = Events::new(response.into_body());
            let first = events.next().await?;
            Ok::<_, WatchEnded>((events, first))
        };
        let opened = tokio::time::timeout(WELCOME_TIMEOUT, opened).await;
        let (events, first) = opened.map_err(|_| WatchEnded::Silent)??;
        let Change::Welcome { watch, replica, .. } = &first.change else {
            return Err(WatchEnded::NoWelcome);
        };
        tracing::info!(discovery = link.base(), replica, watch, "a watch is open");
        let watch = watch.clone();
        self.follower().apply(first);
        self.freshness.heard();
        Ok(Session {
            downlink: Downlink {
                bearings: self.clone(),
                events,
            },
            uplink: Uplink::new(self.clone(), link, watch, subscribed),
        })
    }

    /// What this process wants to be told of now.
    pub(super) fn subscribing(&self) -> Subscribed {
        // Before the names: one that is entered in between counts as new once more.
        let entered = self.plans.entered();
        let to = Subscriptions {
            services: self.plans.wanted(),
            inbound: self.served.names().cloned().collect(),
            resend: self.follower().misfits().clone(),
        };
        Subscribed { to, entered }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn follower(&self) -> MutexGuard<'_, Follower> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Downlink {
    /// Applies events as they come, until the watch ends.
    pub(super) async fn run(mut self) -> WatchEnded {
        loop {
            let event = match self.events.next().await {
                Ok(event) => event,
                Err(ended) => return ended,
            };
            let quiet = matches!(event.change, Change::Heartbeat { .. });
            self.bearings.follower().apply(event);
            self.bearings.freshness.heard();
            if !quiet {
                self.bearings.changed.notify_one();
            }
        }
    }
}

/// A watch has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchEnded {
    #[error(transparent)]
    Link(#[from] LinkFailed),
    #[error("discovery closed the watch")]
    Closed,
    #[error("discovery said nothing for too long")]
    Silent,
    #[error("discovery's first event is no welcome")]
    NoWelcome,
    #[error(transparent)]
    TooLong(#[from] LineTooLong),
}

impl WatchEnded {
    /// Whether asking again would only be told the same.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Link(error) if error.is_final())
    }
}
