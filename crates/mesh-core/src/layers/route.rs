//! Finds the plan of a request by its authority, and the rule that governs it.
//!
//! The plan is loaded here, once: what the request carries from now on does not
//! change when discovery says something new.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use http::Request;
use http::header::HOST;
use mesh_policy::address::{UnknownPort, select_port};
use mesh_policy::name::{ServiceName, ServicePort};
use mesh_policy::route::Facts;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::timeout::{Limit, TimedOut};
use crate::answer::{Cause, Caused, Protocol};
use crate::context::Context as Inherited;
use crate::outbound::{Call, Outgoing};
pub use crate::plans::NotInMesh;
use crate::plans::{Answer, Entry, Plans};
use crate::{Body, BoxError};

/// Gives every request its plan and its rule.
#[derive(Clone, Debug)]
pub(crate) struct RouteLayer {
    plans: Arc<Plans>,
}

impl RouteLayer {
    /// Routes by `plans`.
    pub(crate) fn new(plans: Arc<Plans>) -> Self {
        Self { plans }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = Route<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Route {
            inner,
            plans: Arc::clone(&self.plans),
        }
    }
}

/// The service [`RouteLayer`] makes.
#[derive(Clone, Debug)]
pub(crate) struct Route<S> {
    inner: S,
    plans: Arc<Plans>,
}

impl<S> Service<Request<Body>> for Route<S>
where
    S: Service<Box<Outgoing>, Error = BoxError> + Clone,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = RouteFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (entry, port) = match find(&self.plans, &request) {
            Ok(found) => found,
            Err(error) => return RouteFuture::refused(error),
        };
        if let Answer::Asked = **entry.now() {
            let clone = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, clone);
            let begun = Instant::now();
            let answer = first_answer(Arc::clone(&entry), &request, begun);
            return RouteFuture::Waiting {
                waiting: Box::new(Waiting {
                    answer: Box::pin(answer),
                    begun,
                    entry,
                    port,
                    request: Some(request),
                    inner,
                }),
            };
        }
        match decide(&entry.now(), &entry, port, &request) {
            Ok(call) => RouteFuture::Sent {
                response: self.inner.call(Outgoing::new(request, call)),
            },
            Err(error) => RouteFuture::refused(error),
        }
    }
}

fn find(plans: &Plans, request: &Request<Body>) -> Result<(Arc<Entry>, Option<u16>), Unroutable> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .ok_or(Unroutable::NoAuthority)?,
    };
    Ok(plans.find(authority)?)
}

/// Discovery's first answer, waited for no longer than our own caller waits for ours.
fn first_answer(
    entry: Arc<Entry>,
    request: &Request<Body>,
    begun: Instant,
) -> impl Future<Output = Result<Answer, TimedOut>> + use<> {
    let inherited = request.extensions().get::<Inherited>();
    let until = inherited.and_then(|context| context.deadline);
    async move {
        match until {
            None => Ok(entry.answer().await),
            Some(until) => tokio::time::timeout_at(until, entry.answer())
                .await
                .map_err(|_| TimedOut::new(Limit::Inherited, until - begun)),
        }
    }
}

fn decide(
    answer: &Answer,
    entry: &Entry,
    port: Option<u16>,
    request: &Request<Body>,
) -> Result<Call, Unroutable> {
    let name = entry.name();
    let service = match answer {
        Answer::Known(service) => service,
        Answer::Unknown => return Err(Unroutable::Unknown { name: name.clone() }),
        Answer::Asked => return Err(Unroutable::Unanswered { name: name.clone() }),
    };
    let unknown_port = |why| Unroutable::Port {
        name: name.clone(),
        why,
    };
    let number = select_port(service.numbers(), port).map_err(unknown_port)?;
    let port = service.port(number).expect("the number is one of these");
    let routes = port.routes.as_ref().map_err(|why| Unroutable::Closed {
        port: port.address.clone(),
        why: why.to_string(),
    })?;
    let facts = Facts {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: request.headers(),
    };
    let found = routes
        .table
        .find(&facts)
        .ok_or_else(|| Unroutable::NoRule {
            port: port.address.clone(),
        })?;
    let budget = entry.budget(service.budget());
    let protocol = Protocol::of(request.headers());
    let call = Call::new(Arc::clone(port), found.rule, budget, protocol);
    Ok(match request.extensions().get() {
        Some(trace) => call.traced(trace),
        None => call,
    })
}

