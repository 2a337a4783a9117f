//! Room on the disk that is given up when the disk is full, so that records can still be deleted:
//! a deletion writes too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const FILE: &str = "store.reserve";
/// What is kept beside the room for one copy of the store's file.
const SLACK: u64 = 256 * 1024;
/// The most that is kept: a store of more than that is a rare one.
const MOST: u64 = 64 * 1024 * 1024;
const BLOCK: usize = 64 * 1024;

/// The reserve of one directory.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    lent: bool,
}

impl Reserve {
    /// Keeps room for a copy of `store`, the file of records. Where there is none, none is kept.
    pub(super) fn keep(directory: &Path, store: &Path) -> Self {
        let reserve = Self {
            path: directory.join(FILE),
            lent: false,
        };
        if let Err(error) = reserve.fill(wanted(store)) {
            tracing::warn!(
                %error,
                path = %reserve.path.display(),
                "no room can be reserved: once the disk is full, nothing can be deleted either"
            );
            drop(fs::remove_file(&reserve.path));
        }
        reserve
    }

    /// Whether the room was given up and is not there again: then only deletions may be written.
    pub(super) const fn is_lent(&self) -> bool {
        self.lent
    }

    /// Gives the room up; whether there was any.
    pub(super) fn lend(&mut self) -> bool {
        let given = !self.lent && fs::remove_file(&self.path).is_ok();
        self.lent |= given;
        given
    }

    /// Takes the room back if it is there again.
    pub(super) fn take_back(&mut self, store: &Path) {
        if !self.lent {
            return;
        }
        match self.fill(wanted(store)) {
            Ok(()) => self.lent = false,
            // What was filled so far would take the room from the deletions.
            Err(_) => drop(fs::remove_file(&self.path)),
        }
    }

    /// Fills the file with what no file system makes smaller.
    fn fill(&self, bytes: u64) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|found| found.len() >= bytes) {
            return Ok(());
        }
        let mut file: File = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
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
}

fn wanted(store: &Path) -> u64 {
    let length = fs::metadata(store).map_or(0, |found| found.len());
    (length + SLACK).min(MOST)
}
