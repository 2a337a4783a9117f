//! Why the program ended, and with which code.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use mesh_core::config::InvalidConfig;
use mesh_core::mesh::{JoinError, ServeError};

/// Wrong usage, as in `sysexits.h`.
pub(crate) const EX_USAGE: u8 = 64;
/// Discovery cannot be reached.
const EX_UNAVAILABLE: u8 = 69;
/// Discovery refused this process.
const EX_NOPERM: u8 = 77;
/// Bad configuration.
const EX_CONFIG: u8 = 78;

/// Why the program ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("it serves no service: name one with --service NAME.NS or in MESH_SERVICE")]
    NoService,
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error("it has not joined the mesh")]
    Join(#[from] JoinError),
    #[error("it cannot listen on {address}: choose another address with --listen")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("plain HTTP cannot be served")]
    Plaintext(#[source] io::Error),
    #[error("signals cannot be heard")]
    Signals(#[source] io::Error),
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
}

impl Failure {
    /// The exit code, as the `mesh` command's.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::NoService => EX_USAGE,
            Self::Join(JoinError::TimedOut { .. }) => EX_UNAVAILABLE,
            Self::Join(JoinError::Refused(_)) => EX_NOPERM,
            Self::Config(_)
            | Self::Join(_)
            | Self::Listen { .. }
            | Self::Serve(_)
            | Self::Plaintext(_)
            | Self::Signals(_)
            | Self::Runtime(_) => EX_CONFIG,
        }
    }
}

/// An error with its causes: what failed, why, what to do.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
