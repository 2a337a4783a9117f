//! What worlds are made of, read from the store record by record.
//!
//! Admission is strict, storage is not: a record that this version cannot read is kept, shown and
//! counted, and closes what it governs ([`crate::compile::UnreadableObject`]). The rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::Manifest;
use mesh_policy::name::{ServiceName, ServicePort};
use mesh_policy::plan::watch::Cursor;

use crate::compile::{DEFAULT_PORT, Registered, Sources, UnreadableObject, World};
use crate::objects;
use crate::records;
use crate::registry;
use crate::store::{ChangesError, OBJECTS, SharedStore, Unavailable};

/// What worlds are made of, as far as it is read from the store.
#[derive(Debug)]
pub(crate) struct Reader {
    store: SharedStore,
    domain: TrustDomain,
    revision: u64,
    objects: BTreeMap<String, Arc<Manifest>>,
    registrations: BTreeMap<String, Registered>,
    served: BTreeMap<ServiceName, BTreeSet<u16>>,
    unreadable: BTreeMap<String, Option<Arc<UnreadableObject>>>,
}

impl Reader {
    /// Reads everything.
    pub(crate) async fn open(store: SharedStore, domain: TrustDomain) -> Result<Self, Unavailable> {
        let mut reader = Self {
            store,
            domain,
            revision: 0,
            objects: BTreeMap::new(),
            registrations: BTreeMap::new(),
            served: BTreeMap::new(),
            unreadable: BTreeMap::new(),
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

    /// How many records cannot be read.
    pub(super) fn unreadable(&self) -> usize {
        self.unreadable.len()
    }

    /// What it reads from.
    pub(crate) fn store(&self) -> SharedStore {
        Arc::clone(&self.store)
    }

    async fn reload(&mut self) -> Result<(), Unavailable> {
        let listing = self.store.list("").await?;
        self.objects.clear();
        self.registrations.clear();
        self.served.clear();
        self.unreadable.clear();
        for record in listing.records {
            self.put(&record.key, Some(&record.value));
        }
        self.revision = listing.revision;
        Ok(())
    }

    /// Reads what has changed; whether any of it matters to a world.
    pub(super) async fn refresh(&mut self) -> Result<bool, Unavailable> {
        let changes = match self.store.changes_since(self.revision).await {
            Ok(changes) => changes,
            Err(ChangesError::Unavailable(error)) => return Err(error),
            Err(ChangesError::Compacted { .. } | ChangesError::Ahead { .. }) => {
                self.reload().await?;
                return Ok(true);
            }
        };
        let mut matters = false;
        for change in &changes.changes {
            matters |= self.put(&change.key, change.value.as_deref());
        }
        self.revision = changes.revision;
        Ok(matters)
    }

    /// Takes one record, or its absence; whether it matters to a world.
    fn put(&mut self, key: &str, value: Option<&[u8]>) -> bool {
        let was_unreadable = self.unreadable.remove(key).is_some();
        if let Some(path) = key.strip_prefix(OBJECTS) {
            self.put_object(key, path, value);
        } else if key.starts_with(registry::ENDPOINTS) {
            self.registrations.remove(key);
            if let Some(found) = self.read(key, value) {
                self.registrations.insert(key.to_owned(), found);
            }
        } else if let Some(service) = registry::service_of(key) {
            self.served.remove(&service);
            if let Some(ports) = self.read(key, value) {
                self.served.insert(service, ports);
            }
        } else {
            // No world is made of it; that it cannot be read is counted all the same.
            let checked = value.map(|bytes| records::check(key, bytes));
            if let Some(Err(why)) = checked {
                self.miss(key, &why, None);
                return true;
            }
            return was_unreadable;
        }
        true
    }

    fn put_object(&mut self, key: &str, path: &str, value: Option<&[u8]>) {
        self.objects.remove(key);
        match value.map(|bytes| objects::read(key, bytes)) {
            None => {}
            Some(Ok(manifest)) => {
                self.objects.insert(key.to_owned(), Arc::new(manifest));
            }
            Some(Err(error)) => {
                let json = value.and_then(|bytes| serde_json::from_slice(bytes).ok());
                let object = UnreadableObject::at(path, json).map(Arc::new);
                self.miss(key, &error, object);
            }
        }
    }

    fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        key: &str,
        value: Option<&[u8]>,
    ) -> Option<T> {
        match serde_json::from_slice(value?) {
            Ok(found) => Some(found),
            Err(error) => {
                self.miss(key, &error, None);
                None
            }
        }
    }

    fn miss(
        &mut self,
        key: &str,
        why: &dyn std::fmt::Display,
        object: Option<Arc<UnreadableObject>>,
    ) {
        tracing::error!(
            key,
            %why,
            "a stored record cannot be read by this version: what it governs is closed; update discovery, or replace or delete the record"
        );
        self.unreadable.insert(key.to_owned(), object);
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
        let world = World::new(Sources {
            cursor: Cursor {
                store: self.store.id().to_owned(),
                revision: self.revision,
            },
            domain: self.domain.clone(),
            objects: self.objects.values().cloned().collect(),
            registrations: self.registrations.values().cloned().collect(),
            served: served.chain(live).collect(),
        });
        world.with_unreadable(self.unreadable.values().flatten().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Write, memory::Memory, object_key};

    #[tokio::test]
    async fn only_what_matters_makes_a_world() {
        let store: SharedStore = Arc::new(Memory::new());
        let domain: TrustDomain = "mesh.local".parse().unwrap();
        let mut reader = Reader::open(store.clone(), domain).await.unwrap();
        let api: ServiceName = "api.shop".parse().unwrap();
        assert_eq!(reader.world().service_plan(&api, "shop"), None);

        let write = Write::put(
            "issued/x",
            r#"{"at":1,"response":{"identity":"spiffe://mesh.local/ns/a/sa/b","chain":[],"anchors":[],"not_after":1,"now":1}}"#,
        );
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

    /// Everything there is, of which one record is a later version's or damaged.
    async fn with_record(key: &str, value: &'static str) -> (SharedStore, Reader) {
        let store: SharedStore = Arc::new(Memory::new());
        let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"api","namespace":"shop"},"spec":{"ports":[{"port":80}]}}"#;
        let writes = vec![
            Write::put(object_key("", "services", "shop", "api"), service),
            Write::put(key, value),
        ];
        store.commit(writes).await.unwrap();
        let domain = "mesh.local".parse().unwrap();
        let reader = Reader::open(store.clone(), domain).await.unwrap();
        (store, reader)
    }

    const UNREADABLE: [(&str, &str); 8] = [
        (
            "objects/gateway.networking.k8s.io/grpcroutes/shop/x",
            r#"{"apiVersion":"gateway.networking.k8s.io/v1","kind":"GRPCRoute","metadata":{"name":"x","namespace":"shop"},"spec":{}}"#,
        ),
        ("objects/policy.linkerd.io/servers/bank/x", "{"),
        (
            "objects//services/shop/other",
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"api","namespace":"shop"},"spec":{"ports":[{"port":80}]}}"#,
        ),
        (
            "objects//services/shop/y",
            r#"{"apiVersion":"v1","kind":"Service","metadata":7}"#,
        ),
        ("objects/strange", "7"),
        ("endpoints/shop/api/1", r#"{"id":"shop/api/1"}"#),
        ("endpoints/", "{}"),
        ("services/shop/web", r#"{"ports":[80]}"#),
    ];

    #[tokio::test]
    async fn c18_a_record_that_cannot_be_read_hides_no_other_and_can_be_removed() {
        let api: ServiceName = "api.shop".parse().unwrap();
        for (key, value) in UNREADABLE {
            let (store, mut reader) = with_record(key, value).await;
            assert_eq!(reader.unreadable(), 1, "{key}");
            assert!(reader.world().service_plan(&api, "bank").is_some(), "{key}");

            // What comes after it is read as ever.
            let write = Write::put("services/bank/new", "[80]");
            store.commit(vec![write]).await.unwrap();
            assert!(reader.refresh().await.unwrap());
            let new: ServiceName = "new.bank".parse().unwrap();
            assert!(reader.world().service_plan(&new, "bank").is_some(), "{key}");

            store.commit(vec![Write::delete(key)]).await.unwrap();
            assert!(reader.refresh().await.unwrap(), "{key}");
            assert_eq!(reader.unreadable(), 0, "{key}");
        }
    }

    #[tokio::test]
    async fn c18_a_record_that_becomes_unreadable_is_no_longer_in_force() {
        let (store, mut reader) = with_record("services/shop/web", "[80]").await;
        let web: ServiceName = "web.shop".parse().unwrap();
        assert!(reader.world().service_plan(&web, "shop").is_some());
        let write = Write::put("services/shop/web", "{}");
        store.commit(vec![write]).await.unwrap();
        assert!(reader.refresh().await.unwrap());
        assert_eq!(reader.world().service_plan(&web, "shop"), None);
        assert_eq!(reader.unreadable(), 1);
    }
}
