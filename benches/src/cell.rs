//! The cells of the table: protocol, body size, requests in flight.

use std::fmt;

use clap::ValueEnum;

/// With or without the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// hyper and rustls with client certificates, and nothing else.
    Bare,
    /// The whole stack of both ends.
    Mesh,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Mesh => "mesh",
        })
    }
}

/// The version of HTTP on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// One cell of the table.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Cell {
    /// The version of HTTP on the wire.
    #[arg(long)]
    pub protocol: Protocol,
    /// Bytes of the response's body.
    #[arg(long)]
    pub bytes: usize,
    /// Requests in flight at any time.
    #[arg(long)]
    pub in_flight: usize,
}

impl Cell {
    /// Every cell, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        [Protocol::Http1, Protocol::Http2]
            .into_iter()
            .flat_map(|protocol| {
                [100, 10_240].into_iter().flat_map(move |bytes| {
                    [1, 64].into_iter().map(move |in_flight| Self {
                        protocol,
                        bytes,
                        in_flight,
                    })
                })
            })
    }

    /// The cell as flags of a child process.
    pub fn flags(self) -> Vec<String> {
        let protocol = match self.protocol {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
        };
        vec![
            format!("--protocol={protocol}"),
            format!("--bytes={}", self.bytes),
            format!("--in-flight={}", self.in_flight),
        ]
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            bytes,
            in_flight,
        } = self;
        write!(f, "{protocol:<8} {bytes:>6} B {in_flight:>3}")
    }
}
