//! What people wrote, as objects over records: the meaning of create, replace, delete, apply.
//!
//! An object is stored as it was written, with the few fields of its metadata
//! that the server owns. Every change is a compare-and-put on the object's own
//! record, so that nobody overwrites what they have not seen.

mod apply;
mod error;
mod metadata;
mod stored;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::{Kind, Manifest};
use serde_json::Value;

pub use self::apply::ApplyError;
pub use self::error::ObjectError;
use self::metadata::Birth;
pub(crate) use self::metadata::rfc3339;
pub use self::stored::{Stored, StoredList};
pub(crate) use self::stored::{Unreadable, read};
use crate::registry;
use crate::store::{CommitError, Expect, OBJECTS, SharedStore, Write, object_key};

/// The largest object, in bytes of JSON, as etcd and Kubernetes bound it.
pub const MAX_OBJECT_BYTES: usize = 1024 * 1024;
/// The largest set of objects that is applied at once, in bytes.
pub const MAX_APPLY_BYTES: usize = 8 * 1024 * 1024;
/// How often a change that carries no expectation of its own is tried while others
/// change the same objects. Each failure means that somebody else got on.
const ATTEMPTS: u32 = 16;

/// Names one object, whichever version it is spelled in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// What `manifest` calls itself.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            kind: manifest.meta.kind,
            namespace: manifest.meta.namespace.to_string(),
            name: manifest.meta.name.clone(),
        }
    }

    /// The key of its record.
    #[must_use]
    pub fn key(&self) -> String {
        let kind = self.kind;
        object_key(kind.group(), kind.plural(), &self.namespace, &self.name)
    }
}

/// Whether a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is checked and made.
    Write,
    /// It is checked alone.
    DryRun,
}

/// What must be true of an object for it to be changed; what is absent is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// It is this very object, not a later one of its name.
    pub uid: Option<String>,
    /// Nobody has changed it since this resource version.
    pub resource_version: Option<String>,
}

impl Precondition {
    /// What the metadata of a written object asks.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let text = |field: &str| {
            let text = manifest.raw["metadata"][field].as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        Self {
            uid: text("uid"),
            resource_version: text("resourceVersion"),
        }
    }

    fn check(&self, name: &ObjectName, stored: &Stored) -> Result<(), ObjectError> {
        let conflict = |what: &str, asked: &str, found: &str| ObjectError::Conflict {
            name: name.clone(),
            why: format!(
                "its {what} is {found:?}, not {asked:?}: read it again and redo the change"
            ),
        };
        if let Some(asked) = &self.uid
            && asked != stored.uid()
        {
            return Err(conflict("uid", asked, stored.uid()));
        }
        let found = stored.revision.to_string();
        match &self.resource_version {
            Some(asked) if *asked != found => Err(conflict("resourceVersion", asked, &found)),
            _ => Ok(()),
        }
    }
}

/// All objects of one store.
#[derive(Clone, Debug)]
pub struct Objects {
    store: SharedStore,
    domain: TrustDomain,
}

impl Objects {
    /// The objects in `store`, whose identities are those of `domain`.
    #[must_use]
    pub const fn new(store: SharedStore, domain: TrustDomain) -> Self {
        Self { store, domain }
    }

