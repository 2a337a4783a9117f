//! What is sent: `web`'s steady load, and the intruder's attempts.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use mesh_core::{Body, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use crate::world::World;

/// The intruder tries this often.
const INTRUSION: Duration = Duration::from_millis(200);

/// Counts of callers.
#[derive(Debug, Default)]
pub struct Sums {
    /// Calls of `web`.
    pub requests: AtomicU64,
    /// Those answered with success, body included.
    pub succeeded: AtomicU64,
    /// Calls of the intruder.
    pub intrusions: AtomicU64,
    /// What the intruder was answered.
    pub statuses: Mutex<BTreeSet<u16>>,
}

/// Both loads, running.
pub struct Load {
    sums: Arc<Sums>,
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Load {
    /// Starts sending.
    pub fn start(world: &World, requests_per_second: u32) -> Self {
        let sums = Arc::new(Sums::default());
        let (stop, stopped) = watch::channel(false);
        let every = Duration::from_secs(1) / requests_per_second;
        let web = {
            let (client, sums) = (world.web_client(), sums.clone());
            repeat(every, stopped.clone(), move || {
                call(client.clone(), sums.clone())
            })
        };
        let intruder = {
            let (client, sums) = (world.intruder_client(), sums.clone());
            repeat(INTRUSION, stopped, move || {
                intrude(client.clone(), sums.clone())
            })
        };
        Self {
            sums,
            stop,
            tasks: [tokio::spawn(web), tokio::spawn(intruder)],
        }
    }

    /// Refused calls of the intruder so far.
    pub fn denied(&self) -> u64 {
        self.sums.intrusions.load(Ordering::Relaxed)
    }

    /// Stops sending and waits for what is in flight.
    pub async fn stop(self) -> Arc<Sums> {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.expect("senders do not panic");
        }
        self.sums
    }
}

/// Starts one call per period, whether or not earlier ones have ended, until told to stop.
async fn repeat<F: Future<Output = ()> + Send + 'static>(
    every: Duration,
    mut stopped: watch::Receiver<bool>,
    call: impl Fn() -> F,
) {
    let calls = TaskTracker::new();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            _ = ticks.tick() => drop(calls.spawn(call())),
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
    }
    calls.close();
    calls.wait().await;
}

fn request() -> Request<Body> {
    Request::get("http://api.shop/")
        .body(Body::empty())
        .expect("a fixed request is valid")
}

async fn call(client: Client, sums: Arc<Sums>) {
    sums.requests.fetch_add(1, Ordering::Relaxed);
    let Ok(response) = client.send(request()).await;
    let status = response.status();
    let whole = response.into_body().collect().await.is_ok();
    if whole && status.is_success() {
        sums.succeeded.fetch_add(1, Ordering::Relaxed);
    }
}

async fn intrude(client: Client, sums: Arc<Sums>) {
    let Ok(response) = client.send(request()).await;
    sums.intrusions.fetch_add(1, Ordering::Relaxed);
    let mut statuses = sums.statuses.lock().expect("no holder panics");
    statuses.insert(response.status().as_u16());
}
