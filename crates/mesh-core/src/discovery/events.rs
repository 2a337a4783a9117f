//! The events of a watch, as they come.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mesh_policy::plan::watch::Event;
use tokio::time::timeout;

use super::lines::Lines;
use super::link::LinkFailed;
use super::session::WatchEnded;
use crate::BoxError;

/// A watch that says nothing for so long is dead: discovery sends heartbeats.
const SILENCE: Duration = Duration::from_secs(10);
/// Up to so much longer, so that a fleet does not reopen its watches at one moment.
const SILENCE_JITTER: Duration = Duration::from_secs(3);

/// Cuts the body of a watch into events.
#[derive(Debug)]
pub(super) struct Events<B = Incoming> {
    body: B,
    lines: Lines,
}

impl<B> Events<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: B) -> Self {
        let lines = Lines::new();
        Self { body, lines }
    }

    /// The next event. Silence is that of the wire: an endpoint set of 2 MB over a slow link may
    /// take minutes, as long as it goes on.
    pub(super) async fn next(&mut self) -> Result<Event, WatchEnded> {
        loop {
            if let Some(line) = self.lines.next_line()? {
                let event = serde_json::from_slice(&line);
                return event.map_err(|error| LinkFailed::Malformed(error).into());
            }
            let silence = SILENCE + SILENCE_JITTER.mul_f64(fastrand::f64());
            match timeout(silence, self.body.frame()).await {
                Ok(Some(Ok(frame))) => self.lines.push(&frame.into_data().unwrap_or_default()),
                Ok(Some(Err(error))) => return Err(LinkFailed::Unreachable(error.into()).into()),
                Ok(None) => return Err(WatchEnded::Closed),
                Err(_) => return Err(WatchEnded::Silent),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use mesh_policy::plan::watch::Change;

    use super::*;

    const HEARTBEAT: &[u8] =
        b"{\"store\":\"s\",\"revision\":1,\"event\":\"heartbeat\",\"now\":1}\n";

    /// A body that says a byte in `pause`.
    fn slow(pause: Duration) -> impl Body<Data = Bytes, Error = BoxError> + Unpin {
        let bytes = futures_util::stream::iter(HEARTBEAT).then(move |byte| async move {
            tokio::time::sleep(pause).await;
            Ok(Frame::data(Bytes::from(vec![*byte])))
        });
        StreamBody::new(Box::pin(bytes))
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_may_take_any_time_as_long_as_it_goes_on() {
        let event = Events::new(slow(Duration::from_secs(9))).next().await;
        let event = event.expect("it was never silent for 10 s");
        assert!(matches!(event.change, Change::Heartbeat { now: 1 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_falls_silent_within_a_line_is_dead() {
        let event = Events::new(slow(Duration::from_secs(14))).next().await;
        assert!(matches!(event, Err(WatchEnded::Silent)), "{event:?}");
    }
}