    /// The trust domain that written identities must be of.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// All objects of a kind, in one namespace or in all.
    ///
    /// # Errors
    ///
    /// [`ObjectError::Unavailable`].
    pub async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
    ) -> Result<StoredList, ObjectError> {
        let mut prefix = format!("{OBJECTS}{}/{}/", kind.group(), kind.plural());
        if let Some(namespace) = namespace {
            prefix.push_str(namespace);
            prefix.push('/');
        }
        let listing = self.store.list(&prefix).await?;
        Ok(StoredList {
            revision: listing.revision,
            items: listing.records.iter().map(Stored::from_record).collect(),
        })
    }

    /// One object.
    ///
    /// # Errors
    ///
    /// [`ObjectError::NotFound`], [`ObjectError::Unavailable`].
    pub async fn get(&self, name: &ObjectName) -> Result<Stored, ObjectError> {
        self.find(name)
            .await?
            .ok_or_else(|| ObjectError::NotFound { name: name.clone() })
    }

    async fn find(&self, name: &ObjectName) -> Result<Option<Stored>, ObjectError> {
        let record = self.store.get(&name.key()).await?;
        Ok(record.as_ref().map(Stored::from_record))
    }

    /// Stores a new object.
    ///
    /// # Errors
    ///
    /// [`ObjectError::AlreadyExists`], [`ObjectError::TooLarge`], [`ObjectError::Unavailable`].
    pub async fn create(&self, manifest: &Manifest, mode: Mode) -> Result<Stored, ObjectError> {
        let name = ObjectName::of(manifest);
        let json = metadata::created(&manifest.raw, &manifest.meta, &Birth::now());
        let write = put(&name, &json)?.expecting(Expect::Absent);
        if mode == Mode::DryRun {
            return match self.find(&name).await? {
                None => Ok(Stored { json, revision: 0 }),
                Some(_) => Err(ObjectError::AlreadyExists { name }),
            };
        }
        match self.store.commit_for_admin(vec![write]).await {
            Ok(revision) => Ok(Stored { json, revision }),
            Err(CommitError::Conflict(_)) => Err(ObjectError::AlreadyExists { name }),
            Err(error) => Err(error.into()),
        }
    }

    /// Stores another content for an object that exists.
    ///
    /// Where the written object carries a `resourceVersion` or `uid`, the stored one must have it.
    ///
    /// # Errors
    ///
    /// [`ObjectError::NotFound`], [`ObjectError::Conflict`], [`ObjectError::TooLarge`],
    /// [`ObjectError::Unavailable`].
    pub async fn replace(&self, manifest: &Manifest, mode: Mode) -> Result<Stored, ObjectError> {
        let name = ObjectName::of(manifest);
        let precondition = Precondition::of(manifest);
        for _ in 0..ATTEMPTS {
            let stored = self.get(&name).await?;
            precondition.check(&name, &stored)?;
            let Some(json) = metadata::revised(&stored.json, &manifest.raw, &manifest.meta) else {
                return Ok(stored);
            };
            let write = put(&name, &json)?.expecting(Expect::Revision(stored.revision));
            if mode == Mode::DryRun {
                let revision = stored.revision;
                return Ok(Stored { json, revision });
            }
            match self.store.commit_for_admin(vec![write]).await {
                Ok(revision) => return Ok(Stored { json, revision }),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ObjectError::busy(name))
    }

    /// Removes an object and returns what it was, and the revision that removed it.
    ///
    /// A Service is forgotten by the same commit: having been served once does not keep it.
    ///
    /// # Errors
    ///
    /// [`ObjectError::NotFound`], [`ObjectError::Conflict`], [`ObjectError::Unavailable`].
    pub async fn delete(
        &self,
        name: &ObjectName,
        precondition: &Precondition,
        mode: Mode,
    ) -> Result<(Stored, u64), ObjectError> {
        for _ in 0..ATTEMPTS {
            let stored = self.get(name).await?;
            precondition.check(name, &stored)?;
            if mode == Mode::DryRun {
                let revision = stored.revision;
                return Ok((stored, revision));
            }
            let writes = deletion(&name.key(), stored.revision);
            match self.store.commit_for_admin(writes).await {
                Ok(revision) => return Ok((stored, revision)),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ObjectError::busy(name.clone()))
    }
}

/// The writes that remove the record under `key`, which was last written at `revision`. With a
/// Service goes what is remembered of who once served it.
pub(crate) fn deletion(key: &str, revision: u64) -> Vec<Write> {
    let service = registry::service_of_object(key);
    let served = service.map(|service| Write::delete(registry::service_key(&service)));
    let own = Write::delete(key).expecting(Expect::Revision(revision));
    [own].into_iter().chain(served).collect()
}

/// The write that stores `json` as `name`.
fn put(name: &ObjectName, json: &Value) -> Result<Write, ObjectError> {
    let value = json.to_string();
    if value.len() > MAX_OBJECT_BYTES {
        return Err(ObjectError::TooLarge {
            name: name.clone(),
            bytes: value.len(),
        });
    }
    Ok(Write::put(name.key(), Bytes::from(value)))
}
