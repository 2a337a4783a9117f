//! What worlds are made of, read from the store record by record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::{Manifest, parse_json};
use mesh_policy::name::{ServiceName, ServicePort};
use mesh_policy::plan::watch::Cursor;

use crate::compile::{DEFAULT_PORT, Registered, Sources, World};
use crate::registry;
use crate::store::{ChangesError, CommitError, OBJECTS, SharedStore, Unavailable, Write};

/// What worlds are made of, as far as it is read from the store.
#[derive(Debug)]
pub(crate) struct Reader {
    store: SharedStore,
    domain: TrustDomain,
    revision: u64,
    /// A change could not be read: what replaced it is found by reading everything.
    damaged: bool,
    objects: BTreeMap<String, Arc<Manifest>>,
    registrations: BTreeMap<String, Registered>,
    served: BTreeMap<ServiceName, BTreeSet<u16>>,
    /// Services whose object was deleted: having been served once does not keep them.
    deleted: BTreeSet<ServiceName>,
}

impl Reader {
    /// Reads everything.
    pub(crate) async fn open(store: SharedStore, domain: TrustDomain) -> Result<Self, Unreadable> {
        let mut reader = Self {
            store,
            domain,
            revision: 0,
            damaged: false,
            objects: BTreeMap::new(),
            registrations: BTreeMap::new(),
            served: BTreeMap::new(),
            deleted: BTreeSet::new(),
        };
        reader.reload().await?;
        Ok(reader)
    }

    /// Up to where it has read.
    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    /// How many endpoints are registered.
    pub(super) fn endpoints(&self) -> usize {
        self.registrations.len()
    }

    /// What it reads from.
    pub(crate) fn store(&self) -> SharedStore {
        Arc::clone(&self.store)
    }

    async fn reload(&mut self) -> Result<(), Unreadable> {
        let listing = self.store.list("").await?;
        self.objects.clear();
        self.registrations.clear();
        self.served.clear();
        for record in listing.records {
            self.put(&record.key, Some(&record.value), record.revision)?;
        }
        self.revision = listing.revision;
        self.damaged = false;
        Ok(())
    }

    /// Reads what has changed; whether any of it matters to a world.
    pub(super) async fn refresh(&mut self) -> Result<bool, Unreadable> {
        if self.damaged {
            self.reload().await?;
            return Ok(true);
        }
        let changes = match self.store.changes_since(self.revision).await {
            Ok(changes) => changes,
            Err(ChangesError::Unavailable(error)) => return Err(error.into()),
            Err(ChangesError::Compacted { .. } | ChangesError::Ahead { .. }) => {
                self.reload().await?;
                return Ok(true);
            }
        };
        let mut matters = false;
        for change in &changes.changes {
            // If it fails, the world stays as it is: half of a policy is none.
            self.damaged = true;
            matters |= self.put(&change.key, change.value.as_deref(), change.revision)?;
            self.damaged = false;
        }
        self.revision = changes.revision;
        Ok(matters)
    }

