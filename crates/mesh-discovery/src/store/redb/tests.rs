//! What a file adds to the contract: it survives, and it is never half-trusted.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::store::SharedStore;

fn open(directory: &TempDir) -> SharedStore {
    Arc::new(Redb::open(directory.path(), None).unwrap())
}

/// What a store in `directory` holds, opened as after a crash.
fn content(directory: &Path) -> Result<Vec<(String, Vec<u8>)>, OpenError> {
    let (_, content) = StoreFile::open(directory, FIRST_REVISION)?;
    let records = content.records.into_iter();
    Ok(records
        .map(|(record, _)| (record.key, record.value.to_vec()))
        .collect())
}

#[tokio::test]
async fn c03_what_was_acknowledged_is_there_again_under_its_revision_and_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let first = store.commit(vec![Write::put("a", "1")]).await.unwrap();
    let both = vec![Write::put("b", "2"), Write::delete("a")];
    let second = store.commit(both).await.unwrap();
    let id = store.id().to_owned();
    store.close().await;
    assert!(store.commit(vec![Write::put("c", "3")]).await.is_err());

    let store = open(&directory);
    assert_eq!(store.id(), id);
    let listing = store.list("").await.unwrap();
    assert_eq!(listing.revision, second);
    assert_eq!(listing.records.len(), 1);
    assert_eq!(listing.records[0].revision, second);
    let error = store.changes_since(first).await.unwrap_err();
    assert!(matches!(error, ChangesError::Compacted { .. }), "{error}");
    let third = store.commit(vec![Write::put("d", "4")]).await.unwrap();
    assert_eq!(third, second + 1);
}

#[tokio::test]
async fn c15_endpoints_outlive_a_restart_under_a_lease_that_can_be_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    assert_eq!(store.inherited_lease(), None);
    let lease = store.grant_lease().await.unwrap();
    let writes = ["gone", "back"].map(|key| Write::put(key, "1").leased(lease));
    let plain = Write::put("plain", "1");
    let writes = writes.into_iter().chain([plain]).collect();
    store.commit(writes).await.unwrap();
    store.close().await;

    let store = open(&directory);
    let inherited = store.inherited_lease().unwrap();
    assert_eq!(store.list("").await.unwrap().records.len(), 3);
    let lease = store.grant_lease().await.unwrap();
    let again = Write::put("back", "1").leased(lease);
    store.commit(vec![again]).await.unwrap();
    store.drop_lease(inherited).await.unwrap();
    let left = store.list("").await.unwrap().records;
    let left: Vec<_> = left.into_iter().map(|record| record.key).collect();
    assert_eq!(left, ["back", "plain"]);
}

/// The keys that a store holds.
async fn keys(store: &SharedStore) -> Vec<String> {
    let records = store.list("").await.unwrap().records;
    records.into_iter().map(|record| record.key).collect()
}

async fn put(store: &SharedStore, key: &str) -> Result<u64, CommitError> {
    store.commit(vec![Write::put(key, "1")]).await
}

#[tokio::test]
async fn c04_what_the_disk_refused_is_never_there_later_however_much_of_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let first = put(&store, "a").await.unwrap();
    let lease = store.grant_lease().await.unwrap();
    let kept = Write::put("endpoints/kept", "1").leased(lease);
    store.commit(vec![kept]).await.unwrap();
    let refused = vec![
        Write::put(REFUSED, "1"),
        Write::put("endpoints/refused", "1").leased(lease),
    ];
    assert!(store.commit(refused).await.is_err());
    assert!(store.trouble().is_some());
    assert_eq!(put(&store, "b").await.unwrap(), first + 2);
    assert_eq!(store.trouble(), None);
    assert_eq!(keys(&store).await, ["a", "b", "endpoints/kept"]);
    let on_disk = || content(directory.path()).unwrap();
    // The lease goes on, also in the new file.
    store.drop_lease(lease).await.unwrap();
    assert_eq!(keys(&store).await, ["a", "b"]);
    store.close().await;
    let on_disk: Vec<_> = on_disk().into_iter().map(|(key, _)| key).collect();
    assert_eq!(on_disk, ["a", "b"]);
    assert_eq!(open(&directory).inherited_lease(), None);
}

#[tokio::test]
async fn c04_a_disk_that_fails_again_is_not_written_as_a_whole_for_every_request() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    put(&store, "a").await.unwrap();
    for _ in 0..2 {
        put(&store, REFUSED).await.unwrap_err();
    }
    let again = put(&store, "b").await.unwrap_err();
    let source = std::error::Error::source(&again).map(ToString::to_string);
    assert!(source.is_some(), "{again}");
    assert_eq!(store.get("a").await.unwrap().unwrap().key, "a");
    // By and by it is tried once more.
    while put(&store, "b").await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(keys(&store).await, ["a", "b"]);
}

#[tokio::test]
async fn c04_on_a_full_disk_what_is_there_can_be_deleted_and_then_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let reserve = directory.path().join("store.reserve");
    let store = open(&directory);
    put(&store, "a").await.unwrap();
    put(&store, "b").await.unwrap();
    assert!(reserve.metadata().unwrap().len() > 0);
    put(&store, FULL).await.unwrap_err();
    let again = put(&store, "c").await.unwrap_err();
    assert!(again.to_string().contains("unavailable"), "{again}");
    let deleted = store.commit(vec![Write::delete("a")]).await;
    assert!(deleted.is_ok(), "{deleted:?}");
    assert_eq!(keys(&store).await, ["b"]);
    assert!(store.trouble().unwrap().contains("full"));
    // There is room again: the reserve is taken first.
    while put(&store, "c").await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(reserve.metadata().unwrap().len() > 0);
    assert_eq!(store.trouble(), None);
    store.close().await;
    assert_eq!(keys(&open(&directory)).await, ["b", "c"]);
}

