//! Room on the disk that is given up when the disk is full, so that records can still be deleted:
//! a deletion writes too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const FILE: &str = "store.reserve";
/// What is kept beside the room for one copy of the store's file, and the step in which it grows.
const SLACK: u64 = 512 * 1024;
/// The most that is kept: a store of more than that is a rare one.
const MOST: u64 = 64 * 1024 * 1024;
const BLOCK: usize = 64 * 1024;

/// The reserve of one directory.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// False where there never was any room to reserve.
    kept: bool,
    short: bool,
}

impl Reserve {
    /// Keeps room for a copy of `store`, the file of records. Where there is none, none is kept.
    pub(super) fn keep(directory: &Path, store: &Path) -> Self {
        let mut reserve = Self {
            path: directory.join(FILE),
            kept: true,
            short: false,
        };
        if let Err(error) = reserve.fill(wanted(store)) {
            reserve.let_go(&error);
        }
        reserve
    }

    fn let_go(&mut self, error: &io::Error) {
        tracing::warn!(
            %error,
            path = %self.path.display(),
            "no room can be reserved: once the disk is full, nothing can be deleted either"
        );
        self.kept = false;
    }

    /// Whether there is less room than a copy of the store takes: then only deletions may be
    /// written, so that they can be.
    pub(super) const fn is_short(&self) -> bool {
        self.kept && self.short
    }

    /// Gives the room up; whether there was any.
    pub(super) fn lend(&mut self) -> bool {
        let given = fs::remove_file(&self.path).is_ok();
        self.short |= given;
        given
    }

    /// Keeps up with the size of `store`, or takes the room back if it is there again.
    pub(super) fn keep_up(&mut self, store: &Path) {
        if !self.kept {
            return;
        }
        match self.fill(wanted(store)) {
            Ok(()) => self.short = false,
            Err(error) if is_full(error.kind()) => self.short = true,
            // Such as a directory that is gone: the store may do without.
            Err(error) => self.let_go(&error),
        }
    }

    /// Fills the file with what no file system makes smaller, or leaves it as it was.
    fn fill(&self, bytes: u64) -> io::Result<()> {
        let before = fs::metadata(&self.path).map_or(0, |found| found.len());
        // There is a step between what is needed and what is kept.
        if before >= bytes {
            return Ok(());
        }
        let mut file: File = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)?;
        let filled = append(&mut file, (bytes + SLACK).min(MOST) - before);
        if filled.is_err() {
            // What was filled so far would take the room from the deletions.
            drop(file.set_len(before));
        }
        filled
    }
}

/// Whether the disk, or what the user may have of it, is full.
pub(super) fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn append(file: &mut File, bytes: u64) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        fastrand::Rng::new().fill(&mut block);
        let some = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        file.write_all(&block[..some])?;
        left -= some as u64;
    }
    file.sync_all()
}

fn wanted(store: &Path) -> u64 {
    let length = fs::metadata(store).map_or(0, |found| found.len());
    (length + SLACK).min(MOST)
}
