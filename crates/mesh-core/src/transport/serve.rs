//! Serves HTTP on one connection, of any kind of stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use super::activity::{Activity, Http, InFlight, Watched};
use super::connections::Ticket;
use super::limits::Limits;
use super::unread::{PIECE_BYTES, Pieces, Streams};
use super::upload::Upload;
use crate::header_list::{PARSED_BYTES, PARSED_FIELDS};
use crate::{Body, BoxError};

/// Streams reset by the client before we took them, beyond which the connection ends (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that we reset for the client's errors, beyond which the connection ends.
const MAX_ERROR_RESETS: usize = 1024;

/// What h2 may hold of one response beyond the piece that it was given last: enough to fill a
/// socket, and with `Limits::streams` the bound of what one connection may pin.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How long an HTTP/2 client may be silent before it is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(30);
/// How long it may take to answer that.
const PING_ANSWER: Duration = Duration::from_secs(20);

/// Serves `stack` on `io` until the connection ends, is told to, or breaks. One that was upgraded
/// lives on, and keeps its place, with whoever has it.
///
/// # Errors
///
/// What broke the connection, in hyper's words.
pub(crate) async fn serve<IO, S, B>(
    io: IO,
    http: Http,
    stack: S,
    ticket: Ticket,
) -> Result<(), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let activity = Arc::clone(ticket.activity());
    let limits = ticket.limits().clone();
    let io = TokioIo::new(Watched::new(io, http, ticket));
    let service = Dispatch {
        stack,
        http,
        activity: Arc::clone(&activity),
    };
    activity.serves();
    match http {
        Http::One => {
            let connection = http1_builder()
                .serve_connection(io, service)
                .with_upgrades();
            let ended = drive(connection, &activity, |connection| {
                connection.graceful_shutdown();
            })
            .await;
            activity.upgraded();
            ended
        }
        Http::Two => {
            let service = Boxed(service);
            let connection = http2_builder(&limits).serve_connection(io, service);
            drive(connection, &activity, |connection| {
                connection.graceful_shutdown();
            })
            .await
        }
    }
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Slow heads are found by `Connections`: hyper's timer would also end idle connections.
        .header_read_timeout(None)
        .max_headers(PARSED_FIELDS)
        .max_header_size(PARSED_BYTES as usize);
    builder
}

fn http2_builder(limits: &Limits) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(Streams {
        limit: limits.unread,
    });
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(PARSED_BYTES)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS);
    builder
}

/// Runs a connection, and begins its graceful end once it is told to.
async fn drive<C: Future>(
    connection: C,
    activity: &Activity,
    shut_down: impl Fn(Pin<&mut C>),
) -> C::Output {
    let mut connection = std::pin::pin!(connection);
    let mut ending = false;
    std::future::poll_fn(|cx| {
        if !ending && activity.poll_end(cx) {
            ending = true;
            shut_down(connection.as_mut());
        }
        connection.as_mut().poll(cx)
    })
    .await
}

/// The stack as hyper calls it, with requests in flight counted.
///
/// It is called without being asked whether it is ready, since it always is: an application
/// that is busy is waited for inside the request.
#[derive(Clone)]
struct Dispatch<S> {
    stack: S,
    http: Http,
    activity: Arc<Activity>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Dispatch<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
{
    type Response = Response<Tracked<B>>;
    type Error = S::Error;
    type Future = DispatchFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = InFlight::begin(&self.activity, self.http);
        let request = request.map(|body| Body::from(Upload::new(body, &in_flight)));
        DispatchFuture {
            in_flight: Some(in_flight),
            piece: match self.http {
                // hyper writes HTTP/1.1 as the socket takes it, whose progress is seen.
                Http::One => usize::MAX,
                Http::Two => PIECE_BYTES,
            },
            response: self.stack.clone().call(request),
        }
    }
}

/// The same for HTTP/2, where hyper gives each request a task of its own: it is moved into that task
/// in several steps, and a task larger than a kilobyte is slow to allocate.
#[derive(Clone)]
struct Boxed<S>(Dispatch<S>);

impl<S, B> hyper::service::Service<Request<Incoming>> for Boxed<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
{
    type Response = Response<Tracked<B>>;
    type Error = S::Error;
    type Future = Pin<Box<DispatchFuture<S::Future>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(self.0.call(request))
    }
}

pin_project! {
    struct DispatchFuture<F> {
        #[pin]
        response: F,
        in_flight: Option<InFlight>,
        piece: usize,
    }
}

impl<F, B, E> Future for DispatchFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Tracked<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.response.poll(cx).map_ok(|response| {
            let in_flight = this.in_flight.take();
            response.map(|body| Tracked {
                body: Pieces::new(body, *this.piece),
                in_flight,
            })
        })
    }
}

pin_project! {
    /// A response body that keeps its request in flight.
    struct Tracked<B> {
        #[pin]
        body: Pieces<B>,
        in_flight: Option<InFlight>,
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
