//! Why a command came to nothing, and with which code it ends.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use mesh_core::mesh::JoinError;
use mesh_discovery::client::ClientError;
use mesh_discovery::client::kubeconfig::InvalidKubeconfig;

/// The answer is no.
pub(crate) const NO: u8 = 1;
/// Wrong usage, as in `sysexits.h`.
pub(crate) const EX_USAGE: u8 = 64;
/// Bad input file.
pub(crate) const EX_DATAERR: u8 = 65;
/// Discovery cannot be reached.
const EX_UNAVAILABLE: u8 = 69;
/// The output cannot be written.
const EX_IOERR: u8 = 74;
/// Not permitted.
const EX_NOPERM: u8 = 77;
/// Bad configuration.
const EX_CONFIG: u8 = 78;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// Files are wrong: each problem a line of its own, and a last one that says what was done.
    #[error("{0}")]
    Input(String),
    #[error(
        "{} cannot be read: start mesh-discovery in this directory, or name its admin.kubeconfig \
         with --kubeconfig or MESH_KUBECONFIG", .path.display()
    )]
    NoCredentials { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Kubeconfig(#[from] InvalidKubeconfig),
    #[error(transparent)]
    Discovery(#[from] ClientError),
    /// One file that is not what it should be.
    #[error("{0}")]
    File(String),
    #[error("the mesh cannot be joined")]
    Join(#[from] JoinError),
    #[error(
        "the mesh cannot be joined: {source}: see that mesh-discovery runs at {discovery}, or give \
         it longer with --join-timeout"
    )]
    NotJoined {
        discovery: String,
        source: Box<JoinError>,
    },
    #[error(
        "what was asked is done, but standard output cannot be written, and the answer is lost"
    )]
    Output(#[source] io::Error),
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => EX_USAGE,
            Self::Input(_) | Self::File(_) => EX_DATAERR,
            Self::NotJoined { .. } => EX_UNAVAILABLE,
            Self::Output(_) => EX_IOERR,
            Self::Discovery(error) => error.exit_code(),
            Self::Join(JoinError::Refused(_)) => EX_NOPERM,
            Self::NoCredentials { .. } | Self::Kubeconfig(_) | Self::Join(_) | Self::Runtime(_) => {
                EX_CONFIG
            }
        }
    }
}

/// An error with its causes: what failed, why, what to do.
pub(crate) fn text(failure: &Failure) -> String {
    if let Failure::Input(lines) = failure {
        return lines.clone();
    }
    let mut text = format!("mesh: {failure}");
    let mut told = failure.to_string();
    // What a transparent error says stands there already, and so does what it quotes.
    let mut cause = failure.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !told.contains(&why) {
            text.push_str(": ");
            text.push_str(&why);
            told = why;
        }
        cause = error.source();
    }
    text
}
