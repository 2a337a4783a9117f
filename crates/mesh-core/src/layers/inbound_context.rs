//! Takes what a request inherits from its caller, and scopes it around the work.
//!
//! Only an authenticated peer is believed: a stranger could otherwise shorten
//! deadlines or raise its own criticality. Whatever is not believed, and whatever
//! was taken, is removed, so that an application cannot mistake it for the mesh's.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use mesh_policy::duration;
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::peer::{CLIENT_ID, LINKERD_CLIENT_ID, strip};
use crate::context::{self, Context, Criticality};
use crate::peer::Peer;

/// How long the caller waits, as a duration such as `250ms`.
pub const TIMEOUT: HeaderName = HeaderName::from_static(names::TIMEOUT);
/// How much it hurts to refuse the work: a word of [`Criticality`].
pub const CRITICALITY: HeaderName = HeaderName::from_static(names::CRITICALITY);
/// Which attempt this is, from 0.
pub const ATTEMPT: HeaderName = HeaderName::from_static(names::ATTEMPT);
/// The W3C trace context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static(names::TRACEPARENT);

/// How long a gRPC caller waits.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static(names::GRPC_TIMEOUT);

/// The names as text, which a `match` takes.
mod names {
    pub(super) const TIMEOUT: &str = "x-mesh-timeout";
    pub(super) const CRITICALITY: &str = "x-mesh-criticality";
    pub(super) const ATTEMPT: &str = "x-mesh-attempt";
    pub(super) const TRACEPARENT: &str = "traceparent";
    pub(super) const GRPC_TIMEOUT: &str = "grpc-timeout";
}

/// Scopes each request's [`Context`] around its handler and its response body, and names its
/// peer in [`CLIENT_ID`] and [`LINKERD_CLIENT_ID`] once the headers of the wire have gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct InboundContextLayer;

impl<S> Layer<S> for InboundContextLayer {
    type Service = InboundContext<S>;

    fn layer(&self, inner: S) -> Self::Service {
        InboundContext { inner }
    }
}

/// The service [`InboundContextLayer`] makes.
#[derive(Clone, Debug)]
pub struct InboundContext<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for InboundContext<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<Scoped<R>>;
    type Error = S::Error;
    type Future = InboundContextFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let believed = peer.is_some_and(|peer| peer.identity().is_some());
        let context = if believed {
            inherit(request.headers(), Instant::now)
        } else {
            Context::default()
        };
        // The peer step has set these two, if there is one.
        let client_id = peer.and_then(Peer::client_id).cloned();
        let headers = request.headers_mut();
        strip(headers);
        if let Some(id) = client_id {
            headers.insert(CLIENT_ID, id.clone());
            headers.insert(LINKERD_CLIENT_ID, id);
        }
        let inner = &mut self.inner;
        let call = context::enter(context.clone(), || inner.call(request));
        InboundContextFuture {
            response: context::scope(context, call),
        }
    }
}

/// The context that headers tell of; what is malformed is as good as absent.
/// The first value of each header that is inherited.
#[derive(Default)]
struct Told<'a> {
    timeout: Option<&'a HeaderValue>,
    grpc_timeout: Option<&'a HeaderValue>,
    traceparent: Option<&'a HeaderValue>,
    criticality: Option<&'a HeaderValue>,
    attempt: Option<&'a HeaderValue>,
}

impl<'a> Told<'a> {
    /// Reads in one pass: five look-ups by name would hash each of the names.
    fn read(headers: &'a HeaderMap) -> Self {
        let mut told = Self::default();
        for (name, value) in headers {
            let place = match name.as_str() {
                names::TIMEOUT => &mut told.timeout,
                names::GRPC_TIMEOUT => &mut told.grpc_timeout,
                names::TRACEPARENT => &mut told.traceparent,
                names::CRITICALITY => &mut told.criticality,
                names::ATTEMPT => &mut told.attempt,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        told
    }
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value?.to_str().ok()
}

fn inherit(headers: &HeaderMap, now: impl Fn() -> Instant) -> Context {
    let told = Told::read(headers);
    let own = text(told.timeout).and_then(|value| duration::parse(value).ok());
    let grpc = text(told.grpc_timeout).and_then(|value| duration::grpc::parse(value).ok());
    let timeout: Option<Duration> = own.into_iter().chain(grpc).min();
    Context {
        // A timeout that no clock can hold is none.
        deadline: timeout.and_then(|timeout| now().checked_add(timeout)),
        traceparent: told
            .traceparent
            .filter(|value| is_traceparent(value))
            .cloned(),
        criticality: told
            .criticality
            .and_then(|word| Criticality::parse(word.as_bytes()))
            .unwrap_or_default(),
        attempt: text(told.attempt)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0),
    }
}

/// W3C Trace Context, version 00: `00-<32 hex>-<16 hex>-<2 hex>`, ids not all zero.
fn is_traceparent(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let hex = |range: &[u8]| range.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = |range: &[u8]| hex(range) && range.iter().any(|byte| *byte != b'0');
    bytes.len() == 55
        && bytes.starts_with(b"00-")
        && bytes[35] == b'-'
        && bytes[52] == b'-'
        && id(&bytes[3..35])
        && id(&bytes[36..52])
        && hex(&bytes[53..])
}

pin_project! {
    /// The future [`InboundContext`] returns.
    pub struct InboundContextFuture<F> {
        #[pin]
        response: TaskLocalFuture<Context, F>,
    }
}

impl<F: std::fmt::Debug> std::fmt::Debug for InboundContextFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InboundContextFuture")
            .finish_non_exhaustive()
    }
}

