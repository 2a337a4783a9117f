//! One server a directory (C19): a lock that the system lets go of when its holder ends,
//! however it ends, so that there is never a stale one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE: &str = "lock";
/// How often a lock that another holds is tried: an embedded server that was dropped lets go
/// of its files a moment later.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The right to use a data directory, until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes `directory`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`NotLocked`] when another server uses it, or it cannot be written.
    pub async fn take(directory: &Path) -> Result<Self, NotLocked> {
        let path = directory.join(FILE);
        let failed = |source| NotLocked::File {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(NotLocked::InUse {
            directory: directory.to_owned(),
        })
    }
}

/// Why a data directory cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotLocked {
    /// Another server uses it.
    #[error(
        "another mesh-discovery uses the data directory {}: stop it first, or choose another --data-dir",
        directory.display()
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The lock file cannot be made.
    #[error("{} cannot be used: check that it belongs to the user that runs discovery", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
