//! Where the CA's keys lie.
//!
//! The first start makes a root and an issuer in `<data-dir>/ca/`, whole or not at
//! all: everything is written beside it and moved there by one rename. Later starts
//! load them, and refuse to when anybody else could have read a key (SPI-01-002).
//!
//! | file | holds |
//! | --- | --- |
//! | `trust-domain` | whose CA it is |
//! | `root.crt`, `root.key` | the trust anchor; move the key off the machine |
//! | `issuer.crt`, `issuer.key` | what signs leaves |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mesh_policy::identity::TrustDomain;
use mesh_tls::anchors::{InvalidAnchor, TrustBundle};
use mesh_tls::issuer::{InvalidIssuer, Issuer};
use mesh_tls::root::Root;

use super::private_file;

/// Loads the issuer of `domain` from `<data_dir>/ca/`, or makes one on the first start.
///
/// # Errors
///
/// [`CustodyError`] when files cannot be read or written, others can read them, or what they
/// hold does not fit together or belongs to another domain.
pub fn load_or_create(
    data_dir: &Path,
    domain: &TrustDomain,
    now: SystemTime,
) -> Result<Issuer, CustodyError> {
    fs::create_dir_all(data_dir).map_err(|source| CustodyError::at(data_dir, source))?;
    let directory = data_dir.join("ca");
    let exists = directory.try_exists();
    if !exists.map_err(|source| CustodyError::at(&directory, source))? {
        create(&directory, domain, now)?;
    }
    load(&directory, domain, now)
}

fn create(directory: &Path, domain: &TrustDomain, now: SystemTime) -> Result<(), CustodyError> {
    let root = Root::create(domain, now)?;
    let issuer = root.sign_issuer(now)?;
    let unfinished = private_file::sibling(directory);
    private_file::create_directory(&unfinished)?;
    let finished = write(&unfinished, &root, &issuer)
        .and_then(|()| private_file::rename(&unfinished, directory));
    if let Err(error) = finished {
        // Best effort: the first error says what is wrong.
        drop(fs::remove_dir_all(&unfinished));
        // Another process may have been first: its CA is as good, and is loaded.
        if !directory.is_dir() {
            return Err(error);
        }
    }
    Ok(())
}

fn write(directory: &Path, root: &Root, issuer: &Issuer) -> Result<(), CustodyError> {
    let file = |name: &str, content: &str| private_file::create(&directory.join(name), content);
    file("trust-domain", root.bundle().domain().as_str())?;
    file("root.crt", &root.bundle().to_pem())?;
    file("root.key", &root.key().to_pem())?;
    file("issuer.crt", &issuer.chain_pem())?;
    file("issuer.key", &issuer.key_pem())?;
    private_file::sync_directory(directory).map_err(|source| CustodyError::at(directory, source))
}

fn load(directory: &Path, domain: &TrustDomain, now: SystemTime) -> Result<Issuer, CustodyError> {
    private_file::check_directory(directory)?;
    let file = |name: &str| private_file::read(&directory.join(name));
    let own = file("trust-domain")?;
    if own.trim() != domain.as_str() {
        return Err(CustodyError::OtherDomain {
            own: own.trim().to_owned(),
            asked: domain.clone(),
        });
    }
    let anchors = TrustBundle::from_pem(domain.clone(), &file("root.crt")?)?;
    let root_key = directory.join("root.key");
    if root_key.exists() {
        // It is not needed to run, but nobody else may have it.
        private_file::read(&root_key)?;
    }
    let chain = file("issuer.crt")?;
    let key = zeroize::Zeroizing::new(file("issuer.key")?);
    Ok(Issuer::from_pem(&chain, &key, anchors, now)?)
}

/// Why the CA's keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// A file cannot be read or written.
    #[error("{} cannot be used: check that it belongs to the user that runs discovery", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others could have read a key.
    #[error(
        "{} has mode {mode:04o}, so that others can read it: if nobody has, set it to {wanted:04o}; else make a new CA",
        path.display()
    )]
    TooWide {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// The directory holds the CA of another domain.
    #[error(
        "the CA here is that of {own:?}, not of {asked}: name that domain, or give another data directory"
    )]
    OtherDomain {
        /// Whose CA it is.
        own: String,
        /// What was asked for.
        asked: TrustDomain,
    },
    /// The anchors do not read.
    #[error("the trust anchors in ca/root.crt are refused")]
    Anchors(#[from] InvalidAnchor),
    /// The issuer does not read, has ended, or does not fit the anchors.
    #[error("the issuer in ca/issuer.crt and ca/issuer.key is refused")]
    Issuer(#[from] InvalidIssuer),
}

impl CustodyError {
    pub(super) fn at(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn start(data_dir: &Path) -> Result<Issuer, CustodyError> {
        load_or_create(data_dir, &"mesh.local".parse().unwrap(), SystemTime::now())
    }

    #[test]
    fn the_second_start_has_the_ca_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = start(dir.path()).unwrap();
        let second = start(dir.path()).unwrap();
        assert_eq!(first.chain_pem(), second.chain_pem());
        assert_eq!(first.bundle().to_pem(), second.bundle().to_pem());
        let left_over = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left_over, 1, "only ca/ is left");
    }

    #[test]
    fn j11_keys_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path()).unwrap();
        let ca = dir.path().join("ca");
        assert_eq!(ca.metadata().unwrap().mode() & 0o7777, 0o700);
        let files: Vec<_> = fs::read_dir(&ca).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 5);
        for file in files {
            let mode = file.metadata().unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{:?}", file.path());
        }
    }

    #[test]
    fn j11_a_key_that_others_can_read_is_refused() {
        for (name, mode) in [
            ("ca", 0o750),
            ("ca/root.key", 0o644),
            ("ca/issuer.key", 0o640),
            ("ca/issuer.crt", 0o602),
        ] {
            let dir = tempfile::tempdir().unwrap();
            start(dir.path()).unwrap();
            let path = dir.path().join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = start(dir.path()).unwrap_err();
            assert!(
                matches!(error, CustodyError::TooWide { .. }),
                "{name}: {error}"
            );
            assert!(error.to_string().contains(&format!("{mode:04o}")));
        }
    }

    #[test]
    fn a_root_key_that_was_moved_away_is_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path()).unwrap();
        fs::remove_file(dir.path().join("ca/root.key")).unwrap();
        assert!(start(dir.path()).is_ok());
    }

    #[test]
    fn another_domains_ca_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path()).unwrap();
        let other = "other.local".parse().unwrap();
        let error = load_or_create(dir.path(), &other, SystemTime::now()).unwrap_err();
        assert!(error.to_string().contains("mesh.local"), "{error}");
    }

    #[test]
    fn a_damaged_ca_is_refused_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        start(dir.path()).unwrap();
        fs::write(dir.path().join("ca/issuer.key"), "x").unwrap();
        assert!(start(dir.path()).is_err());
        fs::remove_file(dir.path().join("ca/root.crt")).unwrap();
        assert!(start(dir.path()).is_err());
    }
}
