//! One connection before the policy, and what becomes of it when the policy turns.
//!
//! A request is ruled when it begins, by the policy of that moment. One that goes
//! on for hours would outlive every change, so a client that was let in and is
//! not any more has its open streams ended a while later.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mesh_tls::lifetime::Lifetime;
use tokio::time::Instant;

use super::ruling::{Docket, Ruling};
use crate::peer::Peer;
use crate::transport::activity::{Activity, Phase};

/// The longest time between two looks at the policy.
const COARSEST: Duration = Duration::from_secs(1);
/// The shortest.
const FINEST: Duration = Duration::from_millis(1);
/// How long a connection may outlive its client's certificate.
const OUTLIVES: Duration = Duration::from_secs(60);

/// One connection before the policy.
#[derive(Debug)]
pub(super) struct Case {
    docket: Arc<Docket>,
    peer: Peer,
    /// Gone once the connection is.
    activity: Weak<Activity>,
    last: ArcSwapOption<Ruling>,
    /// Since when policy refuses a client that it had let in.
    turned: Mutex<Option<Instant>>,
    /// What is left of the client's certificate.
    certificate: Option<Lifetime>,
}

impl Case {
    /// What the policy of this moment means for the connection.
    pub(super) fn ruling(&self) -> Arc<Ruling> {
        let policy = self.docket.policy().load();
        let last = self.last.load();
        if let Some(ruling) = last.as_ref().filter(|last| last.is_by(&policy)) {
            return Arc::clone(ruling);
        }
        let ruling = Arc::new(self.docket.rule(Arc::clone(&policy), &self.peer));
        self.turn(last.as_ref().is_some_and(|last| last.allows()), &ruling);
        if self.peer.identity().is_none() {
            self.doubt(ruling.denies());
        }
        self.last.store(Some(Arc::clone(&ruling)));
        ruling
    }

    /// Notes that a client which `was_let_in` is not any more, or is again.
    fn turn(&self, was_let_in: bool, ruling: &Ruling) {
        let mut turned = self.turned.lock().unwrap_or_else(PoisonError::into_inner);
        if ruling.allows() {
            *turned = None;
        } else if was_let_in && ruling.refuses() {
            *turned = Some(Instant::now());
        }
    }

    fn doubt(&self, denied: bool) {
        let Some(activity) = self.activity.upgrade() else {
            return;
        };
        activity.doubt(denied);
        if denied {
            // This request is answered, and no other one is taken from a stranger.
            activity.end();
        }
    }

    /// Ends a connection whose client's certificate has ended, and cuts it a minute later.
    fn look_at_certificate(&self) {
        let over = self.certificate.and_then(|lifetime| lifetime.ended());
        let (Some(over), Some(activity)) = (over, self.activity.upgrade()) else {
            return;
        };
        activity.end();
        if over >= OUTLIVES {
            let client = self.peer.name();
            tracing::info!(
                client,
                "a connection that outlived its client's certificate is cut"
            );
            activity.cut();
        }
    }

    /// Cuts what still goes on of a client that has been refused for as long as `grace`.
    fn look(&self, grace: Duration) {
        if self.last.load().is_none() {
            // It has asked for nothing yet.
            return;
        }
        self.ruling();
        let mut turned = self.turned.lock().unwrap_or_else(PoisonError::into_inner);
        if turned.is_none_or(|since| since.elapsed() < grace) {
            return;
        }
        *turned = None;
        let Some(activity) = self.activity.upgrade() else {
            return;
        };
        let glance = activity.glance();
        if glance.in_flight > 0 || glance.phase == Phase::Upgraded {
            let client = self.peer.name();
            tracing::info!(client, "streams that policy no longer allows are cut");
            self.docket.metrics().revoked.increment(1);
            activity.cut();
        }
    }
}

/// The connections of a listener, as the policy sees them.
#[derive(Debug, Default)]
pub(super) struct Cases(Mutex<Vec<Arc<Case>>>);

impl Cases {
    /// Takes in one more connection.
    pub(super) fn open(
        &self,
        docket: &Arc<Docket>,
        peer: Peer,
        activity: &Arc<Activity>,
    ) -> Arc<Case> {
        let not_after = peer.tls().and_then(|tls| tls.peer_not_after);
        let case = Arc::new(Case {
            docket: Arc::clone(docket),
            peer,
            activity: Arc::downgrade(activity),
            last: ArcSwapOption::empty(),
            turned: Mutex::default(),
            certificate: not_after.map(Lifetime::until),
        });
        let mut cases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cases.push(Arc::clone(&case));
        case
    }

    /// Ends, for ever, what policy has turned against for as long as `grace`.
    pub(super) async fn watch(&self, grace: Duration) {
        let pause = (grace / 8).clamp(FINEST, COARSEST);
        loop {
            tokio::time::sleep(pause).await;
            let mut cases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            cases.retain(|case| case.activity.strong_count() > 0);
            for case in &*cases {
                case.look_at_certificate();
                case.look(grace);
            }
        }
    }
}
