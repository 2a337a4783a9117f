//! The control thread: joins, then keeps one watch open for as long as there is a `Mesh`.

use std::pin::pin;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::join::{Begun, Joined, Setup, join};
use super::links::Links;
use super::session::{Bearings, Session, WatchEnded};
use super::supervise::{Task, supervise};
use super::waiting;
use crate::causes::chain;
use crate::mesh::JoinError;
use crate::telemetry::Recorder;
use crate::telemetry::freshness::Freshness;
use crate::telemetry::identity::IdentityMetrics;

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
    thread: JoinHandle<()>,
}

impl Control {
    /// Whether the thread goes on. It ends by itself only where supervision itself broke.
    pub(crate) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
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
    let thread = std::thread::Builder::new()
        .name("mesh-control".to_owned())
        .spawn(move || runtime.block_on(run(setup, joined, ended)))?;
    Ok(Control {
        _alive: alive,
        thread,
    })
}

/// Joins and follows until the last handle is gone; ends by itself only if joining is refused.
async fn run(
    setup: Setup,
    joined: oneshot::Sender<Result<Joined, JoinError>>,
    mut ended: oneshot::Receiver<()>,
) {
    let recorder = setup.recorder.clone();
    let aloud = waiting::aloud(setup.config.discovery.clone(), setup.trouble.clone());
    let joining = tokio::select! {
        _ = &mut ended => return,
        joining = join(setup) => joining,
        never = aloud => match never {},
    };
    let begun = match joining {
        Ok((state, begun)) => {
            // The caller may have given up: then so does this thread.
            if joined.send(Ok(state)).is_err() {
                return;
            }
            begun
        }
        // Nobody may be waiting any more, and then nobody needs to know.
        Err(error) => return drop(joined.send(Err(error))),
    };
    let flush = begun.bearings.flush.clone();
    let mut work = pin!(keep_up(begun, recorder));
    tokio::select! {
        _ = &mut ended => {}
        () = &mut work => return,
    }
    // What was counted and not yet told goes out, and nothing else.
    tokio::select! {
        () = flush.last() => {}
        () = work => {}
    }
}

/// Everything that goes on once a process has joined.
async fn keep_up(begun: Begun, recorder: Recorder) {
    let Begun {
        bearings,
        links,
        session,
        renewal,
        health,
    } = begun;
    let mut first = Some(session);
    let watch = supervise(&health, Task::Watch, || {
        let session = first.take();
        if session.is_none() {
            // Where a panic left it, nobody knows: the next watch tells everything anew.
            bearings.follower().distrust();
        }
        follow(&links, &bearings, session, renewal.generation.subscribe())
    });
    let renewing = supervise(&health, Task::Renewal, || renewal.run());
    let upkeep = supervise(&health, Task::Upkeep, || {
        upkeep(&recorder, &renewal.metrics, &bearings.freshness)
    });
    tokio::join!(watch, renewing, upkeep);
}

async fn upkeep(recorder: &Recorder, identity: &IdentityMetrics, freshness: &Freshness) {
    let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tick.tick().await;
        identity.tick();
        freshness.tick();
        recorder.upkeep();
    }
}

/// Follows one watch after the other, `open` first. What was told stays in force in between.
async fn follow(
    links: &Links,
    bearings: &Bearings,
    mut open: Option<Session>,
    mut generation: watch::Receiver<u64>,
) {
    let mut backoff = Backoff::new();
    loop {
        let opened = Instant::now();
        match open.take() {
            Some(session) => {
                let ended = one_watch(session, links, bearings, &mut generation).await;
                tracing::warn!(
                    error = chain(&ended),
                    "the watch has ended; what was told stays in force"
                );
                if opened.elapsed() >= GOOD_WATCH {
                    backoff = Backoff::new();
                }
                backoff.wait().await;
            }
            None => match links.open(bearings).await {
                Ok(session) => open = Some(session),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "no watch yet");
                    backoff.wait().await;
                }
            },
        }
    }
}

/// Follows a watch to its end. At each renewal a new one is opened with the new certificate,
/// from where the old one stopped, before that goes.
async fn one_watch(
    session: Session,
    links: &Links,
    bearings: &Bearings,
    generation: &mut watch::Receiver<u64>,
) -> WatchEnded {
    let Session { downlink, uplink } = session;
    let mut downlink = Box::pin(downlink.run());
    let mut uplink = Box::pin(uplink.run());
    let mut behind = false;
    loop {
        tokio::select! {
            ended = &mut downlink => return ended,
            ended = &mut uplink => return ended,
            // The renewal lives as long as this thread.
            _ = generation.changed(), if !behind => {}
            () = tokio::time::sleep(HANDOVER_RETRY), if behind => {}
        }
        // Events rest meanwhile: what the old watch would tell, the new one tells again. What
        // goes up does not: a listener that drains leaves now.
        let next = tokio::select! {
            ended = &mut uplink => return ended,
            next = links.open(bearings) => next,
        };
        match next {
            Ok(next) => {
                downlink = Box::pin(next.downlink.run());
                uplink = Box::pin(next.uplink.run());
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
