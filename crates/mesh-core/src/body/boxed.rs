//! A body of any type in a box that threads may share.
//!
//! Applications' bodies are rarely `Sync` (axum's is not), and some libraries ask for a body that is
//! (reqwest's `Body::wrap`). Nobody polls a body through a shared reference, so only the two questions
//! that are asked through one need an answer that was kept: whether the body has ended, and its size.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use sync_wrapper::SyncWrapper;

use crate::BoxError;

/// A boxed body, with what it said of itself after its last frame.
pub(crate) struct BoxedBody {
    body: SyncWrapper<UnsyncBoxBody<Bytes, BoxError>>,
    ended: bool,
    size: SizeHint,
}

impl BoxedBody {
    /// Takes any body.
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            ended: body.is_end_stream(),
            size: body.size_hint(),
            body: SyncWrapper::new(body.map_err(Into::into).boxed_unsync()),
        }
    }
}

impl HttpBody for BoxedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let body = this.body.get_mut();
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if polled.is_ready() {
            this.ended = body.is_end_stream();
            this.size = body.size_hint();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn the_kept_size_and_end_follow_the_frames() {
        let mut body = BoxedBody::new(Full::new(Bytes::from_static(b"hello")));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert!(!body.is_end_stream());
        let frame = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), "hello");
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.is_end_stream());
    }
}
