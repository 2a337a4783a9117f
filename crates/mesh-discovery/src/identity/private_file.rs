//! Files that only their owner can read, whatever the umask says (J11).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::custody::CustodyError;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Keys and chains are a few KiB; more is not ours, and not read.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Makes `path` with mode 0700; its parent must exist and it must not.
pub(super) fn create_directory(path: &Path) -> Result<(), CustodyError> {
    let make = || {
        DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
        // The umask can only take bits away, and it may have taken the owner's.
        fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
    };
    make().map_err(|source| CustodyError::at(path, source))
}

/// Writes a file that did not exist, and waits until it is on the disk.
pub(super) fn create(path: &Path, content: &str) -> Result<(), CustodyError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)?;
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| CustodyError::at(path, source))
}

/// Replaces what `path` holds: readers see the old content or the new one, whole.
pub(super) fn replace(path: &Path, content: &str) -> Result<(), CustodyError> {
    let temporary = sibling(path);
    create(&temporary, content)?;
    let renamed = rename(&temporary, path);
    if renamed.is_err() {
        // The content is a secret that nobody will look for here; the first error counts.
        drop(fs::remove_file(&temporary));
    }
    renamed
}

/// Moves a finished file or directory to its place, and waits until that is on the disk.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), CustodyError> {
    let moved = || {
        fs::rename(from, to)?;
        match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
            _ => sync_directory(Path::new(".")),
        }
    };
    moved().map_err(|source| CustodyError::at(to, source))
}

/// Waits until the names in `path` are on the disk.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A name beside `path` that nothing else uses.
pub(super) fn sibling(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{:016x}", fastrand::u64(..)));
    name.into()
}

/// Reads a file that nobody but its owner can read or change.
///
/// # Errors
///
/// [`CustodyError::TooWide`] where others can, [`CustodyError::File`] otherwise.
pub(super) fn read(path: &Path) -> Result<String, CustodyError> {
    let mut file = File::open(path).map_err(|source| CustodyError::at(path, source))?;
    // The open file is looked at, so that nobody can exchange it in between.
    let metadata = file.metadata();
    let metadata = metadata.map_err(|source| CustodyError::at(path, source))?;
    check_mode(path, metadata.mode(), FILE_MODE)?;
    let mut text = String::new();
    let read = Read::by_ref(&mut file)
        .take(MAX_FILE_BYTES)
        .read_to_string(&mut text);
    read.map_err(|source| CustodyError::at(path, source))?;
    Ok(text)
}

/// Checks that nobody but its owner can enter `path`.
pub(super) fn check_directory(path: &Path) -> Result<(), CustodyError> {
    let metadata = fs::symlink_metadata(path);
    let metadata = metadata.map_err(|source| CustodyError::at(path, source))?;
    if !metadata.is_dir() {
        let source = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(CustodyError::at(path, source));
    }
    check_mode(path, metadata.mode(), DIRECTORY_MODE)
}

fn check_mode(path: &Path, mode: u32, wanted: u32) -> Result<(), CustodyError> {
    let mode = mode & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(CustodyError::TooWide {
        path: path.to_owned(),
        mode,
        wanted,
    })
}
