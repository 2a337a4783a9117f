//! What the stack decided about one request, for somebody who asks.
//!
//! Nobody asks as a rule, so that a request costs one look for a [`Trace`] more and nothing
//! else. It is asked for with the request and not told with the response, because an answer
//! of the mesh itself is where somebody wants to know most.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_policy::name::{ObjectRef, ServicePort};
use mesh_tls::handshake::TlsFacts;

/// A request extension in which the stack writes down what it decides.
///
/// ```no_run
/// use mesh_core::outbound::Trace;
/// use mesh_core::{Body, BoxError, Mesh};
///
/// # async fn run(mesh: Mesh) -> Result<(), BoxError> {
/// let trace = Trace::default();
/// let request = http::Request::get("http://orders.shop/").extension(trace.clone());
/// let response = mesh.client().send(request.body(Body::empty())?).await?;
/// let decided = trace.decided();
/// println!("{}, backend {:?}", response.status(), decided.backend);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Decided>>);

/// What the stack has decided about a request; what it never came to is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decided {
    /// The logical port of the service that the authority names.
    pub port: Option<ServicePort>,
    /// The route that governs; the built-in `default` where nobody wrote one.
    pub route: Option<ObjectRef>,
    /// Which of its rules.
    pub rule: Option<DecidedRule>,
    /// The backend that the weights chose, of the last attempt.
    pub backend: Option<ServicePort>,
    /// The endpoint that the balancer chose, of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// What the newest connection with that endpoint agreed on and proved; `None` also for
    /// plaintext, and for an endpoint that no connection was opened with.
    pub tls: Option<TlsFacts>,
    /// How often the request was given to an endpoint: above 1 once it was tried again.
    pub attempts: u32,
}

/// A rule, as its route has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedRule {
    /// Which rule of the route, from 0.
    pub index: usize,
    /// The rule's name, if it has one.
    pub name: Option<String>,
}

impl Trace {
    /// What has been decided so far.
    #[must_use]
    pub fn decided(&self) -> Decided {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes down what was decided.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Decided)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
