//! Does what a rule or a backend says is done on the way: headers changed, callers sent elsewhere.
//!
//! It stands in the stack twice. The filters of the rule come before retries, so
//! that they are done once; those of a backend come after it is chosen, on what
//! this try sends, so that another try to another backend begins anew.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{HOST, LOCATION};
use http::{Request, Response};
use mesh_policy::filter::{Filters, Redirect, Target};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::outbound::Outgoing;
use crate::{Body, BoxError};

/// Filters requests and responses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilterLayer {
    of: Of,
}

/// Whose filters.
#[derive(Clone, Copy, Debug)]
enum Of {
    Rule,
    Backend,
}

impl FilterLayer {
    /// Filters as the rule says.
    pub(crate) const fn of_rule() -> Self {
        Self { of: Of::Rule }
    }

    /// Filters as the chosen backend says.
    pub(crate) const fn of_backend() -> Self {
        Self { of: Of::Backend }
    }
}

impl<S> Layer<S> for FilterLayer {
    type Service = Filter<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let of = self.of;
        Filter { inner, of }
    }
}

/// The service [`FilterLayer`] makes.
#[derive(Clone, Debug)]
pub(crate) struct Filter<S> {
    inner: S,
    of: Of,
}

impl<S> Service<Box<Outgoing>> for Filter<S>
where
    S: Service<Box<Outgoing>, Response = Response<Body>, Error = BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = FilterFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut outgoing: Box<Outgoing>) -> Self::Future {
        let Outgoing { request, call } = &mut *outgoing;
        let filters = match self.of {
            Of::Rule => call.filters(),
            Of::Backend => call.backend_filters(),
        };
        let filters = filters.cloned();
        if let Some(filters) = &filters {
            if let Some(response) = filters.redirect.as_ref().and_then(|to| away(to, request)) {
                let response = Some(Box::new(response));
                return FilterFuture::Redirected { response };
            }
            for edit in &filters.request {
                edit.apply(request.headers_mut());
            }
        }
        FilterFuture::Sent {
            response: self.inner.call(outgoing),
            filters,
        }
    }
}

/// The answer that sends a caller elsewhere; a request that got this far names a host.
fn away(redirect: &Redirect, request: &Request<Body>) -> Option<Response<Body>> {
    let uri = request.uri();
    let host = request.headers().get(HOST);
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => host?.to_str().ok()?,
    };
    let location = redirect.location(&Target {
        scheme: uri.scheme_str().unwrap_or_default(),
        authority,
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = redirect.status();
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

pin_project! {
    /// The future [`Filter`] returns.
    #[project = Step]
    #[derive(Debug)]
    pub(crate) enum FilterFuture<F> {
        Sent { #[pin] response: F, filters: Option<Arc<Filters>> },
        Redirected { response: Option<Box<Response<Body>>> },
    }
}

impl<F> Future for FilterFuture<F>
where
    F: Future<Output = Result<Response<Body>, BoxError>>,
{
    type Output = Result<Response<Body>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Step::Sent { response, filters } => {
                let mut polled = response.poll(cx);
                if let Some(filters) = filters
                    && let Poll::Ready(Ok(response)) = &mut polled
                {
                    for edit in &filters.response {
                        edit.apply(response.headers_mut());
                    }
                }
                polled
            }
            Step::Redirected { response } => {
                let response = response.take();
                let response = response.expect("a future is not polled after its end");
                Poll::Ready(Ok(*response))
            }
        }
    }
}
