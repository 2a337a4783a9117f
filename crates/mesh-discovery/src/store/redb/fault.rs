//! Disks that fail as a test wants: a write of one of these keys reaches the disk, which says that
//! it does not.

use std::io::ErrorKind;

use super::writer::Decided;

/// A sync that fails after all of it was written.
pub(crate) const REFUSED: &str = "fault/refused";
/// A disk that is full, until a new file is made.
pub(crate) const FULL: &str = "fault/full";
/// A writer that has a defect.
pub(crate) const PANIC: &str = "fault/panic";

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    was_full: bool,
}

impl Faults {
    pub(super) fn say(
        &mut self,
        decided: &Decided,
        written: Result<(), ::redb::Error>,
    ) -> Result<(), ::redb::Error> {
        let writes = decided.commits.iter().flat_map(|(writes, _)| writes);
        let keys: Vec<_> = writes.map(|write| &*write.key).collect();
        let is_full = keys.contains(&FULL) && !self.was_full;
        self.was_full = is_full;
        assert!(!keys.contains(&PANIC), "the test wants it");
        match () {
            () if is_full => Err(::redb::Error::Io(ErrorKind::StorageFull.into())),
            () if keys.contains(&REFUSED) => Err(::redb::Error::Io(ErrorKind::Other.into())),
            () => written,
        }
    }
}
