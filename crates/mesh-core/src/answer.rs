//! The one table from an error to what the caller is told.
//!
//! An error is found by its type, outermost first, through the chain of its
//! sources; its text decides nothing. Each boundary keeps its own small error
//! type, implements [`Caused`] for it, and has one line in `KNOWN`.

use std::error::Error;

use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::causes::chain;
use crate::layers::authorize::Denied;
use crate::telemetry::errors::Word;
use crate::{Body, header_list, layers, outbound, transport};

/// Names the [`Cause`] of an answer that the mesh made itself.
pub const REASON_HEADER: HeaderName = HeaderName::from_static("x-mesh-error");

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Names the `Server` that denied a request, to a caller that proved who it is.
pub const DENIED_BY_HEADER: HeaderName = HeaderName::from_static("x-mesh-denied-by");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC: &str = "application/grpc";

/// What went wrong, as callers, metrics and logs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Discovery does not know the service, or did not answer in time.
    UnknownService,
    /// The service has no such logical port.
    UnknownPort,
    /// The chosen backend has no endpoint to send to.
    NoEndpoints,
    /// Routes are attached and none matches.
    NoRoute,
    /// The chosen backend does not exist.
    BackendNotFound,
    /// The rule has no backend, or all its weights are zero.
    NoBackends,
    /// The endpoint could not be reached, or the connection broke.
    ConnectFailed,
    /// The endpoint did not take the connection in time.
    ConnectTimeout,
    /// The endpoint is not who the plan says it is.
    IdentityMismatch,
    /// This process's own certificate has ended: no peer would take it.
    CertificateEnded,
    /// A time limit or the caller's deadline passed.
    Timeout,
    /// The caller's deadline had passed before the work began.
    Late,
    /// Policy does not let the caller in.
    Denied,
    /// The listener has no policy yet.
    NoPolicy,
    /// Part of the plan is beyond this library, so what it governs is closed.
    PlanNotUnderstood,
    /// The request body stayed silent for too long.
    BodySilent,
    /// The application says that it has not touched the request.
    Unprocessed,
    /// The mesh is shutting down.
    Draining,
    /// The request cannot be forwarded as it is.
    InvalidRequest,
    /// The request's head is larger than any process of the mesh takes.
    RequestHeadTooLarge,
    /// The same of the response's head.
    ResponseHeadTooLarge,
    /// The same of the trailers of either.
    TrailersTooLarge,
    /// The endpoint's response cannot be read.
    InvalidResponse,
    /// The handler panicked.
    Panicked,
    /// An error of a type that the table does not know.
    Internal,
}

