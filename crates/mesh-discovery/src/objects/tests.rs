//! What happens when somebody else writes between our reading and our writing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use mesh_policy::manifest;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::store::memory::Memory;
use crate::store::{Changes, ChangesError, LeaseId, Listing, Record, Store, Unavailable};
use crate::wire::Action;

/// A store in which another writer gets ahead of the next few commits.
#[derive(Debug)]
struct Contested {
    memory: Memory,
    ahead: AtomicU32,
}

impl Contested {
    async fn get_ahead(&self, writes: &[Write]) {
        let left = |n: u32| n.checked_sub(1);
        let first = self
            .ahead
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
        if let (Ok(n), Some(write)) = (first, writes.first()) {
            let mut other = service(9000).raw;
            other["metadata"]["uid"] = json!("other");
            other["metadata"]["generation"] = json!(100 + n);
            let other = Write::put(write.key.clone(), other.to_string());
            self.memory.commit(vec![other]).await.unwrap();
        }
    }
}

impl Store for Contested {
    fn id(&self) -> &str {
        self.memory.id()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, Unavailable>> {
        self.memory.get(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, Unavailable>> {
        self.memory.list(prefix)
    }

    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<u64, CommitError>> {
        Box::pin(async move {
            self.get_ahead(&writes).await;
            self.memory.commit(writes).await
        })
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.memory.watch()
    }

    fn changes_since(&self, revision: u64) -> BoxFuture<'_, Result<Changes, ChangesError>> {
        self.memory.changes_since(revision)
    }

    fn grant_lease(&self) -> BoxFuture<'_, Result<LeaseId, Unavailable>> {
        self.memory.grant_lease()
    }

    fn drop_lease(&self, lease: LeaseId) -> BoxFuture<'_, Result<u64, Unavailable>> {
        self.memory.drop_lease(lease)
    }
}

fn service(port: u32) -> Manifest {
    let object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {"ports": [{"port": port}]},
    });
    manifest::parse_json(&object).unwrap()
}

/// Objects with `api.shop` on port 80, and a writer who then gets ahead so often.
async fn contested(times: u32) -> (Objects, Stored) {
    let store = Contested {
        memory: Memory::new(),
        ahead: AtomicU32::new(0),
    };
    let store = Arc::new(store);
    let objects = Objects::new(Arc::clone(&store) as _, "mesh.local".parse().unwrap());
    let stored = objects.create(&service(80), Mode::Write).await.unwrap();
    store.ahead.store(times, Ordering::Relaxed);
    (objects, stored)
}

#[tokio::test]
async fn c08_a_replacement_builds_on_what_it_found_last() {
    let (objects, _) = contested(3).await;
    let stored = objects.replace(&service(81), Mode::Write).await.unwrap();
    // The last of the three others wrote generation 101.
    assert_eq!(stored.json()["metadata"]["generation"], 102);
    assert_eq!(stored.uid(), "other");
}

#[tokio::test]
async fn c08_a_replacement_of_what_it_has_seen_does_not_touch_anything_else() {
    let (objects, seen) = contested(1).await;
    let mut manifest = service(81);
    manifest.raw["metadata"]["resourceVersion"] = json!(seen.revision().to_string());
    let error = objects.replace(&manifest, Mode::Write).await.unwrap_err();
    assert!(matches!(error, ObjectError::Conflict { .. }), "{error}");
    let stored = objects.get(&ObjectName::of(&manifest)).await.unwrap();
    assert_eq!(stored.json()["spec"]["ports"][0]["port"], 9000);
}

#[tokio::test]
async fn c08_a_deletion_of_what_it_has_seen_does_not_touch_anything_else() {
    let (objects, seen) = contested(1).await;
    let name = ObjectName::of(&service(80));
    let precondition = Precondition {
        uid: Some(seen.uid().to_owned()),
        resource_version: None,
    };
    let deleted = objects.delete(&name, &precondition, Mode::Write).await;
    let error = deleted.unwrap_err();
    assert!(matches!(error, ObjectError::Conflict { .. }), "{error}");
    assert!(objects.get(&name).await.is_ok());

    let (objects, _) = contested(3).await;
    let any = Precondition::default();
    let deleted = objects.delete(&name, &any, Mode::Write).await.unwrap();
    assert_eq!(deleted.0.uid(), "other");
}

#[tokio::test]
async fn an_apply_is_decided_anew_when_others_get_ahead() {
    let (objects, _) = contested(3).await;
    let applied = objects.apply(&[service(81)], Mode::Write).await.unwrap();
    assert_eq!(applied.results[0].action, Action::Configured);
    let stored = objects.get(&ObjectName::of(&service(81))).await.unwrap();
    assert_eq!(stored.json()["metadata"]["generation"], 102);
}

#[tokio::test]
async fn c08_an_apply_of_what_it_has_seen_does_not_touch_anything_else() {
    let (objects, seen) = contested(1).await;
    let mut manifest = service(81);
    manifest.raw["metadata"]["resourceVersion"] = json!(seen.revision().to_string());
    let applied = objects.apply(std::slice::from_ref(&manifest), Mode::Write);
    let error = applied.await.unwrap_err();
    assert!(matches!(error, ObjectError::Conflict { .. }), "{error}");
    let stored = objects.get(&ObjectName::of(&manifest)).await.unwrap();
    assert_eq!(stored.json()["spec"]["ports"][0]["port"], 9000);
}

#[tokio::test]
async fn who_never_gets_a_turn_is_told_so() {
    let name = ObjectName::of(&service(80));
    let (objects, _) = contested(ATTEMPTS).await;
    let applied = objects.apply(&[service(81)], Mode::Write).await;
    let (other, _) = contested(ATTEMPTS).await;
    let replaced = other.replace(&service(81), Mode::Write).await;
    for error in [applied.unwrap_err(), replaced.unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("try again"), "{text}");
        assert!(text.contains(&name.to_string()), "{text}");
    }
}