#[tokio::test]
async fn c04_the_reserve_is_as_large_as_a_store_that_grew() {
    let directory = tempfile::tempdir().unwrap();
    let length = |name: &str| directory.path().join(name).metadata().unwrap().len();
    let store = open(&directory);
    let first = length("store.reserve");
    for n in 0..40 {
        let write = Write::put(format!("k/{n}"), vec![0; 100_000]);
        store.commit(vec![write]).await.unwrap();
    }
    assert!(length("store.reserve") > first);
    assert!(length("store.reserve") >= length("store.redb"));
}

#[tokio::test]
async fn c04_a_deletion_that_finds_the_disk_full_is_written_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    // The key is there without having been written through the writer.
    store.close().await;
    let (file, _) = StoreFile::open(directory.path(), FIRST_REVISION).unwrap();
    file.write(&[(vec![Write::put(FULL, "1")], 7)], 7).unwrap();
    drop(file);
    let store = open(&directory);
    let deleted = store.commit(vec![Write::delete(FULL)]).await;
    assert_eq!(deleted.unwrap(), 8);
    assert_eq!(keys(&store).await, [""; 0]);
    store.close().await;
    assert_eq!(keys(&open(&directory)).await, [""; 0]);
}

#[tokio::test]
async fn c19_a_writer_that_panics_ends_the_store_and_lets_nobody_else_in() {
    let directory = tempfile::tempdir().unwrap();
    let lock = DirectoryLock::take(directory.path()).await.unwrap();
    let store = Redb::open(directory.path(), Some(lock.clone())).unwrap();
    let store: SharedStore = Arc::new(store);
    put(&store, "a").await.unwrap();
    put(&store, PANIC).await.unwrap_err();
    store.ended().await;
    assert!(put(&store, "b").await.is_err());
    assert_eq!(keys(&store).await, ["a"], "what is known can be read");
    assert!(DirectoryLock::take(directory.path()).await.is_err());
    drop(lock);
    assert!(DirectoryLock::take(directory.path()).await.is_ok());
}

#[tokio::test]
async fn concurrent_writers_share_a_sync_and_keep_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let start = *store.watch().borrow();
    let writers = (0..200).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let write = Write::put(format!("k/{n:03}"), n.to_string());
            store.commit(vec![write]).await.unwrap()
        })
    });
    let mut revisions = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        revisions.push(writer.await.unwrap());
    }
    revisions.sort_unstable();
    let expected: Vec<_> = (start + 1..=start + 200).collect();
    assert_eq!(revisions, expected, "each commit has a revision of its own");
}

#[tokio::test]
async fn a_file_that_was_lost_emptied_or_exchanged_is_never_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    for directory in [&directory, &other] {
        open(directory).close().await;
    }
    let path = directory.path().join("store.redb");
    let kept = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let error = Redb::open(directory.path(), None).unwrap_err();
    assert!(matches!(error, OpenError::Lost { .. }), "{error}");
    fs::write(&path, "").unwrap();
    let error = Redb::open(directory.path(), None).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    fs::copy(other.path().join("store.redb"), &path).unwrap();
    let error = Redb::open(directory.path(), None).unwrap_err();
    assert!(matches!(error, OpenError::Exchanged { .. }), "{error}");
    fs::write(&path, kept).unwrap();
    assert!(Redb::open(directory.path(), None).is_ok());
}

/// A directory with `commits` acknowledged commits in it, as a kill leaves it.
async fn killed(commits: u32) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    for n in 0..commits {
        let value = vec![b'x'; 300];
        let write = Write::put(format!("key/{n:04}"), value);
        store.commit(vec![write]).await.unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    for name in ["store.redb", "store.id"] {
        fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

/// Tries a file with something done to it: it is refused, or holds all there was.
fn try_damaged(directory: &Path, whole: &[(String, Vec<u8>)], bytes: &[u8]) -> bool {
    fs::write(directory.join("store.redb"), bytes).unwrap();
    match content(directory) {
        Err(error) => {
            assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
            true
        }
        Ok(found) => {
            assert!(found == whole, "something was lost in silence");
            false
        }
    }
}

#[tokio::test]
async fn c03_a_truncated_or_flipped_file_is_refused_or_whole_and_never_less() {
    let directory = killed(30).await;
    let path = directory.path().join("store.redb");
    let bytes = fs::read(&path).unwrap();
    let whole = content(directory.path()).unwrap();
    assert_eq!(whole.len(), 30);
    let mut refused = 0;
    let mut cut = bytes.len() - 1;
    while cut > 0 {
        refused += u32::from(try_damaged(directory.path(), &whole, &bytes[..cut]));
        cut = cut.saturating_sub(bytes.len() / 16);
    }
    assert!(refused > 0);
    let mut refused = 0;
    // Every byte of the head, which says which of two states is the newest, and some of the rest.
    let places = (0..bytes.len()).filter(|at| *at < 320 || at % 4093 == 0);
    for at in places {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        refused += u32::from(try_damaged(directory.path(), &whole, &flipped));
    }
    assert!(refused > 0);
}
