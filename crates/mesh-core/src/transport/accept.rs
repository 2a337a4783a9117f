//! Takes connections off a socket, whatever the socket does.
//!
//! A handshake never runs here: one slow client must not keep the others waiting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use super::connections::{Connections, Ticket};

/// The first pause after an error of the socket, such as too many open files.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where connections come from.
pub(crate) trait Listen {
    /// One connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and its other end.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = Self::accept(self).await?;
        // A response waits for no acknowledgement; a socket that is gone already fails later.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %address, "a connection has no TCP_NODELAY");
        }
        Ok((stream, address))
    }
}

/// One connection that has a place.
#[derive(Debug)]
pub(crate) struct Accepted<IO> {
    pub(crate) io: IO,
    pub(crate) address: SocketAddr,
    pub(crate) ticket: Ticket,
}

/// Accepts for ever: gives each connection that finds a place to `spawn`, closes the others.
pub(crate) async fn accept<L: Listen>(
    listener: &L,
    connections: &Arc<Connections>,
    refused: &Counter,
    spawn: impl Fn(Accepted<L::Io>),
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let (io, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, ?pause, "the listener cannot accept for now");
                // The process may have no file left, which a stranger's connection would give back.
                let longer = match connections.make_room() {
                    true => pause,
                    false => (pause * 2).min(LONGEST_PAUSE),
                };
                tokio::time::sleep(std::mem::replace(&mut pause, longer)).await;
                continue;
            }
        };
        pause = FIRST_PAUSE;
        match connections.take_in().await {
            Some(ticket) => spawn(Accepted {
                io,
                address,
                ticket,
            }),
            None => {
                refused.increment(1);
                tracing::debug!(%address, "one connection too many is closed");
            }
        }
    }
}

/// Whether a client gave up before it was accepted: the listener itself is well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::DuplexStream;
    use tokio::time::Instant;

    use super::*;
    use crate::transport::Limits;

    /// Yields errors from the back of its list, then connections.
    struct Flaky(Mutex<Vec<io::Error>>);

    impl Listen for Flaky {
        type Io = DuplexStream;

        async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
            tokio::task::yield_now().await;
            match self.0.lock().expect("no panic").pop() {
                Some(error) => Err(error),
                None => Ok((
                    tokio::io::duplex(1).0,
                    SocketAddr::from(([127, 0, 0, 1], 1)),
                )),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn p13_errors_of_the_socket_are_survived_with_growing_pauses() {
        const TOO_MANY_OPEN_FILES: i32 = 24;
        let errors = (0..10).map(|_| io::Error::from_raw_os_error(TOO_MANY_OPEN_FILES));
        let listener = Flaky(Mutex::new(errors.collect()));
        let limits = Limits {
            connections: 1,
            ..Limits::default()
        };
        let connections = Arc::new(Connections::new(limits));
        let started = Instant::now();
        let first = tokio::sync::Notify::new();
        let held = Mutex::new(Vec::new());
        let uncounted = Counter::noop();
        let accepting = accept(&listener, &connections, &uncounted, |accepted| {
            held.lock().expect("no panic").push(accepted);
            first.notify_one();
        });
        tokio::select! {
            () = accepting => unreachable!("it accepts for ever"),
            () = first.notified() => {}
        }
        // 5 ms doubled eight times exceeds a second: 1275 ms in eight pauses, then two of 1 s.
        assert_eq!(started.elapsed(), Duration::from_millis(1_275 + 2_000));
    }
}
