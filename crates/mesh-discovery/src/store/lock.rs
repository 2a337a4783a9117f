//! One server a directory (C19): a lock that the system lets go of when its holder ends,
//! however it ends, so that there is never a stale one.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const FILE: &str = "lock";
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// How often a lock that another holds is tried: an embedded server that was dropped lets go
/// of its files a moment later.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The right to use a data directory, until the last copy of it is dropped.
#[derive(Clone, Debug)]
pub struct DirectoryLock {
    _file: Arc<File>,
}

impl DirectoryLock {
    /// Takes `directory`, which is made for its owner alone if it is not there, whatever the umask.
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
        make(directory).map_err(failed)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(failed)?;
        // Of another owner's file, which it is for the owner to restrict.
        drop(file.set_permissions(Permissions::from_mode(FILE_MODE)));
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        _file: Arc::new(file),
                    });
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(NotLocked::InUse {
            directory: directory.to_owned(),
        })
    }
}

/// Makes the directory and those above it. One that is there keeps its mode, and is told of where
/// everybody could put other files in the place of ours.
fn make(directory: &Path) -> io::Result<()> {
    let is_there = directory.try_exists()?;
    if !is_there {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        return fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE));
    }
    let mode = fs::metadata(directory)?.mode();
    let (anyone_writes, sticky) = (mode & 0o002 != 0, mode & 0o1000 != 0);
    if anyone_writes && !sticky {
        tracing::warn!(
            directory = %directory.display(),
            mode = format!("{:04o}", mode & 0o7777),
            "everybody on this machine can put other keys in the place of the CA's: chmod 700 it"
        );
    }
    Ok(())
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
