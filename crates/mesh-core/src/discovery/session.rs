//! One watch: events come down, and what this process wants goes up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use mesh_policy::plan::registration::Registration;
use mesh_policy::plan::watch::{Change, Event, Subscriptions, WatchRequest};
use mesh_policy::plan::{CAPABILITIES, PROTOCOL_VERSION};
use mesh_policy::report::Report;
use reqwest::Response;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Served;
use super::backoff::Backoff;
use super::follow::Follower;
use super::lines::{LineTooLong, Lines};
use super::link::{Link, LinkFailed};
use super::served::Lease;
use super::tally::Tally;
use crate::plans::Plans;
use crate::telemetry::freshness::Freshness;

/// The library's own version.
const LIBRARY: &str = env!("CARGO_PKG_VERSION");
/// A watch that says nothing for so long is dead: discovery sends heartbeats.
const SILENCE: Duration = Duration::from_secs(10);
/// Up to so much longer, so that a fleet does not reopen its watches at one moment.
const SILENCE_JITTER: Duration = Duration::from_secs(3);
/// From the request for a watch to its first event.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a process reports, if nothing changes.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How long after a refusal nothing is told, however much changes.
const BREATH: Duration = Duration::from_millis(100);

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
    /// Woken when there is something to tell discovery.
    pub(super) changed: Arc<Notify>,
}

/// An open watch, whose welcome has come.
#[derive(Debug)]
pub(super) struct Session {
    bearings: Bearings,
    link: Link,
    watch: String,
    events: Events,
    /// What the watch is subscribed to.
    subscribed: Subscriptions,
}

