//! What the parsers of a connection refuse before any step sees it.
//!
//! Such a request has no answer of ours: hyper and h2 write a bare status, or end its connection. It is
//! counted with the errors of requests all the same. Over HTTP/2 only what ends the connection is seen:
//! a stream that h2 refuses by itself is not.

use std::error::Error;

use crate::answer::Cause;

/// What a parser had against the bytes that ended a connection; `None` if it was not a parser.
pub(super) fn cause(error: &hyper::Error) -> Option<Cause> {
    if error.is_parse_too_large() {
        return Some(Cause::RequestHeadTooLarge);
    }
    let source = error.source().and_then(|source| source.downcast_ref());
    let by_h2 = source.is_some_and(|error: &h2::Error| error.is_go_away() && error.is_library());
    (error.is_parse() || by_h2).then_some(Cause::InvalidRequest)
}
