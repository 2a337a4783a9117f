//! A stream whose first bytes can be looked at before anyone reads them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What HTTP/2 with prior knowledge begins with (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pin_project! {
    /// Gives back the bytes that were looked at, then reads on.
    #[derive(Debug)]
    pub(crate) struct Rewind<IO> {
        #[pin]
        io: IO,
        seen: [u8; PREFACE.len()],
        filled: usize,
        given: usize,
    }
}

impl<IO: AsyncRead + Unpin> Rewind<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Self {
            io,
            seen: [0; PREFACE.len()],
            filled: 0,
            given: 0,
        }
    }

    /// The first byte; `None` if the stream ended without one.
    pub(crate) async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        while self.filled == 0 {
            if self.look().await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(self.seen[0]))
    }

    /// Whether the stream begins with HTTP/2's preface; reads no further than it takes to know.
    pub(crate) async fn has_preface(&mut self) -> io::Result<bool> {
        loop {
            if self.seen[..self.filled] != PREFACE[..self.filled] {
                return Ok(false);
            }
            if self.filled == PREFACE.len() {
                return Ok(true);
            }
            if self.look().await? == 0 {
                return Ok(false);
            }
        }
    }

    async fn look(&mut self) -> io::Result<usize> {
        let read = self.io.read(&mut self.seen[self.filled..]).await?;
        self.filled += read;
        Ok(read)
    }
}

impl<IO: AsyncRead> AsyncRead for Rewind<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        if *this.given == *this.filled {
            return this.io.poll_read(cx, buffer);
        }
        let held = &this.seen[*this.given..*this.filled];
        let fits = held.len().min(buffer.remaining());
        buffer.put_slice(&held[..fits]);
        *this.given += fits;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite> AsyncWrite for Rewind<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(stream: Rewind<&[u8]>) -> Vec<u8> {
        let mut stream = stream;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("in memory");
        bytes
    }

    #[tokio::test]
    async fn what_was_looked_at_is_read_again() {
        let mut stream = Rewind::new(&b"PRI * HTTP/1.1\r\n"[..]);
        assert_eq!(stream.first_byte().await.expect("in memory"), Some(b'P'));
        assert!(!stream.has_preface().await.expect("in memory"));
        assert_eq!(all(stream).await, b"PRI * HTTP/1.1\r\n");
    }

    #[tokio::test]
    async fn the_preface_is_known_however_it_is_cut() {
        let sent = [&PREFACE[..], b"rest"].concat();
        for cut in 1..sent.len() {
            let (head, tail) = sent.split_at(cut);
            let io = tokio_test::io::Builder::new().read(head).read(tail).build();
            let mut stream = Rewind::new(io);
            assert!(
                stream.has_preface().await.expect("in memory"),
                "cut at {cut}"
            );
            let mut bytes = vec![0; sent.len()];
            stream.read_exact(&mut bytes).await.expect("in memory");
            assert_eq!(bytes, sent);
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_before_anything_is_known_is_no_http2() {
        let mut empty = Rewind::new(&b""[..]);
        assert_eq!(empty.first_byte().await.expect("in memory"), None);
        let mut short = Rewind::new(&b"PRI"[..]);
        assert!(!short.has_preface().await.expect("in memory"));
    }
}
