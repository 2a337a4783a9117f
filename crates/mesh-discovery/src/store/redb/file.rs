//! The file of records: made whole or not at all, checked whole whenever it is opened.
//!
//! `store.redb` is made beside its place and moved there by one rename, and `store.id`
//! says that it was: a file that is missing, empty or another's afterwards was lost, and a
//! server that began anew over it would forget silently. After the disk has failed, the same two
//! steps put a new file in the place of the old one. Every commit is synced twice (two
//! phases), so that the newest state on the disk is one that was finished: if it does not
//! verify, that is damage, and never a reason to go back to the state before it.

use std::fs;
use std::path::{Path, PathBuf};

use ::redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use bytes::Bytes;

use crate::store::{Record, Write};

const FILE: &str = "store.redb";
const UNFINISHED: &str = "store.redb.new";
const ID_FILE: &str = "store.id";
/// The form of the tables. Another number is another version's.
const FORMAT: &str = "1";
/// Records are read from memory; this serves the tree's inner pages while it is written.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Key → revision of its last write, whether it ends with a lease, value.
const RECORDS: TableDefinition<'_, &str, (u64, bool, &[u8])> = TableDefinition::new("records");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");
const REVISION: &str = "revision";
const ID: &str = "id";
const FORM: &str = "format";

/// The open file.
#[derive(Debug)]
pub(super) struct StoreFile {
    database: Database,
}

/// All that a file holds.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) id: String,
    pub(super) revision: u64,
    /// Each with whether it ended with a lease.
    pub(super) records: Vec<(Record, bool)>,
}

