//! Says aloud that a process has not joined yet, and why.

use std::convert::Infallible;
use std::sync::PoisonError;
use std::time::Duration;

use http::Uri;
use tokio::time::{Instant, sleep};

use super::join::Trouble;

/// The first line comes after so long; the pauses double up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Goes on until dropped.
pub(super) async fn aloud(discovery: Vec<Uri>, trouble: Trouble) -> Infallible {
    let begun = Instant::now();
    let servers: Vec<String> = discovery.iter().map(ToString::to_string).collect();
    let servers = servers.join(",");
    let mut pause = FIRST;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
        let cause = trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = cause.as_deref().unwrap_or("it gave no answer yet");
        let waited = begun.elapsed().as_secs();
        tracing::warn!(
            discovery = servers,
            cause,
            "not joined yet: discovery is tried again and again, for {waited} s now"
        );
    }
}
