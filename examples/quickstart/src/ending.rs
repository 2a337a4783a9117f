//! When the demo ends: after its time, or by a signal.
//!
//! A terminal that closes and a supervisor send signals of their own; each of them must remove
//! the temporary folder, which holds the keys of the demo's CA.

use std::future::pending;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the demo.
#[derive(Debug)]
pub struct Ending {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ending {
    /// Catches the signals from now on.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal: Ctrl-C, SIGTERM, or a terminal that closes.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }

    /// Waits for a signal, or for the end of `length`.
    pub async fn within(&mut self, length: Option<Duration>) {
        let limit = async {
            match length {
                Some(length) => tokio::time::sleep(length).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = limit => {}
            () = self.asked() => {}
        }
    }
}