impl StoreFile {
    /// Opens the file in `directory`, or makes one where there never was any.
    pub(super) fn open(directory: &Path, first: u64) -> Result<(Self, Content), OpenError> {
        let (path, id_path) = (place(directory), directory.join(ID_FILE));
        let known = match fs::read_to_string(&id_path) {
            Ok(id) => Some(id.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(OpenError::file(&id_path, source)),
        };
        let exists = path.try_exists();
        if !exists.map_err(|source| OpenError::file(&path, source))? {
            if known.is_some() {
                return Err(OpenError::Lost { path, id_path });
            }
            let new = Content {
                id: format!("{:032x}", fastrand::u128(..)),
                revision: first,
                records: Vec::new(),
            };
            create(directory, &new)?;
        }
        let opened = open(&path)?;
        let content = read(&opened).map_err(|source| OpenError::damaged(&path, source))?;
        match known {
            None => write_id(directory, &content.id)?,
            Some(known) if known == content.id => {}
            Some(known) => {
                let found = content.id;
                return Err(OpenError::Exchanged { path, found, known });
            }
        }
        Ok((Self { database: opened }, content))
    }

    /// Puts a new file that holds `content` in the place of the one in `directory`.
    ///
    /// What the system's cache and the disk hold of the old file after a failed sync is not
    /// known, and is not asked.
    pub(super) fn replace(directory: &Path, content: &Content) -> Result<Self, OpenError> {
        create(directory, content)?;
        let database = open(&place(directory))?;
        Ok(Self { database })
    }

    /// Writes all of `commits` at once; once this returns, they are on the disk.
    pub(super) fn write(
        &self,
        commits: &[(Vec<Write>, u64)],
        revision: u64,
    ) -> Result<(), ::redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_two_phase_commit(true);
        {
            let mut records = transaction.open_table(RECORDS)?;
            for (writes, revision) in commits {
                for write in writes {
                    let key = write.key.as_str();
                    match &write.value {
                        Some(value) => {
                            let record = (*revision, write.lease.is_some(), &value[..]);
                            records.insert(key, record)?;
                        }
                        None => drop(records.remove(key)?),
                    }
                }
            }
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert(REVISION, revision)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Where the file lies in `directory`.
pub(super) fn place(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Makes the file beside its place, whole and synced, and moves it there.
fn create(directory: &Path, content: &Content) -> Result<(), OpenError> {
    let unfinished = directory.join(UNFINISHED);
    let failed = |source| OpenError::file(&unfinished, source);
    // A start that was killed half-way leaves one; nobody was told of anything in it.
    match fs::remove_file(&unfinished) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(source)),
    }
    let written = private(&unfinished)
        .map_err(failed)
        .and_then(|()| fill(&unfinished, content))
        .and_then(|()| fs::rename(&unfinished, place(directory)).map_err(failed));
    if written.is_err() {
        // What it takes may be all the room that there is; the first error counts.
        drop(fs::remove_file(&unfinished));
    }
    written?;
    sync(directory)
}

fn fill(path: &Path, content: &Content) -> Result<(), OpenError> {
    let fill = || -> Result<(), ::redb::Error> {
        let database = builder().create(path)?;
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        {
            let mut records = transaction.open_table(RECORDS)?;
            for (record, leased) in &content.records {
                let value = (record.revision, *leased, &record.value[..]);
                records.insert(record.key.as_str(), value)?;
            }
            let mut numbers = transaction.open_table(NUMBERS)?;
            numbers.insert(REVISION, content.revision)?;
            let mut texts = transaction.open_table(TEXTS)?;
            texts.insert(ID, content.id.as_str())?;
            texts.insert(FORM, FORMAT)?;
        }
        transaction.commit()?;
        Ok(())
    };
    fill().map_err(|source| OpenError::Database {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Makes an empty file for its owner alone, whatever the umask: who may use tokens and grants is
/// nobody else's business.
fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

fn write_id(directory: &Path, id: &str) -> Result<(), OpenError> {
    let path = directory.join(ID_FILE);
    let unfinished = directory.join("store.id.new");
    let write = || {
        drop(fs::remove_file(&unfinished));
        private(&unfinished)?;
        fs::write(&unfinished, id)?;
        fs::File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    write().map_err(|source| OpenError::file(&path, source))?;
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), OpenError> {
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| OpenError::file(directory, source))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

fn open(path: &Path) -> Result<Database, OpenError> {
    let opened = builder().open(path);
    opened.map_err(|error| OpenError::damaged(path, error.into()))
}

fn read(database: &Database) -> Result<Content, ::redb::Error> {
    let corrupted = |what: &str| ::redb::Error::Corrupted(what.to_owned());
    let transaction = database.begin_read()?;
    let texts = transaction.open_table(TEXTS)?;
    let text = |name: &str| -> Result<String, ::redb::Error> {
        let found = texts.get(name)?;
        let found = found.ok_or_else(|| corrupted("it does not say whose it is"))?;
        Ok(found.value().to_owned())
    };
    if text(FORM)? != FORMAT {
        return Err(corrupted("it is of another version of mesh-discovery"));
    }
    let revision = transaction.open_table(NUMBERS)?.get(REVISION)?;
    let revision = revision.ok_or_else(|| corrupted("it has no revision"))?;
    let mut records = Vec::new();
    for entry in transaction.open_table(RECORDS)?.iter()? {
        let (key, value) = entry?;
        let (revision, leased, bytes) = value.value();
        let record = Record {
            key: key.value().to_owned(),
            value: Bytes::copy_from_slice(bytes),
            revision,
        };
        records.push((record, leased));
    }
    Ok(Content {
        id: text(ID)?,
        revision: revision.value(),
        records,
    })
}

/// Why the file of records cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file cannot be read or written.
    #[error("{} cannot be used: check the disk, and that it belongs to the user that runs discovery", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be made.
    #[error("{} cannot be made: check the disk", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: Box<::redb::Error>,
    },
    /// The file was changed by something else than this program.
    #[error(
        "{} is damaged: nothing of it is used; put a backup of the data directory in its place, or move it and store.id away to begin with nothing",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: Box<::redb::Error>,
    },
    /// The file was there once.
    #[error(
        "{} is gone: put it back from a backup, or remove {} to begin with nothing",
        path.display(),
        id_path.display()
    )]
    Lost {
        /// The file.
        path: PathBuf,
        /// What says that it was there.
        id_path: PathBuf,
    },
    /// The file is of another store than the one that was here.
    #[error(
        "{} is the store {found}, but the one of this directory was {known}: put the right file back, or remove store.id to use this one",
        path.display()
    )]
    Exchanged {
        /// The file.
        path: PathBuf,
        /// What it calls itself.
        found: String,
        /// What was here.
        known: String,
    },
}

impl OpenError {
    fn file(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        Self::File { path, source }
    }

    fn damaged(path: &Path, source: ::redb::Error) -> Self {
        match source {
            ::redb::Error::Io(source)
                if source.kind() != std::io::ErrorKind::InvalidData
                    && source.kind() != std::io::ErrorKind::UnexpectedEof =>
            {
                Self::file(path, source)
            }
            source => Self::Damaged {
                path: path.to_owned(),
                source: Box::new(source),
            },
        }
    }
}
