//! Requests that go on while something else happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_core::Client;
use tokio::task::JoinHandle;

use crate::get;

/// How many callers send at once.
const CALLERS: usize = 4;
/// How many failures are told of.
const TOLD: usize = 5;

/// Several callers that each send one request after the other.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Tally>>,
}

/// What became of a load.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    /// Status and text of the first failures.
    pub(crate) failures: Vec<(u16, String)>,
}

impl Load {
    /// Sends `GET uri`, each caller with a pause of `pause` between two requests.
    pub(crate) fn start(client: &Client, uri: &'static str, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |client: Client| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    tally.note(get(&client, uri).await);
                    tokio::time::sleep(pause).await;
                }
                tally
            })
        };
        let callers = (0..CALLERS).map(|_| caller(client.clone())).collect();
        Self { stop, callers }
    }

    /// Lets the last requests end, and sums up.
    pub(crate) async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for caller in self.callers {
            let tally = caller.await.expect("a caller does not panic");
            all.requests += tally.requests;
            all.failed += tally.failed;
            all.failures.extend(tally.failures);
        }
        all
    }
}

impl Tally {
    fn note(&mut self, (status, text): (u16, String)) {
        self.requests += 1;
        if status != 200 {
            self.failed += 1;
            if self.failures.len() < TOLD {
                self.failures.push((status, text));
            }
        }
    }
}