impl Cause {
    /// The word for headers, metric labels and logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.row().0
    }

    /// The status of an HTTP answer.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.row().1
    }

    /// The code of a gRPC answer.
    #[must_use]
    pub const fn grpc_code(self) -> u16 {
        self.row().2
    }

    /// The table: reason, HTTP status, gRPC code.
    const fn row(self) -> (&'static str, StatusCode, u16) {
        const INVALID_ARGUMENT: u16 = 3;
        const DEADLINE_EXCEEDED: u16 = 4;
        const NOT_FOUND: u16 = 5;
        const PERMISSION_DENIED: u16 = 7;
        const RESOURCE_EXHAUSTED: u16 = 8;
        const INTERNAL: u16 = 13;
        const UNAVAILABLE: u16 = 14;
        const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        const BROKEN: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
        const GATEWAY: StatusCode = StatusCode::BAD_GATEWAY;
        const LATE: StatusCode = StatusCode::GATEWAY_TIMEOUT;
        const TOO_LARGE: StatusCode = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        match self {
            Self::UnknownService => ("unknown-service", BUSY, UNAVAILABLE),
            Self::UnknownPort => ("unknown-port", BUSY, UNAVAILABLE),
            Self::NoEndpoints => ("no-endpoints", BUSY, UNAVAILABLE),
            Self::NoRoute => ("no-route", StatusCode::NOT_FOUND, NOT_FOUND),
            Self::BackendNotFound => ("backend-not-found", BROKEN, UNAVAILABLE),
            Self::NoBackends => ("no-backends", BROKEN, UNAVAILABLE),
            Self::ConnectFailed => ("connect-failed", GATEWAY, UNAVAILABLE),
            Self::ConnectTimeout => ("connect-timeout", LATE, DEADLINE_EXCEEDED),
            Self::IdentityMismatch => ("identity-mismatch", GATEWAY, UNAVAILABLE),
            Self::CertificateEnded => ("certificate-ended", BUSY, UNAVAILABLE),
            Self::Timeout => ("timeout", LATE, DEADLINE_EXCEEDED),
            Self::Late => ("late", LATE, DEADLINE_EXCEEDED),
            Self::Denied => ("denied", StatusCode::FORBIDDEN, PERMISSION_DENIED),
            Self::NoPolicy => ("no-policy", BUSY, UNAVAILABLE),
            Self::PlanNotUnderstood => ("plan-not-understood", BUSY, UNAVAILABLE),
            Self::BodySilent => (
                "body-silent",
                StatusCode::REQUEST_TIMEOUT,
                DEADLINE_EXCEEDED,
            ),
            Self::Unprocessed => ("unprocessed", BUSY, UNAVAILABLE),
            Self::Draining => ("draining", BUSY, UNAVAILABLE),
            Self::InvalidRequest => ("invalid-request", StatusCode::BAD_REQUEST, INVALID_ARGUMENT),
            Self::RequestHeadTooLarge => ("request-head-too-large", TOO_LARGE, RESOURCE_EXHAUSTED),
            Self::ResponseHeadTooLarge => ("response-head-too-large", BROKEN, INTERNAL),
            Self::TrailersTooLarge => ("trailers-too-large", TOO_LARGE, INTERNAL),
            Self::InvalidResponse => ("invalid-response", GATEWAY, INTERNAL),
            Self::Panicked => ("panicked", BROKEN, INTERNAL),
            Self::Internal => ("internal", BROKEN, INTERNAL),
        }
    }

    /// Linkerd's word for it in `…_errors_total`; `None` for what is no error there: a refusal by
    /// policy is counted by `inbound_http_authz_deny_total`, and the application's word is its own.
    pub(crate) const fn word(self) -> Option<Word> {
        Some(match self {
            Self::NoEndpoints | Self::NoPolicy | Self::PlanNotUnderstood | Self::Draining => {
                Word::FailFast
            }
            Self::ConnectFailed | Self::ConnectTimeout | Self::BodySilent => Word::Io,
            Self::IdentityMismatch => Word::IdentityRequired,
            Self::Timeout | Self::Late => Word::ResponseTimeout,
            Self::UnknownService
            | Self::UnknownPort
            | Self::NoRoute
            | Self::BackendNotFound
            | Self::NoBackends
            | Self::CertificateEnded
            | Self::InvalidRequest
            | Self::RequestHeadTooLarge
            | Self::ResponseHeadTooLarge
            | Self::TrailersTooLarge
            | Self::InvalidResponse
            | Self::Panicked
            | Self::Internal => Word::Unexpected,
            Self::Denied | Self::Unprocessed => return None,
        })
    }

    /// The cause of an error: that of the outermost error in its chain with a known type.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut link = Some(error);
        while let Some(error) = link {
            if let Some(cause) = KNOWN.iter().find_map(|known| known(error)) {
                return cause;
            }
            link = error.source();
        }
        Self::Internal
    }
}

/// An error type that says what it means to a caller.
pub trait Caused: Error + 'static {
    /// The line of the table that answers it.
    fn cause(&self) -> Cause;
}