impl<F, B, E> Future for InboundContextFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Scoped<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut future = self.project().response;
        future.as_mut().poll(cx).map_ok(|response| {
            let context = future.take_value().filter(|context| !context.is_empty());
            response.map(|body| Scoped { body, context })
        })
    }
}

pin_project! {
    /// A response body that is read within its request's context.
    #[derive(Debug)]
    pub struct Scoped<B> {
        #[pin]
        body: B,
        context: Option<Context>,
    }
}

impl<B: Body> Body for Scoped<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        match this.context {
            Some(context) => context::enter(context.clone(), || this.body.poll_frame(cx)),
            None => this.body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt, StreamBody};
    use tower::{ServiceExt, service_fn};

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn request(peer: Peer) -> Request<()> {
        let mut request = Request::builder()
            .header(TIMEOUT, "2s")
            .header(GRPC_TIMEOUT, "500m")
            .header(TRACEPARENT, TRACE)
            .header(CRITICALITY, "critical")
            .header(ATTEMPT, "2")
            .body(())
            .expect("a request");
        request.extensions_mut().insert(peer);
        request
    }

    /// What a handler, and the body it returns, see.
    async fn seen(peer: Peer) -> (HeaderMap, Context, Context) {
        let handler = service_fn(|request: Request<()>| async move {
            let seen = (request.headers().clone(), context::current());
            Ok::<_, Infallible>(Response::new(seen))
        });
        let served = InboundContextLayer
            .layer(handler)
            .oneshot(request(peer))
            .await;
        let body = served.expect("it answers").into_body();
        let (headers, context) = body.body;
        (headers, context, body.context.unwrap_or_default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_of_the_mesh_is_believed_and_the_shorter_timeout_counts() {
        let (headers, handler, body) =
            seen(Peer::for_tests("spiffe://mesh.local/ns/shop/sa/web")).await;
        assert_eq!(
            handler.deadline,
            Some(Instant::now() + Duration::from_millis(500))
        );
        assert_eq!(handler.traceparent.as_ref().expect("a trace"), TRACE);
        assert_eq!(
            (handler.criticality, handler.attempt),
            (Criticality::Critical, 2)
        );
        assert_eq!(body, handler);
        assert!(!headers.contains_key(TIMEOUT));
    }

    #[tokio::test]
    async fn a_stranger_is_not_believed() {
        let address = "10.0.0.1:1".parse().expect("an address");
        let (headers, handler, _) = seen(Peer::plaintext(address)).await;
        assert!(handler.is_empty());
        assert!(!headers.contains_key(CRITICALITY));
        assert_eq!(
            headers[TRACEPARENT], TRACE,
            "an application may read it for itself"
        );
    }

    #[tokio::test]
    async fn a_body_is_polled_within_the_context() {
        let context = Context {
            attempt: 3,
            ..Context::default()
        };
        let frames = futures_util::stream::poll_fn(|_| {
            let attempt = u8::try_from(context::current().attempt).expect("small");
            Poll::Ready(Some(Ok::<_, Infallible>(Frame::data(bytes::Bytes::from(
                vec![attempt],
            )))))
        });
        let mut body = Scoped {
            body: StreamBody::new(frames),
            context: Some(context),
        };
        let frame = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data").as_ref(), [3]);
    }

    #[test]
    fn malformed_traces_are_not_passed_on() {
        let zero_trace = TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let version = TRACE.replacen("00", "01", 1);
        let upper = TRACE.to_ascii_uppercase();
        let longer = format!("{TRACE}-x");
        for text in [zero_trace.as_str(), &version, &upper, &longer, "", "00-"] {
            let value = HeaderValue::from_str(text).expect("a header value");
            assert!(!is_traceparent(&value), "accepted {text}");
        }
    }
}
