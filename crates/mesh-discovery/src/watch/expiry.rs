//! How watches end.
//!
//! A watch that ends is not gone: for a grace its endpoints stay, so that a process
//! that lost its connection opens another watch and registers again without a gap.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::session::Sessions;

/// How long the endpoints of a watch outlive it.
const GRACE: Duration = Duration::from_secs(5);
/// How often ended watches are looked at.
const TICK: Duration = Duration::from_millis(500);
/// A tick so late means that this server itself was stopped or starved.
const STALL: Duration = Duration::from_secs(3);
/// How long the endpoints stay that a server finds when it starts (C15): their processes try to
/// come back every 30 s at the longest, and register again.
const RESTART_GRACE: Duration = Duration::from_secs(45);
/// How long nobody is expired after a stall: everyone's connection looks dead at once then.
const INDULGENCE: Duration = Duration::from_secs(30);

/// When ended watches expire: pure, so that a stall can be tried.
#[derive(Debug)]
struct Expiry {
    last: Instant,
    indulgent_until: Instant,
}

impl Expiry {
    const fn new(now: Instant) -> Self {
        Self {
            last: now,
            indulgent_until: now,
        }
    }

    /// Whether watches whose grace is over expire at this tick.
    fn tick(&mut self, now: Instant) -> bool {
        let late = now.duration_since(self.last);
        self.last = now;
        if late > TICK + STALL {
            tracing::warn!(?late, "this server was stopped: nobody expires for a while");
            self.indulgent_until = now + INDULGENCE;
        }
        now >= self.indulgent_until
    }
}

/// Ends leases as their time comes, until the server ends.
pub(crate) async fn expire(sessions: Arc<Sessions>, mut ending: watch::Receiver<bool>) {
    let mut expiry = Expiry::new(Instant::now());
    let come_back_until = Instant::now() + RESTART_GRACE;
    loop {
        tokio::select! {
            _ = ending.wait_for(|ending| *ending) => return,
            () = tokio::time::sleep(TICK) => {}
        }
        let now = Instant::now();
        if !expiry.tick(now) {
            continue;
        }
        if now >= come_back_until
            && let Err(error) = sessions.drop_inherited().await
        {
            tracing::warn!(%error, "endpoints from before the start could not be removed");
        }
        for session in sessions.ended(now, GRACE) {
            // The lease still lives then: the next tick tries again.
            if let Err(error) = sessions.remove(&session).await {
                tracing::warn!(%error, watch = session.id(), "a lease could not be ended");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::store::memory::Memory;
    use crate::store::{Store, Write};
    use crate::watch::session::Open;
    use crate::watch::session::tests::{identity, request};

    struct Fixture {
        store: Arc<Memory>,
        sessions: Arc<Sessions>,
        _ending: watch::Sender<bool>,
    }

    /// Sessions whose expiry runs.
    fn fixture() -> Fixture {
        let store = Arc::new(Memory::new());
        let sessions = Sessions::new(store.clone(), Arc::new(Metrics::new()));
        let sessions = Arc::new(sessions);
        let (ending, is_ending) = watch::channel(false);
        drop(tokio::spawn(expire(sessions.clone(), is_ending)));
        Fixture {
            store,
            sessions,
            _ending: ending,
        }
    }

    async fn serve(fixture: &Fixture, open: &Open) {
        let write = Write::put("endpoints/shop/api/1", "{}").leased(open.session().lease());
        fixture.store.commit(vec![write]).await.unwrap();
    }

    async fn serves(fixture: &Fixture) -> bool {
        let found = fixture.store.get("endpoints/shop/api/1").await.unwrap();
        found.is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_endpoints_of_a_watch_that_ended_leave_after_the_grace() {
        let fixture = fixture();
        let open = fixture
            .sessions
            .open(&identity("api"), request())
            .await
            .unwrap();
        serve(&fixture, &open).await;
        tokio::time::sleep(GRACE * 10).await;
        assert!(serves(&fixture).await, "an open watch never expires");
        drop(open);
        tokio::time::sleep(GRACE - TICK).await;
        assert!(serves(&fixture).await);
        tokio::time::sleep(TICK * 3).await;
        assert!(!serves(&fixture).await);
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_that_another_watch_took_over_stay() {
        let fixture = fixture();
        let open = fixture
            .sessions
            .open(&identity("api"), request())
            .await
            .unwrap();
        serve(&fixture, &open).await;
        drop(open);
        let again = fixture
            .sessions
            .open(&identity("api"), request())
            .await
            .unwrap();
        serve(&fixture, &again).await;
        tokio::time::sleep(GRACE * 10).await;
        assert!(serves(&fixture).await);
    }

    #[test]
    fn c16_a_server_that_was_stopped_expires_nobody_at_once() {
        let start = Instant::now();
        let mut expiry = Expiry::new(start);
        assert!(expiry.tick(start + TICK));
        let resumed = start + Duration::from_secs(60);
        assert!(!expiry.tick(resumed));
        let mut now = resumed;
        while now + TICK < resumed + INDULGENCE {
            now += TICK;
            assert!(!expiry.tick(now));
        }
        assert!(expiry.tick(resumed + INDULGENCE));
    }
}
