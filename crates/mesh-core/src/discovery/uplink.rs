//! What goes up beside a watch: subscriptions, registrations, reports.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use mesh_policy::name::ServiceName;
use mesh_policy::plan::registration::Registration;
use mesh_policy::plan::watch::Subscriptions;
use mesh_policy::report::Report;
use mesh_policy::report::traffic::Traffic;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::link::{Link, LinkFailed};
use super::served::Lease;
use super::session::{Bearings, LIBRARY, WatchEnded};
use crate::causes::chain;

/// How often a process reports, if nothing changes.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Reports of one flush at most: more than all flows of a process fill, what was not acknowledged included.
const MOST_REPORTS: usize = 32;
/// How long after a refusal nothing is told, however much changes.
const BREATH: Duration = Duration::from_millis(100);

/// What a watch is subscribed to.
#[derive(Clone, Debug)]
pub(super) struct Subscribed {
    pub(super) to: Subscriptions,
    /// How many names this process had entered by then.
    pub(super) entered: u64,
}

/// Tells discovery what this process wants, serves and has applied.
#[derive(Debug)]
pub(super) struct Uplink {
    bearings: Bearings,
    link: Link,
    watch: String,
    subscribed: Subscribed,
    reported: Option<(Report, Instant)>,
}

impl Subscribed {
    /// The same without those of the names `asked` that it has: they were let go and asked for
    /// again since. Discovery, which was told of neither, has answered already and would say
    /// nothing. `None` if there are none.
    fn without(&self, asked: &BTreeSet<ServiceName>) -> Option<Subscriptions> {
        let mut others = self.to.clone();
        others.services.retain(|name| !asked.contains(name));
        (others.services.len() < self.to.services.len()).then_some(others)
    }
}

impl Uplink {
    /// Of a watch that was opened over `link` with `subscribed`.
    pub(super) const fn new(
        bearings: Bearings,
        link: Link,
        watch: String,
        subscribed: Subscribed,
    ) -> Self {
        Self {
            bearings,
            link,
            watch,
            subscribed,
            reported: None,
        }
    }

    /// Goes on until the watch is no longer known where it was opened.
    pub(super) async fn run(mut self) -> WatchEnded {
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
        // A report that is refused must not hold up a lease that is to go.
        let flushed = match self.flush().await {
            Err(error) if error.is_unknown() => return Err(error),
            flushed => flushed,
        };
        let flush = self.bearings.flush.clone();
        tokio::select! {
            biased;
            // A process that ends without a drain withdraws nothing: its leases end by themselves.
            () = flush.is_last() => flushed,
            told = self.tell_changes() => told.and(flushed),
        }
    }

    async fn tell_changes(&mut self) -> Result<(), LinkFailed> {
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
        let wanted = self.bearings.subscribing();
        let path = format!("/v1/watch/{}", self.watch);
        let asked = self.bearings.plans.asked_since(self.subscribed.entered);
        if let Some(others) = self.subscribed.without(&asked) {
            self.link.ask(Method::PUT, &path, &others).await?;
            self.subscribed.to = others;
        }
        let (now, told) = (&wanted.to, &self.subscribed.to);
        let more = now.services != told.services
            || now.inbound != told.inbound
            || !now.resend.is_subset(&told.resend);
        if more {
            self.link.ask(Method::PUT, &path, now).await?;
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

    /// Tells everything that was counted until now, however short ago, to those who wait for that.
    /// What is counted meanwhile is for the next report: traffic may go on for ever.
    async fn flush(&self) -> Result<(), LinkFailed> {
        let Some(asked) = self.bearings.flush.asked() else {
            return Ok(());
        };
        for _ in 0..MOST_REPORTS {
            let (traffic, is_rest) = self.bearings.tally().take_rest();
            let Some(report) = traffic.and_then(|traffic| self.describe(Some(traffic))) else {
                break;
            };
            self.link.ask(Method::POST, "/v1/reports", &report).await?;
            self.bearings.tally().acknowledged();
            if is_rest {
                break;
            }
        }
        self.bearings.flush.done(asked);
        Ok(())
    }

    /// How this process stands; `None` before discovery has said anything.
    fn describe(&self, traffic: Option<Traffic>) -> Option<Report> {
        let follower = self.bearings.follower();
        Some(Report {
            watch: self.watch.clone(),
            library: LIBRARY.to_owned(),
            applied: follower.applied()?.clone(),
            rejections: follower.rejections(),
            traffic,
        })
    }

    async fn report(&mut self) -> Result<(), LinkFailed> {
        let traffic = self.bearings.tally().told().cloned();
        let Some(report) = self.describe(traffic) else {
            return Ok(());
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
