//! Objects as the store holds them. Storage is lenient: a record that this version cannot read is
//! shown, replaced and deleted by its name like any other.

use mesh_policy::manifest::{Manifest, parse_json};
use serde_json::{Value, json};

use super::ObjectName;
use crate::store::{OBJECTS, Record};

/// How much is said of what is wrong with a record.
const MOST_WHY: usize = 500;

/// An object as the store holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub(super) json: Value,
    pub(super) revision: u64,
}

impl Stored {
    /// What lies in a record under [`OBJECTS`]. Of a record that holds no object of its key's name,
    /// the name is all that is left.
    #[must_use]
    pub fn from_record(record: &Record) -> Self {
        let path = record.key.strip_prefix(OBJECTS).unwrap_or(&record.key);
        let mut parts = path.rsplit('/');
        let name = parts.next().unwrap_or_default();
        let namespace = parts.next().unwrap_or_default();
        let is_named = |json: &Value| {
            let metadata = &json["metadata"];
            metadata["name"] == name && metadata["namespace"] == namespace
        };
        let json = serde_json::from_slice(&record.value).ok();
        let json = json.filter(is_named);
        Self {
            json: json
                .unwrap_or_else(|| json!({"metadata": {"namespace": namespace, "name": name}})),
            revision: record.revision,
        }
    }

    /// The object as it was written, with `uid`, `creationTimestamp` and `generation`.
    #[must_use]
    pub const fn json(&self) -> &Value {
        &self.json
    }

    /// The revision that wrote it last.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The object as the resource API shows it under `api_version`.
    ///
    /// Versions of one kind share one content here, as with Kubernetes' conversion strategy `None`.
    #[must_use]
    pub fn presented(mut self, api_version: &str) -> Value {
        self.json["apiVersion"] = json!(api_version);
        self.json["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.json
    }

    /// Its unique id.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.json["metadata"]["uid"].as_str().unwrap_or_default()
    }
}

/// Objects at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredList {
    /// The store's revision when they were read.
    pub revision: u64,
    /// The objects by namespace, then name.
    pub items: Vec<Stored>,
}

/// Reads the object under `key`.
///
/// # Errors
///
/// [`Unreadable`] if this version cannot, or the object says that it is another.
pub(crate) fn read(key: &str, bytes: &[u8]) -> Result<Manifest, Unreadable> {
    let json = serde_json::from_slice(bytes).map_err(|error| Unreadable::new(&error))?;
    let manifest = parse_json(&json).map_err(|error| Unreadable::new(&error))?;
    let named = ObjectName::of(&manifest).key();
    if named == key {
        return Ok(manifest);
    }
    let why = format!("the object there calls itself what belongs under {named:?}");
    Err(Unreadable::new(&why))
}

/// A record that this version cannot read, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Unreadable {
    why: String,
}

impl Unreadable {
    /// In one line, and not more than a page shows.
    pub(crate) fn new(why: &dyn std::fmt::Display) -> Self {
        let why = why.to_string().replace('\n', "; ");
        let why = why.chars().filter(|c| !c.is_control());
        Self {
            why: why.take(MOST_WHY).collect(),
        }
    }
}
