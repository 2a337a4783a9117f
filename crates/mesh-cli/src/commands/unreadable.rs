//! What is stored and cannot be read by this version of discovery: `mesh get unreadable`, and `get`
//! and `delete` of kinds that only a newer version serves.

use mesh_discovery::wire::UnreadableRecord;
use serde_json::{Value, json};

use super::Done;
use crate::access::Access;
use crate::args::{Global, Output};
use crate::failure::Failure;
use crate::render;

/// The word that stands for all of them.
const ALL: &str = "unreadable";

/// Shows the records that `words` mean, or fails with `unknown` where they mean none.
pub(super) async fn get(
    words: &[String],
    unknown: Failure,
    global: &Global,
) -> Result<Done, Failure> {
    let found = find(words, unknown, global).await?;
    if found.is_empty() {
        return Ok(Done {
            notes: vec!["No resources found.".to_owned()],
            ..Done::default()
        });
    }
    Ok(Done::say(match global.output {
        Output::Json | Output::Yaml => {
            let items: Vec<_> = found.iter().map(shown).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
            render::value(&list, global.output)
        }
        Output::Table | Output::Wide => {
            let row = |record: &UnreadableRecord| {
                let said = ["False (Unreadable)", &record.why].map(str::to_owned);
                [record.key.clone()].into_iter().chain(said).collect()
            };
            let rows: Vec<Vec<String>> = found.iter().map(row).collect();
            render::table(&["KEY", "ACCEPTED", "WHY"], &rows)
        }
    }))
}

/// Deletes the records that `words` mean, or fails with `unknown` where they mean none.
pub(super) async fn delete(
    words: &[String],
    unknown: Failure,
    global: &Global,
) -> Result<Done, Failure> {
    let (kind, name) = split(words);
    let Some(name) = name else {
        let message = format!("nothing is named: write mesh delete {kind} NAME");
        return Err(Failure::Usage(message));
    };
    let access = Access::new(global)?;
    let mut done = Done::default();
    for record in find(words, unknown, global).await? {
        access.client.remove_unreadable(&record).await?;
        let line = format!("{kind} \"{name}\" deleted\n");
        done.out.extend_from_slice(line.as_bytes());
    }
    Ok(done)
}

async fn find(
    words: &[String],
    unknown: Failure,
    global: &Global,
) -> Result<Vec<UnreadableRecord>, Failure> {
    let (kind, name) = split(words);
    let Ok(access) = Access::new(global) else {
        return Err(unknown);
    };
    let mut records = match access.client.unreadable().await {
        Ok(records) => records,
        Err(error) if kind == ALL => return Err(error.into()),
        // Whether there is such a kind somewhere cannot be known.
        Err(_) => return Err(unknown),
    };
    if kind == ALL {
        records.retain(|record| name.is_none_or(|key| record.key == key));
        return match name {
            Some(key) if records.is_empty() => Err(Failure::Usage(format!(
                "no record that cannot be read has the key {key:?}: see mesh get unreadable"
            ))),
            _ => Ok(records),
        };
    }
    let namespace = match name {
        Some(_) => Some(access.namespace.as_str()),
        None => access.listed(global),
    };
    records.retain(|record| is_meant(record, kind, namespace, name));
    if records.is_empty() {
        return Err(unknown);
    }
    Ok(records)
}

/// Whether the record is an object of the kind that somebody calls so, with this name if one is given.
fn is_meant(
    record: &UnreadableRecord,
    called: &str,
    namespace: Option<&str>,
    name: Option<&str>,
) -> bool {
    let Some([group, plural, of, own]) = parts(record) else {
        return false;
    };
    let kind = record.kind.as_deref().unwrap_or_default();
    let grouped = format!("{plural}.{group}");
    [kind, plural, &grouped]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(called))
        && namespace.is_none_or(|namespace| namespace == of)
        && name.is_none_or(|name| name == own)
}

/// Group, plural, namespace and name of an object.
fn parts(record: &UnreadableRecord) -> Option<[&str; 4]> {
    let path = record.key.strip_prefix("objects/")?;
    let parts: Vec<_> = path.split('/').collect();
    parts.try_into().ok()
}

/// The record as an object that is listed.
fn shown(record: &UnreadableRecord) -> Value {
    let [_, _, namespace, name] = parts(record).unwrap_or(["", "", "", &record.key]);
    json!({
        "kind": record.kind,
        "metadata": {
            "namespace": namespace,
            "name": name,
            "resourceVersion": record.revision.to_string(),
        },
        "status": {"conditions": [{
            "type": "Accepted",
            "status": "False",
            "reason": "Unreadable",
            "message": record.why,
        }]},
    })
}

/// The kind and the name; unlike that of an object, a key has slashes of its own.
fn split(words: &[String]) -> (&str, Option<&str>) {
    match words {
        [kind, name] => (kind, Some(name)),
        [word, ..] => match word.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (word, None),
        },
        [] => ("", None),
    }
}
