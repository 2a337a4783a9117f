//! The one body type at the seams of the stacks.
//!
//! Layers between an application and a connection never see a generic body, so
//! that a stack's type stays readable; a body that hyper received is carried
//! without a box.

mod boxed;
mod read;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use metrics::Counter;

pub(crate) use boxed::BoxedBody;
pub use read::UnreadableBody;

use crate::layers::body_silence::Audible;
use crate::layers::endpoint::Delivery;
use crate::layers::panic::Guarded;
use crate::telemetry::{Observation, Observed};
use crate::transport::upload::Upload;
use crate::{BoxError, header_list};

/// The body of requests and responses inside the mesh's stacks.
///
/// It is an [`http_body::Body`] of [`Bytes`]; [`Body::new`] takes any other, and [`Body::bytes`],
/// [`Body::text`] and [`Body::json`] read it whole. It is `Send` and `Sync`.
/// Trailers beyond the limit of [`header_list`] break it off, or end its gRPC call with status 13.
///
/// ```
/// let hello = mesh_core::Body::from("hello");
/// let nothing = mesh_core::Body::empty();
/// ```
#[derive(Default)]
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Whole(Bytes),
    Received(Incoming),
    Uploaded(Upload),
    Audible(Box<Audible<Upload>>),
    Delivered(Box<Delivery>),
    Boxed(BoxedBody),
    Guarded(Guarded),
}

impl Body {
    /// A body without a byte.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// Takes any body; one that is a [`Body`] already, or came from hyper, is not boxed again.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        let any: &mut dyn std::any::Any = &mut body;
        if let Some(same) = any.downcast_mut::<Option<Self>>() {
            return same.take().unwrap_or_default();
        }
        if let Some(received) = any.downcast_mut::<Option<Incoming>>() {
            return received.take().map(Self::from).unwrap_or_default();
        }
        body.map_or_else(Self::empty, |body| Self(Inner::Boxed(BoxedBody::new(body))))
    }
}

impl Body {
    /// Makes the body fail, and sets `silent`, once it has been silent for `limit`.
    pub(crate) fn limit_silence(self, limit: Duration, silent: Arc<AtomicBool>) -> Self {
        match self.0 {
            Inner::Uploaded(body) => {
                Self(Inner::Audible(Box::new(Audible::new(body, limit, silent))))
            }
            Inner::Empty | Inner::Whole(_) => self,
            Inner::Received(_)
            | Inner::Audible(_)
            | Inner::Delivered(_)
            | Inner::Boxed(_)
            | Inner::Guarded(_) => Self::new(Audible::new(self, limit, silent)),
        }
    }
}

impl Body {
    /// The same body, if all of it is in memory.
    pub(crate) fn copy(&self) -> Option<Self> {
        match &self.0 {
            Inner::Empty => Some(Self::empty()),
            Inner::Whole(bytes) => Some(Self(Inner::Whole(bytes.clone()))),
            Inner::Received(_)
            | Inner::Uploaded(_)
            | Inner::Audible(_)
            | Inner::Delivered(_)
            | Inner::Boxed(_)
            | Inner::Guarded(_) => self.is_end_stream().then(Self::empty),
        }
    }
}

impl Body {
    /// Makes `observation`, which saw the head of this response, see its end as well.
    pub(crate) fn follow(mut self, observation: Observation) -> Self {
        if let Inner::Delivered(body) = &mut self.0 {
            body.count_for(observation);
            return self;
        }
        if self.is_end_stream() {
            // What has ended has nothing that could be followed.
            return self;
        }
        Self::new(Observed::watched(self, observation))
    }
}

impl Body {
    /// Makes a panic of the body an error, counted in `panics`.
    pub(crate) fn guard(self, panics: Counter) -> Self {
        match self.0 {
            Inner::Boxed(body) => Self(Inner::Guarded(Guarded::new(body, panics))),
            // Only a box holds code of the application.
            inner => Self(inner),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match &mut self.0 {
            Inner::Empty => return Poll::Ready(None),
            Inner::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Inner::Received(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Inner::Uploaded(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Inner::Audible(body) => Pin::new(body).poll_frame(cx),
            Inner::Delivered(body) => Pin::new(body).poll_frame(cx),
            Inner::Boxed(body) => Pin::new(body).poll_frame(cx),
            Inner::Guarded(body) => Pin::new(body).poll_frame(cx),
        };
        header_list::limit_trailers(polled)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Whole(_) => false,
            Inner::Received(body) => body.is_end_stream(),
            Inner::Uploaded(body) => body.is_end_stream(),
            Inner::Audible(body) => body.is_end_stream(),
            Inner::Delivered(body) => body.is_end_stream(),
            Inner::Boxed(body) => body.is_end_stream(),
            Inner::Guarded(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Received(body) => body.size_hint(),
            Inner::Uploaded(body) => body.size_hint(),
            Inner::Audible(body) => body.size_hint(),
            Inner::Delivered(body) => body.size_hint(),
            Inner::Boxed(body) => body.size_hint(),
            Inner::Guarded(body) => body.size_hint(),
        }
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        Self(Inner::Received(body))
    }
}

impl From<Delivery> for Body {
    fn from(body: Delivery) -> Self {
        Self(Inner::Delivered(Box::new(body)))
    }
}

impl From<Upload> for Body {
    fn from(body: Upload) -> Self {
        Self(Inner::Uploaded(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self(Inner::Whole(bytes))
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Empty => "Body::Empty",
            Inner::Whole(_) => "Body::Whole(..)",
            Inner::Received(_) => "Body::Received(..)",
            Inner::Uploaded(_) => "Body::Uploaded(..)",
            Inner::Audible(_) => "Body::Audible(..)",
            Inner::Delivered(_) => "Body::Delivered(..)",
            Inner::Boxed(_) => "Body::Boxed(..)",
            Inner::Guarded(_) => "Body::Guarded(..)",
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const _: () = {
        const fn shared_between_threads<T: Send + Sync>() {}
        shared_between_threads::<Body>();
    };

    #[tokio::test]
    async fn a_body_is_not_boxed_twice() {
        let body = Body::new(Body::from("hello"));
        assert_eq!(format!("{body:?}"), "Body::Whole(..)");
        assert_eq!(body.collect().await.expect("in memory").to_bytes(), "hello");
    }

    #[tokio::test]
    async fn trailers_and_errors_pass_through_a_box() {
        let failing = http_body_util::StreamBody::new(futures_util::stream::iter([
            Ok(Frame::data(Bytes::from_static(b"a"))),
            Err(std::io::Error::other("cut")),
        ]));
        let error = Body::new(failing).collect().await.expect_err("it fails");
        assert_eq!(error.to_string(), "cut");
    }
}