pin_project! {
    /// The future [`Route`] returns.
    #[project = Step]
    pub(crate) enum RouteFuture<S: Service<Box<Outgoing>>> {
        Sent { #[pin] response: S::Future },
        Waiting { waiting: Box<Waiting<S>> },
        Refused { error: Option<BoxError> },
    }
}

/// A request whose service is asked for the first time.
pub(crate) struct Waiting<S> {
    answer: BoxFuture<'static, Result<Answer, TimedOut>>,
    /// When the request was made: its limits run from then on.
    begun: Instant,
    entry: Arc<Entry>,
    port: Option<u16>,
    request: Option<Request<Body>>,
    inner: S,
}

impl<S: Service<Box<Outgoing>>> RouteFuture<S> {
    fn refused(error: Unroutable) -> Self {
        let error = Some(error.into());
        Self::Refused { error }
    }
}

impl<S> Future for RouteFuture<S>
where
    S: Service<Box<Outgoing>, Error = BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let response = match self.as_mut().project() {
                Step::Sent { response } => return response.poll(cx),
                Step::Refused { error } => {
                    let error = error.take().expect("a future is not polled after its end");
                    return Poll::Ready(Err(error));
                }
                Step::Waiting { waiting } => {
                    let answer = ready!(waiting.answer.as_mut().poll(cx))?;
                    let request = waiting.request.take();
                    let request = request.expect("a request waits for one answer");
                    let call = decide(&answer, &waiting.entry, waiting.port, &request)?;
                    let call = call.begun_at(waiting.begun);
                    waiting.inner.call(Outgoing::new(request, call))
                }
            };
            self.set(Self::Sent { response });
        }
    }
}

/// A request that no plan takes anywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unroutable {
    /// It says no host.
    #[error(
        "the request names no service: give it an absolute URI, such as http://orders.shop/, or a Host header"
    )]
    NoAuthority,
    /// Its host is no service of the mesh.
    #[error(transparent)]
    NotInMesh(#[from] NotInMesh),
    /// Discovery does not know the service.
    #[error("discovery knows no service {name}: apply or serve it, or mend the name")]
    Unknown {
        /// The service.
        name: ServiceName,
    },
    /// Discovery has not answered for the service in time.
    #[error(
        "discovery has not answered for service {name} within 1 s: see whether it can be reached"
    )]
    Unanswered {
        /// The service.
        name: ServiceName,
    },
    /// The service lacks the port.
    #[error("service {name}: {why}")]
    Port {
        /// The service.
        name: ServiceName,
        /// Which ports there are.
        why: UnknownPort,
    },
    /// Its plan is beyond this library.
    #[error("{port} is closed: {why}")]
    Closed {
        /// The port.
        port: ServicePort,
        /// What was not understood.
        why: String,
    },
    /// Routes are attached and none matches.
    #[error("{port} has routes and none of their rules matches this request")]
    NoRule {
        /// The port.
        port: ServicePort,
    },
}

impl Caused for Unroutable {
    fn cause(&self) -> Cause {
        match self {
            Self::NoAuthority | Self::NotInMesh(NotInMesh::Invalid(_)) => Cause::InvalidRequest,
            Self::Unknown { .. }
            | Self::Unanswered { .. }
            | Self::NotInMesh(NotInMesh::External { .. }) => Cause::UnknownService,
            Self::Port { .. } => Cause::UnknownPort,
            Self::Closed { .. } => Cause::PlanNotUnderstood,
            Self::NoRule { .. } => Cause::NoRoute,
        }
    }
}
