//! Connections that are being opened. A dial belongs to the pool: the request that began it may
//! be served by another connection or give up, and the dial goes on for those who come later.

use std::sync::{Arc, Weak};

use mesh_tls::config::Alpn;

use super::Pool;

/// HTTP/1.1 connections to one endpoint that are being opened at once: a burst after a restart
/// would otherwise be as many handshakes at one moment. Of HTTP/2 one, since it is shared.
pub(super) const MAX_DIALS: usize = 64;

impl Pool {
    /// Begins to open a connection if those that are being opened are too few for the requests
    /// that wait. False if the endpoint has all the connections that it may have.
    pub(super) fn begin_dial(self: &Arc<Self>) -> bool {
        // Connections of a runtime that has ended are closed, and take no room.
        let shared = self.shared.load();
        let shared = shared.iter().filter(|shared| !shared.sender.is_closed());
        let shared = shared.count();
        let mut state = self.state();
        let (open, most, at_once) = match self.version() {
            Alpn::Http1 => (state.open, self.limits.whole, MAX_DIALS),
            Alpn::Http2 => (shared, self.limits.shared, 1),
        };
        if state.dialling >= state.waiters.len().min(at_once) {
            return true;
        }
        if open + state.dialling >= most {
            return false;
        }
        state.dialling += 1;
        drop(state);
        tokio::spawn(dial(Turn {
            pool: Arc::downgrade(self),
            is_over: false,
        }));
        true
    }
}

/// Opens one connection for whoever waits when it is there.
async fn dial(turn: Turn) {
    let Some(pool) = turn.pool.upgrade() else {
        return;
    };
    match pool.dial.dial().await {
        Ok(opened) => pool.take_in(opened),
        Err(error) => pool.fail(&error),
    }
    // Only now: what is neither open nor being opened is no longer counted.
    turn.end();
    // For those whose turn it was not yet.
    pool.begin_dial();
}

/// One of the dials that are under way at once.
struct Turn {
    pool: Weak<Pool>,
    is_over: bool,
}

impl Turn {
    fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        pool.state().dialling -= 1;
        if !self.is_over {
            // The runtime has ended. Those who wait on another one dial there.
            pool.abandon();
        }
    }
}
