//! A request on its way through the stack, with what its steps have decided about it.

use http::Request;

use super::Call;
use crate::Body;

/// A request on its way through the stack, with what its steps have decided about it.
///
/// It is in a box from the step that routes it on: what passes from step to step is a
/// pointer, and a step reads what another has decided without a look into a map.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) request: Request<Body>,
    pub(crate) call: Call,
}

impl Outgoing {
    /// A request that was routed.
    pub(crate) fn new(request: Request<Body>, call: Call) -> Box<Self> {
        Box::new(Self { request, call })
    }
}
