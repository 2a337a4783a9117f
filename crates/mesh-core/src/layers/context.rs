//! Lets a call inherit from the request that is being served.
//!
//! The context is read in `call`, before any future exists: a call that is made
//! while a request is served keeps its deadline and trace wherever it is awaited.

use std::task::{Context as TaskContext, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::inbound_context::{ATTEMPT, CRITICALITY, TRACEPARENT};
use super::peer::strip;
use crate::context::{self, Context};

/// Gives each call the [`Context`] of the request being served, as an extension.
///
/// A call that carries a [`Context`] already keeps it; one without anything to inherit gets
/// none. Headers that only a mesh may set are removed, then `traceparent` (unless the
/// application set one), criticality and attempt are set.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContextLayer;

impl<S> Layer<S> for ContextLayer {
    type Service = Inherit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Inherit { inner }
    }
}

/// The service [`ContextLayer`] makes.
#[derive(Clone, Debug)]
pub struct Inherit<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Inherit<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        strip(request.headers_mut());
        let own = request.extensions().get::<Context>().cloned();
        let context = own.unwrap_or_else(context::current);
        if !context.is_empty() {
            announce(&context, &mut request);
            request.extensions_mut().insert(context);
        }
        self.inner.call(request)
    }
}

fn announce<B>(context: &Context, request: &mut Request<B>) {
    let headers = request.headers_mut();
    if let Some(trace) = &context.traceparent
        && !headers.contains_key(TRACEPARENT)
    {
        headers.insert(TRACEPARENT, trace.clone());
    }
    if context.criticality != context::Criticality::default() {
        let word = http::HeaderValue::from_static(context.criticality.as_str());
        headers.insert(CRITICALITY, word);
    }
    if context.attempt > 0 {
        headers.insert(ATTEMPT, context.attempt.into());
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::HeaderValue;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::context::Criticality;

    fn inherited() -> Context {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        Context {
            traceparent: Some(HeaderValue::from_static(trace)),
            criticality: Criticality::Sheddable,
            ..Context::default()
        }
    }

    async fn sent(request: Request<()>, serving: Context) -> Request<()> {
        let wire = service_fn(|request: Request<()>| async { Ok::<_, Infallible>(request) });
        let mut service = ContextLayer.layer(wire);
        let service = service.ready().await.expect("always ready");
        // The call is made within the scope and awaited outside of it.
        let call = context::enter(serving, || service.call(request));
        call.await.expect("it echoes")
    }

    #[tokio::test]
    async fn a_call_keeps_what_was_current_when_it_was_made() {
        let request = sent(Request::new(()), inherited()).await;
        assert_eq!(request.extensions().get(), Some(&inherited()));
        assert_eq!(request.headers()["x-mesh-criticality"], "sheddable");
        assert_eq!(
            request.headers()[TRACEPARENT],
            inherited().traceparent.expect("set")
        );
    }

    #[tokio::test]
    async fn z11_an_application_cannot_speak_for_the_mesh() {
        let forged = Request::builder()
            .header("x-mesh-criticality", "critical")
            .header("l5d-client-id", "x");
        let request = sent(forged.body(()).expect("a request"), Context::default()).await;
        assert!(request.headers().is_empty());
    }

    #[tokio::test]
    async fn a_trace_of_the_applications_own_stays() {
        let own = Request::builder().header(TRACEPARENT, "00-own");
        let request = sent(own.body(()).expect("a request"), inherited()).await;
        assert_eq!(request.headers()[TRACEPARENT], "00-own");
    }
}
