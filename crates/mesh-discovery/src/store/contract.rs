//! What every store promises, checked the same way for each of them.

use std::sync::Arc;

use proptest::prelude::*;

use super::memory::{HistoryLimit, Memory};
use super::redb::Redb;
use super::{ChangesError, CommitError, Conflict, Expect, SharedStore, Write};

fn memory() -> SharedStore {
    Arc::new(Memory::new())
}

/// A store whose directory is gone once its file is open.
fn redb() -> SharedStore {
    let directory = tempfile::tempdir().unwrap();
    Arc::new(Redb::open(directory.path(), None).unwrap())
}

/// Each promise, tried on every store.
macro_rules! promises {
    ($($promise:ident)*) => {
        $(mod $promise {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn of_memory() {
                super::$promise(super::memory()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn of_redb() {
                super::$promise(super::redb()).await;
            }
        })*
    };
}

promises! {
    a_commit_writes_all_of_its_records_under_one_revision
    c05_a_commit_with_one_failed_expectation_writes_nothing
    expectations_are_about_the_records_own_revision
    a_commit_that_changes_nothing_makes_no_revision
    one_key_cannot_be_written_twice_in_one_commit
    of_many_concurrent_writers_with_one_expectation_one_wins
    dropping_a_lease_removes_all_its_records_in_one_commit
    a_record_belongs_to_the_lease_of_its_last_write
    the_watch_tells_the_latest_revision
    c09_changes_are_told_in_order_and_without_a_gap
}

async fn keys(store: &SharedStore, prefix: &str) -> Vec<String> {
    let listing = store.list(prefix).await.unwrap();
    listing.records.into_iter().map(|r| r.key).collect()
}

async fn a_commit_writes_all_of_its_records_under_one_revision(store: SharedStore) {
    let before = *store.watch().borrow();
    let revision = store
        .commit(vec![Write::put("a/1", "x"), Write::put("b/1", "y")])
        .await
        .unwrap();
    assert_eq!(revision, before + 1);

    let listing = store.list("").await.unwrap();
    assert_eq!(listing.revision, revision);
    assert!(listing.records.iter().all(|r| r.revision == revision));
    assert_eq!(keys(&store, "").await, ["a/1", "b/1"]);
    assert_eq!(keys(&store, "b/").await, ["b/1"]);
    assert!(keys(&store, "c/").await.is_empty());
}

async fn c05_a_commit_with_one_failed_expectation_writes_nothing(store: SharedStore) {
    let revision = store.commit(vec![Write::put("b", "old")]).await.unwrap();
    let error = store
        .commit(vec![
            Write::put("a", "new"),
            Write::put("b", "new").expecting(Expect::Absent),
            Write::put("c", "new"),
        ])
        .await
        .unwrap_err();
    let CommitError::Conflict(conflict) = error else {
        panic!("{error}");
    };
    let expected = Conflict {
        key: "b".into(),
        found: Some(revision),
    };
    assert_eq!(conflict, expected);
    assert_eq!(keys(&store, "").await, ["b"]);
    assert_eq!(*store.watch().borrow(), revision);
}

async fn expectations_are_about_the_records_own_revision(store: SharedStore) {
    let first = store.commit(vec![Write::put("a", "1")]).await.unwrap();
    store.commit(vec![Write::put("b", "1")]).await.unwrap();

    let stale = Write::put("a", "2").expecting(Expect::Revision(first - 1));
    assert!(store.commit(vec![stale]).await.is_err());
    let fresh = Write::put("a", "2").expecting(Expect::Revision(first));
    let second = store.commit(vec![fresh.clone()]).await.unwrap();
    assert!(store.commit(vec![fresh]).await.is_err(), "used twice");

    let stale = Write::delete("a").expecting(Expect::Revision(first));
    assert!(store.commit(vec![stale]).await.is_err());
    let fresh = Write::delete("a").expecting(Expect::Revision(second));
    store.commit(vec![fresh]).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), None);
    let absent = Write::put("a", "3").expecting(Expect::Revision(second));
    assert!(store.commit(vec![absent]).await.is_err());
}

async fn a_commit_that_changes_nothing_makes_no_revision(store: SharedStore) {
    let before = *store.watch().borrow();
    assert_eq!(store.commit(Vec::new()).await.unwrap(), before);
    let delete = vec![Write::delete("absent")];
    assert_eq!(store.commit(delete).await.unwrap(), before);
}

async fn one_key_cannot_be_written_twice_in_one_commit(store: SharedStore) {
    let writes = vec![Write::put("a", "1"), Write::delete("a")];
    let error = store.commit(writes).await.unwrap_err();
    assert!(matches!(error, CommitError::DuplicateKey { .. }), "{error}");
}

async fn of_many_concurrent_writers_with_one_expectation_one_wins(store: SharedStore) {
    let revision = store.commit(vec![Write::put("a", "0")]).await.unwrap();
    let writers = (0..50).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let write = Write::put("a", n.to_string()).expecting(Expect::Revision(revision));
            store.commit(vec![write]).await.is_ok()
        })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        won += u32::from(writer.await.unwrap());
    }
    assert_eq!(won, 1);
}

