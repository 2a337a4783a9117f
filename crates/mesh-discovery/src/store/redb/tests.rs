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
