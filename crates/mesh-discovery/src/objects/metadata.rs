//! The fields of an object that the server owns: pure functions from JSON to JSON.
//!
//! `uid`, `creationTimestamp` and `generation` are kept with the object;
//! `resourceVersion` is the revision of its record and joins when it is read.
//! What a client writes into any of them, or into `status`, is not stored.

use std::time::SystemTime;

use mesh_policy::manifest::Meta;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

/// Fields of `metadata` that a client does not decide.
const SERVER_OWNED: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// What makes a new object unlike any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Birth {
    pub(super) uid: String,
    pub(super) at: SystemTime,
}

impl Birth {
    /// A random UUID, version 4.
    pub(super) fn now() -> Self {
        let bits = fastrand::u128(..) & !(0xF << 76) & !(0b11 << 62) | (0x4 << 76) | (0b10 << 62);
        let hex = format!("{bits:032x}");
        Self {
            uid: format!(
                "{}-{}-{}-{}-{}",
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..]
            ),
            at: SystemTime::now(),
        }
    }
}

/// The object as it is stored the first time.
pub(super) fn created(raw: &Value, meta: &Meta, birth: &Birth) -> Value {
    let mut object = written(raw, meta);
    let metadata = section(&mut object, "metadata");
    metadata.insert("uid".into(), json!(birth.uid));
    metadata.insert("creationTimestamp".into(), json!(rfc3339(birth.at)));
    metadata.insert("generation".into(), json!(1));
    Value::Object(object)
}

/// The object as it is stored over `stored`; `None` if nothing would change.
///
/// The generation counts changes of what the object says, not of its labels and annotations.
pub(super) fn revised(stored: &Value, raw: &Value, meta: &Meta) -> Option<Value> {
    let mut object = written(raw, meta);
    let before = written(stored, meta);
    if object == before {
        return None;
    }
    let same_content = without_metadata(&object) == without_metadata(&before);
    let generation = stored["metadata"]["generation"].as_u64().unwrap_or(1);
    let generation = generation + u64::from(!same_content);
    let metadata = section(&mut object, "metadata");
    // What could not be read any more has lost them, and is born anew.
    let birth = Birth::now();
    for (field, anew) in [("uid", birth.uid), ("creationTimestamp", rfc3339(birth.at))] {
        let kept = stored["metadata"][field].as_str();
        metadata.insert(field.into(), json!(kept.unwrap_or(&anew)));
    }
    metadata.insert("generation".into(), json!(generation));
    Some(Value::Object(object))
}

/// What of `raw` a client decides, with its namespace and name said in full.
fn written(raw: &Value, meta: &Meta) -> Map<String, Value> {
    let mut object = raw.as_object().cloned().unwrap_or_default();
    object.remove("status");
    let metadata = section(&mut object, "metadata");
    for field in SERVER_OWNED {
        metadata.remove(field);
    }
    metadata.insert("namespace".into(), json!(meta.namespace));
    metadata.insert("name".into(), json!(meta.name));
    object
}

fn without_metadata(object: &Map<String, Value>) -> Map<String, Value> {
    let mut object = object.clone();
    object.remove("metadata");
    object
}

/// The object under `name`, made anew where there is none.
pub(super) fn section<'a>(
    object: &'a mut Map<String, Value>,
    name: &str,
) -> &'a mut Map<String, Value> {
    let section = object.entry(name).or_insert_with(|| json!({}));
    if !section.is_object() {
        *section = json!({});
    }
    section.as_object_mut().expect("it was made one above")
}

/// A moment as Kubernetes writes it: UTC, whole seconds, such as `2026-01-31T08:00:00Z`.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use mesh_policy::manifest;

    fn meta() -> Meta {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "api", "namespace": "shop"},
            "spec": {"ports": [{"port": 80}]},
        });
        manifest::parse_json(&service).unwrap().meta
    }

    fn birth() -> Birth {
        Birth {
            uid: "u".into(),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_210_096),
        }
    }

    fn object(port: u16, label: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "api", "labels": {"l": label}},
            "spec": {"ports": [{"port": port}]},
        })
    }

    #[test]
    fn what_a_client_writes_into_the_servers_fields_is_not_stored() {
        let mut raw = object(80, "a");
        raw["status"] = json!({"loadBalancer": {}});
        for field in SERVER_OWNED {
            raw["metadata"][field] = json!("forged");
        }
        let stored = created(&raw, &meta(), &birth());
        let expected = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "api", "namespace": "shop", "labels": {"l": "a"},
                "uid": "u", "creationTimestamp": "2024-02-29T12:34:56Z", "generation": 1,
            },
            "spec": {"ports": [{"port": 80}]},
        });
        assert_eq!(stored, expected);
    }

    #[test]
    fn an_object_keeps_its_birth_and_counts_its_changes() {
        let stored = created(&object(80, "a"), &meta(), &birth());
        assert_eq!(revised(&stored, &object(80, "a"), &meta()), None);
        assert_eq!(revised(&stored, &stored, &meta()), None);

        let labelled = revised(&stored, &object(80, "b"), &meta()).unwrap();
        assert_eq!(labelled["metadata"]["generation"], 1);
        let changed = revised(&labelled, &object(81, "b"), &meta()).unwrap();
        assert_eq!(changed["metadata"]["generation"], 2);
        for field in ["uid", "creationTimestamp"] {
            assert_eq!(changed["metadata"][field], stored["metadata"][field]);
        }
    }

    #[test]
    fn a_uid_is_a_random_uuid() {
        let uid = Birth::now().uid;
        assert_ne!(uid, Birth::now().uid);
        assert_eq!(uid.len(), 36);
        let dashes: Vec<_> = uid.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!(dashes, [8, 13, 18, 23]);
        assert_eq!(&uid[14..15], "4", "{uid}");
        assert!("89ab".contains(&uid[19..20]), "{uid}");
    }
}
