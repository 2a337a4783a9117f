//! Why an object cannot be read or changed.

use std::fmt;

use super::{ATTEMPTS, MAX_OBJECT_BYTES, ObjectName};
use crate::store::{CommitError, Unavailable};

/// Why an object cannot be read or changed. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// There is no such object.
    #[error("{name} not found")]
    NotFound {
        /// The object.
        name: ObjectName,
    },
    /// There is one of that name.
    #[error("{name} already exists: replace or apply it instead")]
    AlreadyExists {
        /// The object.
        name: ObjectName,
    },
    /// Somebody else has changed it.
    #[error("{name} cannot be changed: {why}")]
    Conflict {
        /// The object.
        name: ObjectName,
        /// What has changed, and what to do.
        why: String,
    },
    /// It is larger than [`MAX_OBJECT_BYTES`].
    #[error("{name} has {bytes} bytes, of at most {MAX_OBJECT_BYTES}: split it into several")]
    TooLarge {
        /// The object.
        name: ObjectName,
        /// Its size as JSON.
        bytes: usize,
    },
    /// The store refused the commit for a reason that no caller can mend.
    #[error("the store refused the commit")]
    Refused(#[source] CommitError),
    /// The store cannot be read or written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl ObjectError {
    /// Others kept on changing it.
    pub(super) fn busy(name: ObjectName) -> Self {
        let why = format!("others changed it {ATTEMPTS} times meanwhile: try again");
        Self::Conflict { name, why }
    }
}

impl From<CommitError> for ObjectError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unavailable(error) => Self::Unavailable(error),
            error => Self::Refused(error),
        }
    }
}

/// `httproutes.gateway.networking.k8s.io "api"`, as kubectl's users know it.
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.plural())?;
        if !self.kind.group().is_empty() {
            write!(f, ".{}", self.kind.group())?;
        }
        write!(f, " {:?} in namespace {:?}", self.name, self.namespace)
    }
}