type Lookup = fn(&(dyn Error + 'static)) -> Option<Cause>;

/// Every error type that has an answer of its own.
const KNOWN: &[Lookup] = &[
    of::<header_list::TooLarge>,
    of::<layers::answer::Unprocessed>,
    of::<layers::authorize::Refused>,
    of::<layers::body_silence::BodySilent>,
    of::<layers::canonical_target::BadTarget>,
    of::<layers::deadline::Late>,
    of::<layers::panic::Panicked>,
    of::<layers::balance::NoEndpoints>,
    of::<layers::endpoint::ConnectionBroke>,
    of::<layers::endpoint::RequestBroke>,
    of::<layers::endpoint::InvalidResponse>,
    of::<layers::route::Unroutable>,
    of::<layers::split::NoBackend>,
    of::<layers::timeout::TimedOut>,
    of::<outbound::Shapeless>,
    of::<transport::ConnectFailed>,
];

fn of<E: Caused>(error: &(dyn Error + 'static)) -> Option<Cause> {
    error.downcast_ref::<E>().map(Caused::cause)
}

/// How much the reader of an answer may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Somebody without an identity: status alone.
    Stranger,
    /// A peer that proved who it is: status and reason.
    Peer,
    /// The application itself: status, reason, and a text with all causes and the remedy.
    Application,
}

/// What kind of call an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Errors are statuses.
    Http,
    /// Errors are `grpc-status` on a 200.
    Grpc,
}

impl Protocol {
    /// The protocol of a message with these headers: gRPC by its content type, which is
    /// `application/grpc`, alone or with a format (`+proto`) or parameters (`;`).
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        match kind.and_then(|kind| kind.strip_prefix(GRPC.as_bytes())) {
            Some([] | [b'+' | b';', ..]) => Self::Grpc,
            Some(_) | None => Self::Http,
        }
    }
}

/// The response that tells `audience` what became of its request; its [`Cause`] is an extension.
///
/// A gRPC caller gets a trailers-only response: 200 with the status in the headers.
#[must_use]
pub fn respond(
    error: &(dyn Error + 'static),
    protocol: Protocol,
    audience: Audience,
) -> Response<Body> {
    let cause = Cause::of(error);
    let text = match audience {
        Audience::Application => chain(error),
        Audience::Stranger | Audience::Peer => String::new(),
    };
    let message = match audience {
        Audience::Application => Some(text.as_str()),
        Audience::Peer => Some(cause.reason()),
        Audience::Stranger => None,
    };
    let mut response = match protocol {
        Protocol::Grpc => trailers_only(cause, message),
        Protocol::Http => plain(cause, text),
    };
    response.extensions_mut().insert(cause);
    let headers = response.headers_mut();
    if audience != Audience::Stranger {
        headers.insert(REASON_HEADER, HeaderValue::from_static(cause.reason()));
        if let Some(by) = Denied::find(error).and_then(Denied::header) {
            headers.insert(DENIED_BY_HEADER, by);
        }
    }
    response
}

fn plain(cause: Cause, text: String) -> Response<Body> {
    let typed = !text.is_empty();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = cause.status();
    if typed {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
    }
    response
}

fn trailers_only(cause: Cause, message: Option<&str>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    tell_grpc(headers, cause, message);
    response
}

/// The trailers that tell the application what broke its response off.
pub(crate) fn trailers(error: &(dyn Error + 'static)) -> HeaderMap {
    let cause = Cause::of(error);
    let mut trailers = HeaderMap::new();
    tell_grpc(&mut trailers, cause, Some(&chain(error)));
    trailers.insert(REASON_HEADER, HeaderValue::from_static(cause.reason()));
    trailers
}

fn tell_grpc(headers: &mut HeaderMap, cause: Cause, message: Option<&str>) {
    headers.insert(GRPC_STATUS, HeaderValue::from(cause.grpc_code()));
    // What is escaped is a valid value.
    let escaped = message.map(|message| HeaderValue::try_from(percent_encode(message)));
    if let Some(Ok(message)) = escaped {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// The encoding of `grpc-message` (gRPC over HTTP/2, "Percent-Encoded").
fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            match byte {
                b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
                _ => write!(out, "%{byte:02X}").expect("writing to a string cannot fail"),
            }
            out
        })
}

#[cfg(test)]
mod tests;
