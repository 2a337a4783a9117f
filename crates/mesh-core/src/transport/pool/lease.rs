//! The right to send one request on a connection.

use std::fmt;
use std::sync::Arc;

use futures_util::future::Either;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use super::shared::Slot;
use super::{Pool, Until};
use crate::Body;

/// The right to send one request on a connection.
pub(crate) enum Lease {
    /// One stream of a shared connection.
    Http2 {
        sender: http2::SendRequest<Body>,
        slot: Slot,
    },
    /// A whole connection, which returns to `home` after the response.
    Http1 {
        sender: http1::SendRequest<Body>,
        /// Until when it takes requests.
        until: Until,
        home: Arc<Pool>,
    },
}

impl Lease {
    /// Is not used after all: the next request takes it.
    pub(super) fn give_back(self) {
        match self {
            Self::Http2 { slot, .. } => drop(slot),
            Self::Http1 {
                sender,
                until,
                home,
            } => home.put_back(sender, until),
        }
    }

    /// Sends the request.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] carries the request if not a byte of it was sent: it may
    /// then go out on another connection.
    pub(crate) fn send(
        self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<(Response<Incoming>, Held), TrySendError<Request<Body>>>> {
        // Handed over at once: a request that waited in the future would make it larger.
        match self {
            Self::Http2 { mut sender, slot } => {
                let response = sender.try_send_request(request);
                Either::Left(async { Ok((response.await?, Held::Http2(slot))) })
            }
            Self::Http1 {
                mut sender,
                until,
                home,
            } => {
                let response = sender.try_send_request(request);
                let held = Held::Http1 {
                    sender,
                    until,
                    home,
                };
                Either::Right(async { Ok((response.await?, held)) })
            }
        }
    }
}

/// What a response keeps occupied until its body has ended.
///
/// Dropped before that, a stream is free again, and a connection of HTTP/1.1
/// closes: nobody can read what is left on it.
pub(crate) enum Held {
    /// A stream.
    Http2(Slot),
    /// A whole connection.
    Http1 {
        sender: http1::SendRequest<Body>,
        /// Until when it takes requests.
        until: Until,
        home: Arc<Pool>,
    },
}

impl Held {
    /// The body was read to its end.
    pub(crate) fn finish(self) {
        match self {
            Self::Http2(slot) => drop(slot),
            Self::Http1 {
                sender,
                until,
                home,
            } => home.put_back(sender, until),
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http2(_) => "Http2(..)",
            Self::Http1 { .. } => "Http1(..)",
        })
    }
}