impl Bearings {
    /// Opens a watch over `link` where the last one stopped.
    pub(super) async fn open(&self, link: Link) -> Result<Session, WatchEnded> {
        // Asked before the misfits are: they are a reason not to resume.
        let resume = self.follower().resume();
        let subscribed = self.subscriptions();
        let request = WatchRequest {
            version: PROTOCOL_VERSION,
            capabilities: CAPABILITIES.iter().map(|&name| name.to_owned()).collect(),
            library: LIBRARY.to_owned(),
            workload: self.process.workload.clone(),
            instance: self.process.instance.clone(),
            labels: self.process.labels.clone(),
            admin: self.process.admin.clone(),
            resume,
            subscriptions: subscribed.clone(),
        };
        let opened = async {
            let response = link.open(Method::POST, "/v1/watch", &request).await?;
            let mut events = Events::new(response);
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
            bearings: self.clone(),
            link,
            watch,
            events,
            subscribed,
        })
    }

    fn subscriptions(&self) -> Subscriptions {
        Subscriptions {
            services: self.plans.wanted(),
            inbound: self.served.names().cloned().collect(),
            resend: self.follower().misfits().clone(),
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follower(&self) -> MutexGuard<'_, Follower> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// What it was opened with.
    pub(super) fn bearings(&self) -> &Bearings {
        &self.bearings
    }

    /// Follows the watch until it ends, and says why it did.
    pub(super) async fn run(self) -> WatchEnded {
        let Self {
            bearings,
            link,
            watch,
            events,
            subscribed,
        } = self;
        let uplink = Uplink {
            bearings: bearings.clone(),
            link,
            watch,
            subscribed,
            reported: None,
        };
        tokio::select! {
            ended = follow(events, &bearings) => ended,
            ended = uplink.run() => ended,
        }
    }
}

/// Applies events as they come.
async fn follow(mut events: Events, bearings: &Bearings) -> WatchEnded {
    loop {
        let silence = SILENCE + SILENCE_JITTER.mul_f64(fastrand::f64());
        let event = match tokio::time::timeout(silence, events.next()).await {
            Ok(Ok(event)) => event,
            Ok(Err(ended)) => return ended,
            Err(_) => return WatchEnded::Silent,
        };
        let quiet = matches!(event.change, Change::Heartbeat { .. });
        bearings.follower().apply(event);
        bearings.freshness.heard();
        if !quiet {
            bearings.changed.notify_one();
        }
    }
}

/// The events of a watch.
#[derive(Debug)]
struct Events {
    response: Response,
    lines: Lines,
}

impl Events {
    fn new(response: Response) -> Self {
        let lines = Lines::new();
        Self { response, lines }
    }

    async fn next(&mut self) -> Result<Event, WatchEnded> {
        loop {
            if let Some(line) = self.lines.next_line()? {
                return read(&line);
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.lines.push(&chunk),
                Ok(None) => return Err(WatchEnded::Closed),
                Err(error) => return Err(WatchEnded::Link(LinkFailed::Unreachable(error))),
            }
        }
    }
}

fn read(line: &Bytes) -> Result<Event, WatchEnded> {
    serde_json::from_slice(line).map_err(|error| WatchEnded::Link(LinkFailed::Malformed(error)))
}

/// Tells discovery what this process wants, serves and has applied.
struct Uplink {
    bearings: Bearings,
    link: Link,
    watch: String,
    subscribed: Subscriptions,
    reported: Option<(Report, Instant)>,
}

impl Uplink {
    /// Goes on until the watch is no longer known where it was opened.
    async fn run(mut self) -> WatchEnded {
        let mut backoff = Backoff::new();
        loop {
            match self.tell().await {
                Ok(()) => {
                    backoff = Backoff::new();
                    let changed = self.bearings.changed.notified();
                    // Nothing to tell is no error: then a report is due.
                    drop(tokio::time::timeout(REPORT_INTERVAL, changed).await);
                }
                Err(error) if error.is_unknown() => return WatchEnded::Link(error),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "discovery could not be told");
                    // What is new does not wait for what was refused.
                    tokio::time::sleep(BREATH).await;
                    tokio::select! {
                        () = backoff.wait() => {}
                        () = self.bearings.changed.notified() => {}
                    }
                }
            }
        }
    }

    /// Tells whatever differs from what was told. Everything is compared with what is
    /// wanted now, so that nothing is queued and nothing is lost.
    async fn tell(&mut self) -> Result<(), LinkFailed> {
        // One refusal must not hold up the rest, a lease that is to go least of all.
        let mut outcome = match self.subscribe().await {
            Err(error) if error.is_unknown() => return Err(error),
            outcome => outcome,
        };
        for (id, lease) in self.bearings.served.due(&self.watch) {
            match self.lease(&id, &lease).await {
                Ok(()) => {}
                Err(error) if error.is_unknown() => return Err(error),
                Err(error) => outcome = Err(error),
            }
        }
        self.report().await?;
        outcome
    }

    /// A set that is asked for whole stays in `resend` until it comes, so that what is
    /// wanted equals what was asked and is not asked again.
    async fn subscribe(&mut self) -> Result<(), LinkFailed> {
        let wanted = self.bearings.subscriptions();
        if wanted == self.subscribed {
            return Ok(());
        }
        let more = wanted.services != self.subscribed.services
            || wanted.inbound != self.subscribed.inbound
            || !wanted.resend.is_subset(&self.subscribed.resend);
        if more {
            let path = format!("/v1/watch/{}", self.watch);
            self.link.ask(Method::PUT, &path, &wanted).await?;
        }
        self.subscribed = wanted;
        Ok(())
    }

    async fn lease(&self, id: &str, lease: &Lease) -> Result<(), LinkFailed> {
        let path = format!("/v1/endpoints/{id}");
        let served = &self.bearings.served;
        if !lease.wanted {
            match self.link.ask(Method::DELETE, &path, &()).await {
                Ok(_) => {}
                // It is gone, which is all we want.
                Err(error) if error.is_unknown() => {}
                Err(error) => return Err(error),
            }
            served.gone(id);
            return Ok(());
        }
        let process = &self.bearings.process;
        let registration = Registration {
            watch: self.watch.clone(),
            serves: lease.serves.clone(),
            address: lease.address,
            workload: process.workload.clone(),
            instance: process.instance.clone(),
            labels: process.labels.clone(),
            zone: process.zone.clone(),
            weight: process.weight,
        };
        self.link.ask(Method::PUT, &path, &registration).await?;
        tracing::info!(serves = %lease.serves, address = %lease.address, "registered");
        served.held(id, &self.watch);
        Ok(())
    }

    async fn report(&mut self) -> Result<(), LinkFailed> {
        let (applied, rejections) = {
            let follower = self.bearings.follower();
            (follower.applied().cloned(), follower.rejections())
        };
        let Some(applied) = applied else {
            return Ok(());
        };
        let report = Report {
            watch: self.watch.clone(),
            library: LIBRARY.to_owned(),
            applied,
            rejections,
            traffic: self.bearings.tally().told().cloned(),
        };
        let now = Instant::now();
        if let Some((last, at)) = &self.reported
            && *last == report
            && now - *at < REPORT_INTERVAL
        {
            return Ok(());
        }
        self.link.ask(Method::POST, "/v1/reports", &report).await?;
        self.bearings.tally().acknowledged();
        self.reported = Some((report, now));
        Ok(())
    }
}

/// An error with its sources, for a log line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut link = error.source();
    while let Some(source) = link {
        text.push_str(": ");
        text.push_str(&source.to_string());
        link = source.source();
    }
    text
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