    /// Takes one record, or its absence; whether it matters to a world.
    fn put(&mut self, key: &str, value: Option<&[u8]>, revision: u64) -> Result<bool, Unreadable> {
        let damaged = |why: &dyn std::fmt::Display| Unreadable::Damaged {
            key: key.to_owned(),
            revision,
            why: why.to_string(),
        };
        if key.starts_with(OBJECTS) {
            match value {
                None => {
                    self.objects.remove(key);
                    self.deleted.extend(registry::service_of_object(key));
                }
                Some(bytes) => {
                    let json = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
                    let manifest = parse_json(&json).map_err(|error| damaged(&error))?;
                    self.objects.insert(key.to_owned(), Arc::new(manifest));
                }
            }
        } else if key.starts_with(registry::ENDPOINTS) {
            match value {
                None => drop(self.registrations.remove(key)),
                Some(bytes) => {
                    let found = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
                    self.registrations.insert(key.to_owned(), found);
                }
            }
        } else if let Some(service) = registry::service_of(key) {
            match value {
                None => drop(self.served.remove(&service)),
                Some(bytes) => {
                    let ports = serde_json::from_slice(bytes).map_err(|error| damaged(&error))?;
                    self.served.insert(service, ports);
                }
            }
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The world as it was read.
    pub(crate) fn world(&self) -> World {
        let served = self.served.iter().flat_map(|(service, ports)| {
            ports.iter().map(|port| ServicePort {
                service: service.clone(),
                port: *port,
            })
        });
        let live = self.registrations.values().map(|registered| {
            let serves = &registered.registration.serves;
            ServicePort {
                service: serves.service.clone(),
                port: serves.port.unwrap_or(DEFAULT_PORT),
            }
        });
        World::new(Sources {
            cursor: Cursor {
                store: self.store.id().to_owned(),
                revision: self.revision,
            },
            domain: self.domain.clone(),
            objects: self.objects.values().cloned().collect(),
            registrations: self.registrations.values().cloned().collect(),
            served: served.chain(live).collect(),
        })
    }

    /// Lets go of services that were deleted, so that they are unknown once nobody serves them.
    pub(super) async fn forget_deleted(&mut self) -> Result<(), Unreadable> {
        let deleted = std::mem::take(&mut self.deleted);
        let known = deleted
            .iter()
            .filter(|service| self.served.contains_key(service));
        let writes = known.map(|service| Write::delete(registry::service_key(service)));
        match self.store.commit(writes.collect()).await {
            Err(CommitError::Unavailable(error)) => {
                self.deleted = deleted;
                Err(error.into())
            }
            // Deletions without expectations are not refused for any other reason.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// The store holds what cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// A record is not of its form.
    #[error("the record {key:?} of revision {revision} is damaged ({why}): replace or delete it")]
    Damaged {
        /// Its key.
        key: String,
        /// When it was written.
        revision: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{memory::Memory, object_key};

    #[tokio::test]
    async fn only_what_matters_makes_a_world() {
        let store: SharedStore = Arc::new(Memory::new());
        let domain: TrustDomain = "mesh.local".parse().unwrap();
        let mut reader = Reader::open(store.clone(), domain).await.unwrap();
        let api: ServiceName = "api.shop".parse().unwrap();
        assert_eq!(reader.world().service_plan(&api, "shop"), None);

        let write = Write::put("tokens/x", "{}");
        store.commit(vec![write]).await.unwrap();
        assert!(!reader.refresh().await.unwrap());

        let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"api","namespace":"shop"},"spec":{"ports":[{"port":80}]}}"#;
        let key = object_key("", "services", "shop", "api");
        store
            .commit(vec![Write::put(&*key, service)])
            .await
            .unwrap();
        assert!(reader.refresh().await.unwrap());
        assert!(reader.world().service_plan(&api, "shop").is_some());

        store.commit(vec![Write::delete(key)]).await.unwrap();
        assert!(reader.refresh().await.unwrap());
        assert_eq!(reader.world().service_plan(&api, "shop"), None);
    }

    #[tokio::test]
    async fn a_service_that_is_deleted_is_unknown_once_nobody_serves_it() {
        let store: SharedStore = Arc::new(Memory::new());
        let api: ServiceName = "api.shop".parse().unwrap();
        let object = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"api","namespace":"shop"},"spec":{"ports":[{"port":80}]}}"#;
        let key = object_key("", "services", "shop", "api");
        let writes = vec![
            Write::put(&*key, object),
            Write::put(registry::service_key(&api), "[80]"),
        ];
        store.commit(writes).await.unwrap();
        let domain: TrustDomain = "mesh.local".parse().unwrap();
        let mut reader = Reader::open(store.clone(), domain).await.unwrap();
        store.commit(vec![Write::delete(key)]).await.unwrap();
        assert!(reader.refresh().await.unwrap());
        assert!(reader.world().service_plan(&api, "shop").is_some());
        reader.forget_deleted().await.unwrap();
        assert!(reader.refresh().await.unwrap());
        assert_eq!(reader.world().service_plan(&api, "shop"), None);
    }

    #[tokio::test]
    async fn a_damaged_record_is_never_passed_over() {
        let store: SharedStore = Arc::new(Memory::new());
        let key = object_key("policy.linkerd.io", "servers", "shop", "api");
        store.commit(vec![Write::put(key, "{")]).await.unwrap();
        let opened = Reader::open(store, "mesh.local".parse().unwrap()).await;
        assert!(matches!(opened, Err(Unreadable::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_damaged_record_that_was_replaced_is_forgotten() {
        let store: SharedStore = Arc::new(Memory::new());
        let domain: TrustDomain = "mesh.local".parse().unwrap();
        let mut reader = Reader::open(store.clone(), domain).await.unwrap();
        let key = object_key("", "services", "shop", "api");
        store.commit(vec![Write::put(&*key, "{")]).await.unwrap();
        assert!(reader.refresh().await.is_err());
        assert!(reader.refresh().await.is_err(), "it is still there");
        store.commit(vec![Write::delete(key)]).await.unwrap();
        assert!(reader.refresh().await.is_ok());
    }
}
