//! What governs a listener, as discovery has told it so far.

use std::sync::Arc;
use std::time::Duration;

use mesh_policy::authorize::{self, Client, Verdict};
use mesh_policy::name::{ObjectRef, ServicePort};
use mesh_policy::plan::inbound::InboundPlan;
use mesh_policy::plan::part::Part;

use crate::layers::authorize::{Denied, Refused};
use crate::peer::Peer;

/// The policy of one listener; everything but [`Policy::Open`] lets nobody in.
#[derive(Debug)]
pub enum Policy {
    /// Discovery has not said anything yet.
    Awaited,
    /// The plan is beyond this library, or makes no sense.
    Closed {
        /// Why, with the remedy.
        why: String,
    },
    /// The plan is understood.
    Open(Open),
    /// Several, of a listener that serves several names: all must let a client in.
    Every(Vec<Arc<Self>>),
}

/// A policy that is understood.
#[derive(Debug)]
pub struct Open {
    authorize: authorize::Policy,
    body_silence: BodySilence,
}

impl Open {
    fn decide(&self, peer: &Peer) -> Verdict<'_> {
        self.authorize.decide(&Client {
            identity: peer.identity(),
            address: peer.address().ip(),
        })
    }
}

/// The first of `rules` by name, and how many others there are.
fn named<'a>(rules: impl ExactSizeIterator<Item = &'a ObjectRef>) -> String {
    const NAMED: usize = 5;
    let others = rules.len().saturating_sub(NAMED);
    let mut names: Vec<String> = rules.take(NAMED).map(ToString::to_string).collect();
    if others > 0 {
        names.push(format!("{others} others"));
    }
    names.join(", ")
}

/// What the plan says about silent request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodySilence {
    Default,
    Unlimited,
    Limit(Duration),
}

impl Policy {
    /// Compiles a plan; one that is not understood is [`Policy::Closed`].
    #[must_use]
    pub fn compile(plan: &Part<InboundPlan>) -> Self {
        let plan = match plan.understood() {
            Ok(plan) => plan,
            Err(error) => return Self::closed(&error),
        };
        match authorize::Policy::compile(plan) {
            Ok(authorize) => Self::Open(Open {
                authorize,
                body_silence: match plan.request_body_idle_ms {
                    None => BodySilence::Default,
                    Some(0) => BodySilence::Unlimited,
                    Some(limit) => BodySilence::Limit(Duration::from_millis(limit)),
                },
            }),
            Err(error) => Self::closed(&error),
        }
    }

    /// The policy of a listener that serves several names: all of `policies` must let a
    /// client in, since it says itself which name it wants.
    #[must_use]
    pub fn every(policies: Vec<Arc<Self>>) -> Self {
        Self::Every(policies)
    }

    fn closed(error: &dyn std::error::Error) -> Self {
        Self::Closed {
            why: error.to_string(),
        }
    }

    /// Why the listener is closed, for reports and `/ready`; `None` if it is not.
    #[must_use]
    pub fn why_closed(&self) -> Option<&str> {
        match self {
            Self::Closed { why } => Some(why),
            Self::Every(policies) => policies.iter().find_map(|policy| policy.why_closed()),
            Self::Awaited | Self::Open(_) => None,
        }
    }

    /// Whether this client is let in, and by which object.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why not.
    pub fn admit(&self, peer: &Peer) -> Result<ObjectRef, Refused> {
        let open = match self {
            Self::Awaited => return Err(Refused::NoPolicy),
            Self::Closed { why } => return Err(Refused::Closed { why: why.clone() }),
            Self::Open(open) => open,
            Self::Every(policies) => {
                let by = policies.iter().map(|policy| policy.admit(peer));
                // The last of them stands for all; of none, nobody is let in.
                return by.reduce(Result::and).unwrap_or(Err(Refused::NoPolicy));
            }
        };
        match open.decide(peer) {
            Verdict::Allow { by } => Ok(by.clone()),
            Verdict::Audit { by } => {
                tracing::info!(client = peer.name(), %by, "let in by audit; enforcement would refuse");
                Ok(by.clone())
            }
            Verdict::Deny { server, reason } => Err(Refused::Denied(Arc::new(Denied {
                server: server.clone(),
                client: peer.name(),
                rules: named(open.authorize.rules(server)),
                reason,
            }))),
        }
    }

    /// Whether what is understood of the policy refuses this client, whatever it asks for.
    pub(super) fn denies(&self, peer: &Peer) -> bool {
        match self {
            // Both end without the client: it may be one that is let in.
            Self::Awaited | Self::Closed { .. } => false,
            Self::Every(policies) => policies.iter().any(|policy| policy.denies(peer)),
            Self::Open(open) => matches!(open.decide(peer), Verdict::Deny { .. }),
        }
    }

    /// The service that is served; `None` unless open.
    pub(super) fn service(&self) -> Option<&ServicePort> {
        match self {
            Self::Awaited | Self::Closed { .. } => None,
            Self::Every(policies) => policies.iter().find_map(|policy| policy.service()),
            Self::Open(open) => Some(open.authorize.port()),
        }
    }

    /// The `Server` that governs the port, and the port; `None` unless open.
    pub(super) fn server(&self) -> Option<(&ObjectRef, u16)> {
        match self {
            Self::Awaited | Self::Closed { .. } => None,
            Self::Every(policies) => policies.iter().find_map(|policy| policy.server()),
            Self::Open(open) => Some((open.authorize.server(), open.authorize.port().port)),
        }
    }

    /// How long a request body may be silent, where `default` is the process's own limit.
    pub(super) fn body_silence(&self, default: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Awaited | Self::Closed { .. } => default,
            Self::Every(policies) => {
                let limits = policies.iter().map(|policy| policy.body_silence(default));
                limits.flatten().min()
            }
            Self::Open(open) => match open.body_silence {
                BodySilence::Default => default,
                BodySilence::Unlimited => None,
                BodySilence::Limit(limit) => Some(limit),
            },
        }
    }
}
