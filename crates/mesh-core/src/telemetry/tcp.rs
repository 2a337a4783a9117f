//! Connections: how many, for how long, how many bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use metrics::{Counter, Gauge, Histogram, Label};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Recorder;
use super::families::TCP_CONNECTION_DURATION_MS;

/// The series of connections with one set of labels.
#[derive(Debug)]
pub struct TransportMetrics {
    opened: Counter,
    open: Gauge,
    read: Counter,
    written: Counter,
    /// By place of the word in [`ERRNOS`]; the first is there from the beginning.
    ended: [OnceLock<Ended>; ERRNOS.len()],
    recorder: Recorder,
    labels: Vec<Label>,
}

/// The series of connections that ended in one way.
#[derive(Debug)]
struct Ended {
    closed: Counter,
    duration: Histogram,
}

impl Ended {
    fn register(recorder: &Recorder, labels: &[Label], errno: &'static str) -> Self {
        let mut labels = labels.to_vec();
        labels.push(Label::from_static_parts("errno", errno));
        Self {
            closed: recorder.counter("tcp_close_total", labels.clone()),
            duration: recorder.histogram(TCP_CONNECTION_DURATION_MS, labels),
        }
    }
}

/// The values of the label `errno`: a few, so that it has a bound.
const ERRNOS: [&str; 9] = [
    "",
    "ECONNRESET",
    "ECONNABORTED",
    "EPIPE",
    "ETIMEDOUT",
    "ENOTCONN",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "OTHER",
];

impl TransportMetrics {
    /// Registers the series of `labels`, which hold everything but how a connection ended.
    #[must_use]
    pub fn new(recorder: &Recorder, labels: Vec<Label>) -> Self {
        let metrics = Self {
            opened: recorder.counter("tcp_open_total", labels.clone()),
            open: recorder.gauge("tcp_open_connections", labels.clone()),
            read: recorder.counter("tcp_read_bytes_total", labels.clone()),
            written: recorder.counter("tcp_write_bytes_total", labels.clone()),
            ended: Default::default(),
            recorder: recorder.clone(),
            labels,
        };
        metrics.ended("");
        metrics
    }

    /// Counts the end of a connection.
    fn close(&self, errno: &'static str, opened: Instant) {
        self.open.decrement(1);
        let ended = self.ended(errno);
        ended.closed.increment(1);
        let lasted = opened.elapsed().as_secs_f64() * 1_000.0;
        ended.duration.record(lasted);
    }

    fn ended(&self, errno: &'static str) -> &Ended {
        let place = ERRNOS.iter().position(|known| *known == errno);
        let slot = &self.ended[place.unwrap_or(ERRNOS.len() - 1)];
        slot.get_or_init(|| Ended::register(&self.recorder, &self.labels, errno))
    }
}

/// The name of the system's error.
fn errno(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "ECONNRESET",
        io::ErrorKind::ConnectionAborted => "ECONNABORTED",
        io::ErrorKind::BrokenPipe => "EPIPE",
        io::ErrorKind::TimedOut => "ETIMEDOUT",
        io::ErrorKind::NotConnected => "ENOTCONN",
        io::ErrorKind::HostUnreachable => "EHOSTUNREACH",
        io::ErrorKind::NetworkUnreachable => "ENETUNREACH",
        // Many clients close the socket without TLS's goodbye: no errno, and no fault.
        io::ErrorKind::UnexpectedEof => "",
        _ => "OTHER",
    }
}

/// A stream whose bytes are counted, and which counts as open while it lives.
///
/// It lies above TLS, where the peer is known: bytes are those of HTTP.
#[derive(Debug)]
pub struct Counted<IO> {
    io: IO,
    metrics: Arc<TransportMetrics>,
    opened: Instant,
    errno: &'static str,
}

impl<IO> Counted<IO> {
    /// Counts a connection that has just opened.
    pub fn new(io: IO, metrics: Arc<TransportMetrics>) -> Self {
        metrics.opened.increment(1);
        metrics.open.increment(1);
        Self {
            io,
            metrics,
            opened: Instant::now(),
            errno: "",
        }
    }

    fn wrote(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Ready(Ok(bytes)) => self.metrics.written.increment(*bytes as u64),
            Poll::Ready(Err(error)) => self.errno = errno(error),
            Poll::Pending => {}
        }
        polled
    }
}

impl<IO> Drop for Counted<IO> {
    fn drop(&mut self) {
        self.metrics.close(self.errno, self.opened);
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Counted<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        match &polled {
            Poll::Ready(Ok(())) => {
                let bytes = buf.filled().len() - before;
                self.metrics.read.increment(bytes as u64);
            }
            Poll::Ready(Err(error)) => self.errno = errno(error),
            Poll::Pending => {}
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Counted<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::telemetry::Metrics;

    fn metrics() -> (Recorder, Arc<TransportMetrics>) {
        let recorder = Recorder::new(Metrics::Own).expect("an own recorder is always there");
        let metrics = Arc::new(TransportMetrics::new(&recorder, Vec::new()));
        (recorder, metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_counts_from_its_first_byte_to_its_end() {
        let (recorder, metrics) = metrics();
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = Counted::new(ours, metrics);
        theirs.write_all(b"hello").await.unwrap();
        ours.write_all(b"hi").await.unwrap();
        ours.read_exact(&mut [0; 5]).await.unwrap();
        let text = recorder.render();
        for line in [
            "tcp_open_total 1",
            "tcp_open_connections 1",
            "tcp_read_bytes_total 5",
            "tcp_write_bytes_total 2",
            r#"tcp_close_total{errno=""} 0"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        tokio::time::advance(std::time::Duration::from_millis(25)).await;
        drop(ours);
        let text = recorder.render();
        for line in [
            "tcp_open_connections 0",
            r#"tcp_close_total{errno=""} 1"#,
            r#"tcp_connection_duration_ms_bucket{errno="",le="20"} 0"#,
            r#"tcp_connection_duration_ms_bucket{errno="",le="30"} 1"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }

    #[tokio::test]
    async fn a_broken_connection_says_what_broke_it() {
        let (recorder, metrics) = metrics();
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let io = tokio_test::io::Builder::new().read_error(reset).build();
        let mut io = Counted::new(io, metrics);
        assert!(io.read_u8().await.is_err());
        drop(io);
        let text = recorder.render();
        assert!(
            text.contains(r#"tcp_close_total{errno="ECONNRESET"} 1"#),
            "{text}"
        );
    }
}
