//! Records as values. What cannot be read is an error that names the record: a default in its
//! place would be written over it, and would decide what nobody said.

use serde::de::DeserializeOwned;

use super::{Record, Store, Unavailable};

/// A record that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error(
    "discovery cannot read its record {key:?}: its administrator sees it with `mesh get unreadable`"
)]
pub(crate) struct Undecodable {
    key: String,
    #[source]
    source: serde_json::Error,
}

/// Why a record could not be had as a value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRead {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
}

/// What `record` holds.
pub(crate) fn decode<T: DeserializeOwned>(record: &Record) -> Result<T, Undecodable> {
    serde_json::from_slice(&record.value).map_err(|source| Undecodable {
        key: record.key.clone(),
        source,
    })
}

/// What is under `key`, with the revision that wrote it; `None` if nothing is.
pub(crate) async fn find<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
) -> Result<Option<(T, u64)>, NotRead> {
    let Some(record) = store.get(key).await? else {
        return Ok(None);
    };
    Ok(Some((decode(&record)?, record.revision)))
}
