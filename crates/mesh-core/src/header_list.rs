//! How large the headers of one message may be: one limit for both directions and both protocols.
//!
//! A connection is shared, and a peer whose parser gives up ends it for all of its streams; of
//! trailers beyond its limit h2 hands over the first part without a sign. Neither shows the limit
//! of the other side before it is passed. So whoever sends measures, against a constant that every
//! process of the mesh knows, and answers for that message alone. Whoever receives measures as
//! well, since other senders do not; parsers stop later, where no message within the limit comes.

use std::fmt;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;

use crate::answer::{self, Cause, Caused};
use crate::layers::peer::is_announced;
use crate::{Body, BoxError};

/// Bytes of a head, or of trailers, by RFC 9113's size (10.5.1): of each field its name, its value
/// and 32, the fields that stand for method, path, scheme, authority and status included.
pub const MAX_BYTES: usize = 64 * 1024;
/// Fields of a head, or of trailers.
pub const MAX_FIELDS: usize = 1_000;

/// Bytes at which parsers stop. HPACK's Huffman code makes a byte that is no ASCII 3.5 times as
/// long, and h2 counts the frames of a head: it takes as many as this size needs without the code,
/// and a quarter more. That is enough for [`MAX_BYTES`] of such bytes.
pub(crate) const PARSED_BYTES: u32 = 192 * 1024;
/// Fields at which parsers stop that count: there is room for those that hyper adds.
pub(crate) const PARSED_FIELDS: usize = MAX_FIELDS + 8;

/// What a field takes beside its name and its value.
const OVERHEAD: usize = 32;

/// How large a list of fields is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    bytes: usize,
    fields: usize,
}

impl Size {
    const fn add(&mut self, name: usize, value: usize) {
        self.bytes += name + value + OVERHEAD;
        self.fields += 1;
    }

    fn of(headers: &HeaderMap) -> Self {
        let mut size = Self::default();
        for (name, value) in headers {
            size.add(name.as_str().len(), value.len());
        }
        size
    }

    fn of_request(request: &Request<Body>) -> Self {
        let mut size = Self::of(request.headers());
        let uri = request.uri();
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        size.add(":method".len(), request.method().as_str().len());
        size.add(":path".len(), path.len());
        if let Some(scheme) = uri.scheme_str() {
            size.add(":scheme".len(), scheme.len());
        }
        if let Some(authority) = uri.authority() {
            size.add(":authority".len(), authority.as_str().len());
        }
        size
    }

    const fn fits(self) -> bool {
        self.bytes <= MAX_BYTES && self.fields <= MAX_FIELDS
    }

    const fn check(self, list: List) -> Result<(), TooLarge> {
        if self.fits() {
            return Ok(());
        }
        Err(TooLarge { list, size: self })
    }
}

/// Whether a request may be sent as it is.
pub(crate) fn check_sent(request: &Request<Body>) -> Result<(), TooLarge> {
    Size::of_request(request).check(List::Request)
}

/// Whether a request that was received had a head within the limit.
pub(crate) fn check_received(request: &Request<Body>) -> Result<(), TooLarge> {
    let mut size = Size::of_request(request);
    if !size.fits() {
        // Fields that name the client came after those of the wire.
        for (name, value) in request.headers() {
            if is_announced(name) {
                size.bytes -= name.as_str().len() + value.len() + OVERHEAD;
                size.fields -= 1;
            }
        }
    }
    size.check(List::Request)
}

/// Whether a response may be sent, or taken, as it is.
pub(crate) fn check_response<B>(response: &Response<B>) -> Result<(), TooLarge> {
    let mut size = Size::of(response.headers());
    size.add(":status".len(), response.status().as_str().len());
    size.check(List::Response)
}

/// What a body gives when it is asked for a frame.
type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// What a body gave, with trailers within the limit. Beyond it a gRPC call ends with a status that
/// says so, in trailers of its own, and any other body breaks.
#[inline]
pub(crate) fn limit_trailers(polled: Polled) -> Polled {
    let too_large = match &polled {
        Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => check_trailers(frame),
        _ => return polled,
    };
    too_large.map_or(polled, |instead| Poll::Ready(Some(instead)))
}

/// What a body gives instead of trailers that are too large.
fn check_trailers(frame: &Frame<Bytes>) -> Option<Result<Frame<Bytes>, BoxError>> {
    let trailers = frame.trailers_ref()?;
    let too_large = Size::of(trailers).check(List::Trailers).err()?;
    // A peer chooses how often: the errors of requests and responses count these.
    tracing::debug!(%too_large, "a message is broken off");
    if trailers.contains_key(answer::GRPC_STATUS) {
        return Some(Ok(Frame::trailers(answer::trailers(&too_large))));
    }
    Some(Err(too_large.into()))
}

/// A list of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Request,
    Response,
    Trailers,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "head of the request",
            Self::Response => "head of the response",
            Self::Trailers => "list of trailers",
        })
    }
}

/// Headers or trailers are larger than any process of the mesh takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {list} takes {} bytes and {} fields, of at most {MAX_BYTES} and {MAX_FIELDS}: send less in headers",
    size.bytes,
    size.fields
)]
pub struct TooLarge {
    list: List,
    size: Size,
}

impl Caused for TooLarge {
    fn cause(&self) -> Cause {
        match self.list {
            List::Request => Cause::RequestHeadTooLarge,
            List::Response => Cause::ResponseHeadTooLarge,
            List::Trailers => Cause::TrailersTooLarge,
        }
    }
}
