//! The `status` of objects as they are shown: computed when they are read, never stored.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mesh_policy::manifest::{Kind, Parent, Problems, parse_json};
use serde_json::{Value, json};

use crate::compile::{Change, Condition, Holds, Ineffective, Status, World};
use crate::objects::{Stored, Unreadable, rfc3339};

/// Who fills in the status of a route, as Gateway API names it.
const CONTROLLER: &str = "mesh.rs/discovery";
/// Conditions whose last change is remembered; beyond, all begin anew.
const MOST: usize = 100_000;

/// Gives the world by which objects stand.
type Latest = Arc<dyn Fn() -> Arc<World> + Send + Sync>;

/// Tells how objects stand, and since when.
#[derive(Clone)]
pub struct Statuses {
    latest: Latest,
    since: Arc<Mutex<HashMap<String, Since>>>,
}

/// What a condition said, and since when this server has seen it so.
struct Since {
    holds: Holds,
    at: SystemTime,
}

impl fmt::Debug for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statuses").finish_non_exhaustive()
    }
}

impl Statuses {
    /// By the world that `latest` gives at each question.
    #[must_use]
    pub fn new(latest: impl Fn() -> Arc<World> + Send + Sync + 'static) -> Self {
        Self {
            latest: Arc::new(latest),
            since: Arc::default(),
        }
    }

    /// What `change` will leave without effect; asked before it is made.
    pub(crate) fn ineffective(&self, change: &Change<'_>) -> Vec<Ineffective> {
        (self.latest)().ineffective(change)
    }

    /// The status of an object, as JSON.
    pub(super) fn of(&self, stored: &Stored) -> Value {
        let object = stored.json();
        let manifest = match parse_json(object) {
            Ok(manifest) => manifest,
            Err(problems) => return self.unreadable(stored, &problems),
        };
        let generation = object["metadata"]["generation"].as_u64();
        let show = |place: &str, conditions: &[Condition]| -> Value {
            let key = |about: &str| format!("{}/{place}/{about}", stored.uid());
            let show = |condition: &Condition| {
                let since = self.since(key(condition.about), condition.holds);
                shown(condition, generation, since)
            };
            conditions.iter().map(show).collect()
        };
        let mut status = match (self.latest)().status(&manifest) {
            Status::Object(conditions) => json!({"conditions": show("", &conditions)}),
            Status::Parents(parents) => {
                let parents = parents.iter().enumerate().map(|(place, (parent, all))| {
                    json!({
                        "parentRef": reference(parent),
                        "controllerName": CONTROLLER,
                        "conditions": show(&place.to_string(), all),
                    })
                });
                json!({"parents": parents.collect::<Vec<_>>()})
            }
        };
        if manifest.meta.kind == Kind::Service {
            status["loadBalancer"] = json!({});
        }
        status
    }

    /// Of an object that a newer version or another program stored.
    fn unreadable(&self, stored: &Stored, problems: &Problems) -> Value {
        let condition = Condition {
            about: "Accepted",
            holds: Holds::No,
            reason: "Unreadable",
            message: format!(
                "this version of discovery cannot read the object, and closes what it governs ({}): update discovery, or replace or delete the object",
                Unreadable::new(problems)
            ),
        };
        // Its name, since a damaged record has no uid.
        let key = format!("{}/{}", stored.uid(), stored.json()["metadata"]["name"]);
        let since = self.since(key, condition.holds);
        let generation = stored.json()["metadata"]["generation"].as_u64();
        json!({"conditions": [shown(&condition, generation, since)]})
    }

    fn since(&self, key: String, holds: Holds) -> SystemTime {
        let now = SystemTime::now();
        let mut known = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&key) {
            known.clear();
        }
        let since = known.entry(key).or_insert(Since { holds, at: now });
        if since.holds != holds {
            *since = Since { holds, at: now };
        }
        since.at
    }
}

fn shown(condition: &Condition, generation: Option<u64>, since: SystemTime) -> Value {
    json!({
        "type": condition.about,
        "status": match condition.holds {
            Holds::Yes => "True",
            Holds::No => "False",
        },
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": generation,
        "lastTransitionTime": rfc3339(since),
    })
}

fn reference(parent: &Parent) -> Value {
    let service = &parent.service;
    let mut reference = json!({
        "group": "",
        "kind": "Service",
        "namespace": service.namespace,
        "name": service.name,
    });
    if let Some(port) = parent.port {
        reference["port"] = json!(port);
    }
    reference
}
