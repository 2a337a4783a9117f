//! What a request passes on its way out, in order. The page to read first.
//!
//! ```text
//!  request
//!    │ context    what is inherited from the request being served
//!    │ target     one path and one host for rules and for the server, or 400
//!    │ route      authority → plan → rule; the plan is loaded here, once
//!    │ filter     headers that the rule changes; callers that it sends elsewhere
//!    │ observe    counts what was asked of the route, and what came of it
//!    │ deadline   the rule's limit, capped by what the caller still waits
//!    │ retry      another try where it is safe, asked for and paid for
//!    │ split      the rule's weights → backend
//!    │ filter     headers that the backend changes
//!    │ balance    the backend's endpoints → the less loaded of two
//!    ▼ endpoint   metrics, connection, mutual TLS with exactly that endpoint
//! ```
//!
//! From the step that routes it on, a request travels in a box with its `Call`: what
//! one step decides for the next. An error of any step becomes a response at the very top, by the
//! table in [`crate::answer`]: an application sees the same statuses that a mesh
//! of sidecars would send, each with its reason in `x-mesh-error`.

mod call;
pub(crate) mod form;
mod outgoing;
#[cfg(test)]
mod tests;
mod trace;

use std::sync::Arc;

use tower_layer::Layer;

pub(crate) use call::Call;
pub use form::Shapeless;
pub(crate) use outgoing::Outgoing;
pub use trace::{Decided, DecidedRule, Trace};

use crate::layers::balance::{Balance, BalanceLayer};
use crate::layers::canonical_target::{CanonicalTarget, CanonicalTargetLayer};
use crate::layers::context::{ContextLayer, Inherit};
use crate::layers::endpoint::Endpoint;
use crate::layers::filter::{Filter, FilterLayer};
use crate::layers::outbound_observe::{OutboundObserve, OutboundObserveLayer};
use crate::layers::retry::{Retry, RetryLayer, Series};
use crate::layers::route::{Route, RouteLayer};
use crate::layers::split::{Split, SplitLayer};
use crate::layers::timeout::{Timeout, TimeoutLayer};
use crate::plans::Plans;

/// The whole stack as a type: no box between its steps.
pub(crate) type Outbound = Inherit<
    CanonicalTarget<
        Route<Filter<OutboundObserve<Timeout<Retry<Split<Filter<Balance<Endpoint>>>>>>>>,
    >,
>;

/// Puts the stack together; `replay_limit` bytes of a body are kept for another try.
pub(crate) fn stack(plans: Arc<Plans>, series: Arc<Series>, replay_limit: usize) -> Outbound {
    let context = ContextLayer;
    let target = CanonicalTargetLayer::outbound();
    let route = RouteLayer::new(plans);
    let of_rule = FilterLayer::of_rule();
    let observe = OutboundObserveLayer::new(Arc::clone(&series));
    let deadline = TimeoutLayer::new(None);
    let retry = RetryLayer::new(series, replay_limit);
    let split = SplitLayer;
    let of_backend = FilterLayer::of_backend();
    let balance = BalanceLayer;
    (
        (context, target, route, of_rule),
        (observe, deadline, retry),
        (split, of_backend, balance),
    )
        .layer(Endpoint)
}
