//! `/v1/unreadable`: stored records of all kinds that this version cannot read, to be seen and removed.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::caller::Caller;
use crate::compile::Registered;
use crate::identity::enrol::{ISSUED, IssuedRecord};
use crate::identity::grant::{Grant, IDENTITIES};
use crate::identity::token::{TOKENS, TokenRecord};
use crate::objects::{self, Unreadable};
use crate::refused::Refused;
use crate::registry::{self, ENDPOINTS};
use crate::server::Shared;
use crate::settle::written_at;
use crate::store::{CommitError, OBJECTS};
use crate::wire::{UnreadableList, UnreadableRecord};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/v1/unreadable", get(list).delete(remove))
}

/// Whether this version can read what is stored under `key`.
///
/// # Errors
///
/// [`Unreadable`] says why not.
pub(crate) fn check(key: &str, value: &[u8]) -> Result<(), Unreadable> {
    if key.starts_with(OBJECTS) {
        objects::read(key, value).map(drop)
    } else if key.starts_with(ENDPOINTS) {
        read::<Registered>(value)
    } else if registry::service_of(key).is_some() {
        read::<std::collections::BTreeSet<u16>>(value)
    } else if key.starts_with(TOKENS) {
        read::<TokenRecord>(value)
    } else if key.starts_with(IDENTITIES) {
        read::<Grant>(value)
    } else if key.starts_with(ISSUED) {
        read::<IssuedRecord>(value)
    } else {
        Err(Unreadable::new(&"no record of this version has such a key"))
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(), Unreadable> {
    let read = serde_json::from_slice::<T>(bytes);
    read.map(drop).map_err(|error| Unreadable::new(&error))
}

async fn list(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<Json<UnreadableList>, Refused> {
    caller.require_admin()?;
    let listing = shared.store.list("").await?;
    let unreadable = listing.records.iter().filter_map(|record| {
        let why = check(&record.key, &record.value).err()?;
        let json: serde_json::Value = serde_json::from_slice(&record.value).unwrap_or_default();
        Some(UnreadableRecord {
            key: record.key.clone(),
            revision: record.revision,
            kind: json["kind"].as_str().map(str::to_owned),
            why: why.to_string(),
        })
    });
    Ok(Json(UnreadableList {
        records: unreadable.collect(),
    }))
}

/// Names one record, as it was seen.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    key: String,
    revision: u64,
}

async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Query(Seen { key, revision }): Query<Seen>,
) -> Result<Response, Refused> {
    caller.require_admin()?;
    let Some(record) = shared.store.get(&key).await? else {
        let message = format!("there is no record {key:?}");
        return Err(Refused::new(
            StatusCode::NOT_FOUND,
            "unknown-record",
            message,
        ));
    };
    let conflict = |message: &str| Refused::new(StatusCode::CONFLICT, "conflict", message);
    if check(&key, &record.value).is_ok() {
        let message = "this version can read the record: remove it as what it is";
        return Err(conflict(message));
    }
    let deleted = shared
        .store
        .commit_for_admin(objects::deletion(&key, revision))
        .await;
    match deleted {
        Ok(written) => {
            tracing::info!(key, "an unreadable record was removed");
            Ok((written_at(written), StatusCode::NO_CONTENT).into_response())
        }
        Err(CommitError::Unavailable(error)) => Err(error.into()),
        Err(_) => Err(conflict("the record has changed: read it again")),
    }
}
