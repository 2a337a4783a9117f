//! A body read whole, up to a limit that the reader names.

use bytes::{Bytes, BytesMut};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::Body;
use crate::BoxError;

impl Body {
    /// Reads all of it, at most `limit` bytes; trailers are dropped.
    ///
    /// ```
    /// # async fn read(answer: http::Response<mesh_core::Body>) -> Result<(), mesh_core::BoxError> {
    /// let bytes = answer.into_body().bytes(1 << 20).await?;
    /// # drop(bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`UnreadableBody`] if the body is longer than `limit`, or breaks off.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, UnreadableBody> {
        let too_large = UnreadableBody::TooLarge { limit };
        if self.size_hint().lower() > limit as u64 {
            return Err(too_large);
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame.map_err(UnreadableBody::Broken)?.into_data() else {
                continue;
            };
            if data.len() > limit - whole.len() {
                return Err(too_large);
            }
            if whole.is_empty() && self.is_end_stream() {
                return Ok(data);
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// Reads all of it as text in UTF-8, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`UnreadableBody`] as of [`Body::bytes`], or if the bytes are not UTF-8.
    pub async fn text(self, limit: usize) -> Result<String, UnreadableBody> {
        let bytes = self.bytes(limit).await?;
        String::from_utf8(bytes.into()).map_err(|error| UnreadableBody::NotText(error.utf8_error()))
    }

    /// Reads all of it as JSON, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`UnreadableBody`] as of [`Body::bytes`], or if the bytes are no JSON of a `T`.
    pub async fn json<T: DeserializeOwned>(self, limit: usize) -> Result<T, UnreadableBody> {
        let bytes = self.bytes(limit).await?;
        serde_json::from_slice(&bytes).map_err(UnreadableBody::NotJson)
    }
}

/// A body could not be read whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnreadableBody {
    /// More came than was asked for.
    #[error("the body is longer than {limit} bytes: raise the limit, or read it frame by frame")]
    TooLarge {
        /// Bytes that were asked for at most.
        limit: usize,
    },
    /// An error instead of the rest.
    #[error("the body broke off before its end")]
    Broken(#[source] BoxError),
    /// Bytes that are no text.
    #[error("the body is not text in UTF-8")]
    NotText(#[source] std::str::Utf8Error),
    /// Bytes that are not the JSON that was asked for.
    #[error("the body is not the JSON that was expected")]
    NotJson(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    fn frames(parts: &'static [&'static str]) -> Body {
        let parts = parts
            .iter()
            .map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from_static(part.as_bytes()))));
        Body::new(StreamBody::new(futures_util::stream::iter(parts)))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_up_to_the_limit() {
        assert_eq!(
            frames(&["hel", "lo"]).text(5).await.expect("it fits"),
            "hello"
        );
        let error = frames(&["hel", "lo"])
            .text(4)
            .await
            .expect_err("one byte more");
        assert!(
            matches!(error, UnreadableBody::TooLarge { limit: 4 }),
            "{error}"
        );
        let error = Body::from("hello")
            .bytes(4)
            .await
            .expect_err("known beforehand");
        assert!(
            matches!(error, UnreadableBody::TooLarge { limit: 4 }),
            "{error}"
        );
        assert_eq!(Body::empty().bytes(0).await.expect("nothing fits"), "");
    }

    #[tokio::test]
    async fn what_is_not_the_expected_form_is_an_error_with_its_cause() {
        let numbers: Vec<u32> = frames(&["[1,", "2]"]).json(64).await.expect("two numbers");
        assert_eq!(numbers, [1, 2]);
        let error = frames(&["[1,"])
            .json::<Vec<u32>>(64)
            .await
            .expect_err("cut");
        assert!(matches!(error, UnreadableBody::NotJson(_)), "{error}");
        let error = Body::from(vec![0xff]).text(64).await.expect_err("no UTF-8");
        assert!(matches!(error, UnreadableBody::NotText(_)), "{error}");
        let broken = StreamBody::new(futures_util::stream::iter([Err::<Frame<Bytes>, _>(
            std::io::Error::other("cut"),
        )]));
        let error = Body::new(broken).bytes(64).await.expect_err("broken");
        assert!(matches!(error, UnreadableBody::Broken(_)), "{error}");
    }
}
