//! How watches end.
//!
//! A watch that ends is not gone: for a grace its endpoints stay, so that a process
//! that lost its connection opens another watch and registers again without a gap.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Session, Sessions};

/// How long the endpoints of a watch outlive it.
const GRACE: Duration = Duration::from_secs(5);
/// How often ended watches are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Leases that are ended at once, as many as a store writes in one batch.
const AT_ONCE: usize = 64;
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
        // Many at once, since they share a sync of the disk: a machine that dies takes all its
        // processes along, and their endpoints must not leave one after the other.
        let ended = stream::iter(sessions.ended(now, GRACE));
        let remove = |session| remove(&sessions, session);
        ended.for_each_concurrent(AT_ONCE, remove).await;
    }
}

async fn remove(sessions: &Sessions, session: Arc<Session>) {
    // The lease still lives then: the next tick tries again.
    if let Err(error) = sessions.remove(&session).await {
        tracing::warn!(%error, watch = session.id(), "a lease could not be ended");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::metrics::Metrics;
    use crate::store::memory::Memory;
    use crate::store::{
        Changes, ChangesError, CommitError, LeaseId, Listing, Record, Store, Unavailable, Write,
    };
    use crate::watch::sessions::Open;
    use crate::watch::sessions::tests::{identity, request};

    /// A memory whose leases end as slowly as a disk writes, and which was there before.
    #[derive(Debug)]
    struct Slow {
        memory: Memory,
        inherited: Option<LeaseId>,
    }

    /// How long it takes a disk to write.
    const WRITE: Duration = Duration::from_millis(50);

    impl Store for Slow {
        fn id(&self) -> &str {
            self.memory.id()
        }

        fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, Unavailable>> {
            self.memory.get(key)
        }

        fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Unavailable>> {
            self.memory.list(prefix)
        }

        fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, CommitError>> {
            self.memory.commit(writes)
        }

        fn watch(&self) -> watch::Receiver<u64> {
            self.memory.watch()
        }

        fn changes_since(&self, revision: u64) -> BoxFuture<'_, Result<Changes, ChangesError>> {
            self.memory.changes_since(revision)
        }

        fn grant_lease(&self) -> BoxFuture<'_, Result<LeaseId, Unavailable>> {
            self.memory.grant_lease()
        }

        fn drop_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<u64, Unavailable>> {
            Box::pin(async move {
                tokio::time::sleep(WRITE).await;
                self.memory.drop_lease(lease).await
            })
        }

        fn inherited_lease(&self) -> Option<LeaseId> {
            self.inherited
        }
    }

    struct Fixture {
        store: Arc<Slow>,
        sessions: Arc<Sessions>,
        _ending: watch::Sender<bool>,
    }

    /// Sessions whose expiry runs.
    fn fixture() -> Fixture {
        with_store(Slow {
            memory: Memory::new(),
            inherited: None,
        })
    }

    fn with_store(store: Slow) -> Fixture {
        let store = Arc::new(store);
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
    async fn c16_the_endpoints_of_many_processes_that_died_at_once_leave_together() {
        let fixture = fixture();
        let mut open = Vec::new();
        for number in 0..500 {
            let watch = fixture.sessions.open(&identity("api"), request()).await;
            let watch = watch.unwrap();
            let write = Write::put(format!("endpoints/shop/api/{number}"), "{}");
            let write = write.leased(watch.session().lease());
            fixture.store.commit(vec![write]).await.unwrap();
            open.push(watch);
        }
        drop(open);
        tokio::time::sleep(GRACE + TICK * 3).await;
        let left = fixture.store.list("endpoints/").await.unwrap().records;
        assert_eq!(left.len(), 0, "they leave one after the other");
    }

    #[tokio::test(start_paused = true)]
    async fn c15_endpoints_from_before_the_start_have_45_seconds_to_come_back() {
        let memory = Memory::new();
        let inherited = memory.grant_lease().await.unwrap();
        let write = |key: &str| Write::put(key, "{}").leased(inherited);
        let writes = vec![write("endpoints/shop/api/1"), write("endpoints/shop/api/2")];
        memory.commit(writes).await.unwrap();
        let inherited = Some(inherited);
        let fixture = with_store(Slow { memory, inherited });
        let sessions = &fixture.sessions;
        let open = sessions.open(&identity("api"), request()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(44)).await;
        assert!(serves(&fixture).await, "it left too early");
        serve(&fixture, &open).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let left = fixture.store.list("endpoints/").await.unwrap().records;
        let left: Vec<_> = left.iter().map(|record| &*record.key).collect();
        assert_eq!(left, ["endpoints/shop/api/1"], "only who came back stays");
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
