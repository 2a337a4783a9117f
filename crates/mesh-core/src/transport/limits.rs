//! How long and how much a client may keep a server waiting.

use std::time::Duration;

/// The limits of a listener and its connections.
///
/// The defaults fit a service behind a mesh; each field says what goes wrong at
/// its extremes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once, 10,000 by default, and no more than the process's limit of open files
    /// allows to all of its listeners together: three quarters of the limit, or less of a limit
    /// below 256 (see [`mesh_tls::accept::descriptors`]). The next one takes the place of a client
    /// that has not proved who it is; where there is none, the next one is closed at once, so that
    /// its client turns to another endpoint. Too low refuses real clients; too high costs memory.
    pub connections: usize,
    /// Connections at once whose clients have not finished their handshakes, 4,096 by default,
    /// and half of `connections` at most. The next one takes the place of the oldest of the
    /// source address that has the most. Too low makes clients far away try again during a
    /// flood; too high lets strangers hold memory, some 12 KiB each.
    pub handshakes: usize,
    /// From accept to the end of the handshake, first byte included, 10 s by default. Too short
    /// refuses distant clients; too long lets silent sockets occupy `connections`.
    pub handshake: Duration,
    /// From the first byte of a request head to its last, 30 s by default, found late by at most
    /// a sixth. Too short cuts slow networks; too long lets one byte per second occupy connections.
    pub header: Duration,
    /// How long a request body may be silent while the handler waits for it, 30 s by default;
    /// `None` waits for ever. Off for gRPC (by HTTP/2 and POST), whose streams are silent by design, and where the
    /// inbound plan says so. The request is answered 408 if it has no response yet.
    pub body_silence: Option<Duration>,
    /// How long a connection may live with no request in flight, 5 min by default, found late by
    /// at most a sixth of `header`. Too short makes clients reconnect; too long keeps
    /// memory for clients that went away without a word. A plaintext client whom policy refuses
    /// is given 10 s at most.
    pub idle: Duration,
    /// How long a response may wait for its client to read any of it, 1 min by default: over
    /// HTTP/1.1 any byte, found late by at most a sixth of `header`, and then the connection is
    /// cut; over HTTP/2 the next 16 KiB, and then the stream is reset, while the other streams of
    /// the connection go on. Too short cuts slow readers; too long keeps memory, and a handler's
    /// resources, for clients that never read.
    pub unread: Duration,
    /// How long a stream may go on once policy refuses a client that it had let in, 5 s by
    /// default, found late by at most an eighth; its next request is refused at once. Too short
    /// cuts downloads at each slip of an editor's hand; too long lets a banned client listen on.
    pub revoked: Duration,
    /// How long a drain waits for requests in flight, 120 s by default, then cuts them.
    pub drain: Duration,
    /// Requests at once on one HTTP/2 connection, 200 by default. Too low makes the client open
    /// more connections or wait; too high lets one connection take all workers, and up to 80 KiB
    /// for each response that its client does not read.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshakes: 4_096,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(30),
            body_silence: Some(Duration::from_secs(30)),
            idle: Duration::from_secs(5 * 60),
            unread: Duration::from_secs(60),
            revoked: Duration::from_secs(5),
            drain: Duration::from_secs(120),
            streams: 200,
        }
    }
}

impl Limits {
    /// How often a connection looks at its clock.
    ///
    /// Slow heads and idle connections are found by looking now and then instead of by a timer
    /// per request, which would cost an allocation and a timer registration each.
    pub(crate) fn tick(&self) -> Duration {
        const FINEST: Duration = Duration::from_millis(1);
        (self.header.min(self.idle) / 6).max(FINEST)
    }
}