async fn dropping_a_lease_removes_all_its_records_in_one_commit(store: SharedStore) {
    let lease = store.grant_lease().await.unwrap();
    let other = store.grant_lease().await.unwrap();
    let writes = vec![
        Write::put("a", "1").leased(lease),
        Write::put("b", "1").leased(lease),
        Write::put("c", "1").leased(other),
        Write::put("d", "1"),
    ];
    let revision = store.commit(writes).await.unwrap();
    assert_eq!(store.drop_lease(lease).await.unwrap(), revision + 1);
    assert_eq!(keys(&store, "").await, ["c", "d"]);
    let changes = store.changes_since(revision).await.unwrap().changes;
    let gone: Vec<_> = changes.iter().map(|c| (&*c.key, &c.value)).collect();
    assert_eq!(gone, [("a", &None), ("b", &None)]);

    assert_eq!(store.drop_lease(lease).await.unwrap(), revision + 1);
    let late = vec![Write::put("a", "2").leased(lease)];
    let error = store.commit(late).await.unwrap_err();
    assert!(matches!(error, CommitError::UnknownLease { .. }), "{error}");
}

async fn a_record_belongs_to_the_lease_of_its_last_write(store: SharedStore) {
    let first = store.grant_lease().await.unwrap();
    let second = store.grant_lease().await.unwrap();
    for write in [
        Write::put("moved", "1").leased(first),
        Write::put("moved", "2").leased(second),
        Write::put("kept", "1").leased(first),
        Write::put("kept", "2"),
    ] {
        store.commit(vec![write]).await.unwrap();
    }
    store.drop_lease(first).await.unwrap();
    assert_eq!(keys(&store, "").await, ["kept", "moved"]);
    store.drop_lease(second).await.unwrap();
    assert_eq!(keys(&store, "").await, ["kept"]);
}

async fn the_watch_tells_the_latest_revision(store: SharedStore) {
    let mut watch = store.watch();
    store.commit(vec![Write::put("a", "1")]).await.unwrap();
    let latest = store.commit(vec![Write::put("a", "2")]).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow_and_update(), latest);
    assert!(!watch.has_changed().unwrap());
    store.commit(vec![Write::delete("absent")]).await.unwrap();
    assert!(!watch.has_changed().unwrap(), "nothing has changed");
}

async fn c09_changes_are_told_in_order_and_without_a_gap(store: SharedStore) {
    let start = *store.watch().borrow();
    let both = vec![Write::put("a", "1"), Write::put("b", "1")];
    let first = store.commit(both).await.unwrap();
    let second = store.commit(vec![Write::delete("a")]).await.unwrap();

    let told = store.changes_since(start).await.unwrap();
    assert_eq!(told.revision, second);
    let told: Vec<_> = told
        .changes
        .iter()
        .map(|c| (&*c.key, c.value.is_some(), c.revision))
        .collect();
    let expected = [("a", true, first), ("b", true, first), ("a", false, second)];
    assert_eq!(told, expected);
    let rest = store.changes_since(first).await.unwrap().changes;
    assert_eq!(rest.len(), 1);
    assert!(
        store
            .changes_since(second)
            .await
            .unwrap()
            .changes
            .is_empty()
    );
    let error = store.changes_since(second + 1).await.unwrap_err();
    assert!(matches!(error, ChangesError::Ahead { .. }), "{error}");
}

#[tokio::test]
async fn c09_forgotten_changes_are_said_to_be_compacted() {
    let limits = [
        HistoryLimit {
            changes: 3,
            ..HistoryLimit::default()
        },
        HistoryLimit {
            bytes: 3 * 11,
            ..HistoryLimit::default()
        },
    ];
    for limit in limits {
        let store = Memory::with_history(limit);
        let store: SharedStore = Arc::new(store);
        let start = *store.watch().borrow();
        let two = |n: u32| {
            vec![
                Write::put("a", format!("{n:010}")),
                Write::put("b", format!("{n:010}")),
            ]
        };
        store.commit(two(1)).await.unwrap();
        let first = *store.watch().borrow();
        store.commit(two(2)).await.unwrap();

        let error = store.changes_since(start).await.unwrap_err();
        let ChangesError::Compacted { oldest, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(oldest, first, "whole commits are forgotten");
        assert_eq!(store.changes_since(first).await.unwrap().changes.len(), 2);
    }
}

#[tokio::test]
async fn every_store_has_a_name_of_its_own() {
    assert_ne!(memory().id(), memory().id());
    assert_ne!(redb().id(), redb().id());
}

proptest! {
    /// Replaying the changes onto a copy gives what the store holds.
    #[test]
    fn c09_a_reader_that_follows_the_changes_holds_what_the_store_holds(
        commits in proptest::collection::vec(
            proptest::collection::btree_map("[a-e]", proptest::option::of("[x-z]"), 0..4), 0..20),
        from in 0_usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = memory();
            let mut copy = std::collections::BTreeMap::new();
            let mut revision = *store.watch().borrow();
            for (n, commit) in commits.into_iter().enumerate() {
                let write = |(key, value): (String, Option<String>)| match value {
                    Some(value) => Write::put(key, value),
                    None => Write::delete(key),
                };
                store.commit(commit.into_iter().map(write).collect()).await.unwrap();
                if n == from {
                    let listing = store.list("").await.unwrap();
                    copy = listing.records.into_iter().map(|r| (r.key, r.value)).collect();
                    revision = listing.revision;
                }
            }
            let told = store.changes_since(revision).await.unwrap();
            for change in told.changes {
                prop_assert!(change.revision > revision);
                match change.value {
                    Some(value) => copy.insert(change.key, value),
                    None => copy.remove(&change.key),
                };
            }
            let listing = store.list("").await.unwrap();
            prop_assert_eq!(told.revision, listing.revision);
            let held: std::collections::BTreeMap<_, _> =
                listing.records.into_iter().map(|r| (r.key, r.value)).collect();
            prop_assert_eq!(copy, held);
            Ok(())
        })?;
    }
}
