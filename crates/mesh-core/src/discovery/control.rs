//! The control thread: joins, then keeps one watch open for as long as there is a `Mesh`.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::join::{Begun, Joined, Setup, join};
use super::link::{Link, LinkFailed};
use super::session::{Bearings, Session, WatchEnded, chain};
use crate::mesh::JoinError;
use crate::telemetry::Recorder;
use crate::telemetry::control::ControlMetrics;
use crate::telemetry::freshness::Freshness;
use crate::telemetry::identity::IdentityMetrics;
use crate::transport::connect::CurrentCredentials;

/// How often recorded latencies are folded into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How soon a watch is opened again with a new certificate if that failed.
const HANDOVER_RETRY: Duration = Duration::from_secs(1);
/// A watch that lived for so long was a good one: the next try is quick again.
const GOOD_WATCH: Duration = Duration::from_secs(10);

/// The thread, as long as this lives.
#[derive(Debug)]
pub(crate) struct Control {
    /// Dropped, it ends the thread.
    _alive: oneshot::Sender<()>,
}

/// Starts the thread; `joined` is told once, when the process has joined or cannot.
pub(crate) fn start(
    setup: Setup,
    joined: oneshot::Sender<Result<Joined, JoinError>>,
) -> std::io::Result<Control> {
    let (alive, ended) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let body = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = ended => {}
                () = run(setup, joined) => {}
            }
        });
    };
    std::thread::Builder::new()
        .name("mesh-control".to_owned())
        .spawn(body)?;
    Ok(Control { _alive: alive })
}

/// Joins and follows, until dropped; ends by itself only if joining is refused.
async fn run(setup: Setup, joined: oneshot::Sender<Result<Joined, JoinError>>) {
    let recorder = setup.recorder.clone();
    match join(setup).await {
        Ok((state, begun)) => {
            let Begun {
                links,
                session,
                renewal,
            } = begun;
            // Whoever asked may have given up: then so do we.
            if joined.send(Ok(state)).is_ok() {
                let metrics = renewal.metrics.clone();
                let freshness = session.bearings().freshness.clone();
                let generation = renewal.generation.subscribe();
                tokio::join!(
                    follow(links, session, generation),
                    renewal.run(),
                    upkeep(recorder, metrics, freshness)
                );
            }
        }
        // Nobody may be waiting any more, and then nobody needs to know.
        Err(error) => drop(joined.send(Err(error))),
    }
}

async fn upkeep(recorder: Recorder, identity: IdentityMetrics, freshness: Freshness) {
    let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tick.tick().await;
        identity.tick();
        freshness.tick();
        recorder.upkeep();
    }
}

/// Follows one watch after the other. What was told stays in force in between.
async fn follow(mut links: Links, mut session: Session, mut generation: watch::Receiver<u64>) {
    let mut backoff = Backoff::new();
    loop {
        let bearings = session.bearings().clone();
        let opened = Instant::now();
        let ended = one_watch(session, &mut links, &mut generation).await;
        tracing::warn!(
            error = chain(&ended),
            "the watch has ended; what was told stays in force"
        );
        if opened.elapsed() >= GOOD_WATCH {
            backoff = Backoff::new();
        }
        session = loop {
            backoff.wait().await;
            match links.open(&bearings).await {
                Ok(session) => break session,
                Err(error) => tracing::warn!(error = chain(&error), "no watch yet"),
            }
        };
    }
}

/// Follows a watch to its end. At each renewal a new one is opened with the new certificate,
/// from where the old one stopped, before that goes.
async fn one_watch(
    session: Session,
    links: &mut Links,
    generation: &mut watch::Receiver<u64>,
) -> WatchEnded {
    let bearings = session.bearings().clone();
    let mut running = Box::pin(session.run());
    let mut behind = false;
    loop {
        tokio::select! {
            ended = &mut running => return ended,
            // The renewal lives as long as this thread.
            _ = generation.changed(), if !behind => {}
            () = tokio::time::sleep(HANDOVER_RETRY), if behind => {}
        }
        // The old watch rests meanwhile: what it is told now, the new one tells again.
        match links.open(&bearings).await {
            Ok(next) => {
                running = Box::pin(next.run());
                behind = false;
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "no watch with the new certificate yet"
                );
                behind = true;
            }
        }
    }
}

/// The discovery servers, tried in turn.
#[derive(Debug)]
pub(super) struct Links {
    urls: Vec<Uri>,
    next: usize,
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
            next: 0,
            credentials: Arc::clone(credentials),
            metrics,
        }
    }

    /// Opens a watch at the first server that gives one. A refusal ends the round.
    pub(super) async fn open(&mut self, bearings: &Bearings) -> Result<Session, WatchEnded> {
        let mut last = WatchEnded::Closed;
        for _ in 0..self.urls.len() {
            let link = self.link()?;
            match bearings.open(link).await {
                Err(WatchEnded::Link(error)) if error.is_final() => return Err(error.into()),
                Err(error) => {
                    self.next += 1;
                    last = error;
                }
                Ok(session) => return Ok(session),
            }
        }
        Err(last)
    }

    /// A fresh link: one that lives would go on with the credentials it began with.
    fn link(&self) -> Result<Link, LinkFailed> {
        let credentials = self.credentials.load_full();
        let credentials = credentials.expect("a process has credentials once it is identified");
        let tls = mesh_tls::config::to_discovery(&credentials);
        let url = &self.urls[self.next % self.urls.len()];
        Ok(Link::new(url, &tls)?.counted(self.metrics.of(url)))
    }
}
