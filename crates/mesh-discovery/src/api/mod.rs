//! The resource API, shaped like Kubernetes', and `POST /v1/apply`.
//!
//! ```text
//! path ─▶ target ─▶ method ─▶ body ─▶ admission ─▶ objects ─▶ answer
//!  404     query 400   405   413 415 400    422       404 409    Status
//! ```
//!
//! All of it is the admin's. A caller without a certificate gets 401 and a workload
//! 403, before anything else is looked at.

mod apply;
mod body;
mod failure;
mod path;
mod query;
mod status;
#[cfg(test)]
mod tests;
mod warning;

use axum::extract::{FromRef, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Extension, Json, Router};
use http::StatusCode;
use mesh_policy::manifest::{Manifest, Problem, Problems};
use mesh_policy::name::ObjectRef;
use serde_json::{Value, json};

use self::body::MediaType;
use self::failure::Failure;
use self::path::Target;
use crate::admission;
use crate::caller::{Caller, NotPermitted};
use crate::compile::{Change, Ineffective};
use crate::objects::{MAX_OBJECT_BYTES, Mode, ObjectName, Objects, Precondition, Stored};
use crate::settle::{WrittenAt, written_at};

pub use self::status::Statuses;

/// What the resource API answers from.
#[derive(Clone, Debug)]
struct Resources {
    objects: Objects,
    /// Without it no object has a status.
    statuses: Option<Statuses>,
}

impl FromRef<Resources> for Objects {
    fn from_ref(resources: &Resources) -> Self {
        resources.objects.clone()
    }
}

impl FromRef<Resources> for Option<Statuses> {
    fn from_ref(resources: &Resources) -> Self {
        resources.statuses.clone()
    }
}

/// The routes under `/api`, `/apis` and `/v1/apply`, without any state left to give. Objects are
/// shown with a status where there are `statuses`.
pub fn router(objects: Objects, statuses: Option<Statuses>) -> Router {
    Router::new()
        .route("/api", any(resource))
        .route("/api/{*path}", any(resource))
        .route("/apis", any(resource))
        .route("/apis/{*path}", any(resource))
        .route("/v1/apply", post(apply::apply))
        .with_state(Resources { objects, statuses })
}

/// The answer to a caller that may not use the resource API, in the form its clients read.
pub(crate) fn denied(error: NotPermitted) -> Response {
    Failure::from(error).into_response()
}

async fn resource(
    State(resources): State<Resources>,
    caller: Caller,
    request: Request,
) -> Result<Response, Failure> {
    caller.require_admin()?;
    let path = request.uri().path();
    let target = Target::parse(path).ok_or_else(|| Failure::unknown_path(path))?;
    let mode = query::mode(request.uri().query())?;
    let call = Call {
        objects: resources.objects,
        statuses: resources.statuses,
        target,
        mode,
    };
    let method = request.method().clone();
    let one = call.object_name();
    match (method.as_str(), one) {
        ("GET", None) => call.list().await,
        ("POST", None) if call.target.namespace.is_some() => call.create(request).await,
        ("GET", Some(name)) => call.get(&name).await,
        ("PUT", Some(name)) => call.replace(&name, request).await,
        ("DELETE", Some(name)) => call.delete(&name, request).await,
        (_, Some(_)) => Err(Failure::method(&method, "GET, PUT, DELETE")),
        (_, None) if call.target.namespace.is_some() => Err(Failure::method(&method, "GET, POST")),
        (_, None) => Err(Failure::method(&method, "GET")),
    }
}

/// One request whose path and query are understood.
struct Call {
    objects: Objects,
    statuses: Option<Statuses>,
    target: Target,
    mode: Mode,
}

impl Call {
    fn object_name(&self) -> Option<ObjectName> {
        Some(ObjectName {
            kind: self.target.kind,
            namespace: self.target.namespace.clone()?,
            name: self.target.name.clone()?,
        })
    }

    async fn list(&self) -> Result<Response, Failure> {
        let Target {
            kind, namespace, ..
        } = &self.target;
        let api_version = self.target.api_version();
        let list = self.objects.list(*kind, namespace.as_deref()).await?;
        let items = list.items.into_iter().map(|stored| self.show(stored));
        let items: Vec<Value> = items.collect();
        let answer = json!({
            "kind": format!("{}List", kind.kind()),
            "apiVersion": api_version,
            "metadata": {"resourceVersion": list.revision.to_string()},
            "items": items,
        });
        Ok(Json(answer).into_response())
    }

    async fn get(&self, name: &ObjectName) -> Result<Response, Failure> {
        let stored = self.objects.get(name).await?;
        Ok(Json(self.show(stored)).into_response())
    }

    /// The object as it is told, with how it stands.
    fn show(&self, stored: Stored) -> Value {
        let statuses = self.statuses.as_ref();
        let status = statuses.map(|statuses| statuses.of(&stored));
        let mut shown = stored.presented(&self.target.api_version());
        // Of a damaged record nothing is left but its name.
        let kind = self.target.kind.kind();
        shown["kind"] = json!(kind);
        if let Some(status) = status {
            shown["status"] = status;
        }
        shown
    }

    /// What `change` will leave without effect.
    fn ineffective(&self, change: Change<'_>) -> Vec<Ineffective> {
        let statuses = self.statuses.as_ref();
        statuses.map_or_else(Vec::new, |statuses| statuses.ineffective(&change))
    }

    async fn create(&self, request: Request) -> Result<Response, Failure> {
        let manifest = self.admit(request).await?;
        if Precondition::of(&manifest).resource_version.is_some() {
            let message = "metadata.resourceVersion is set on an object to be created: remove it";
            return Err(Failure::bad_request(message));
        }
        let ineffective = self.ineffective(Change::writing(std::slice::from_ref(&manifest)));
        let stored = self.objects.create(&manifest, self.mode).await?;
        let written = self.written(stored.revision());
        let answer = Json(stored.presented(&self.target.api_version()));
        let warnings = warning::headers(&manifest.warnings, &ineffective);
        Ok((StatusCode::CREATED, written, warnings, answer).into_response())
    }

    async fn replace(&self, name: &ObjectName, request: Request) -> Result<Response, Failure> {
        let manifest = self.admit(request).await?;
        if manifest.meta.name != name.name {
            let message = format!(
                "metadata.name is {:?}, but the path says {:?}: make them equal",
                manifest.meta.name, name.name
            );
            return Err(Failure::bad_request(message));
        }
        let ineffective = self.ineffective(Change::writing(std::slice::from_ref(&manifest)));
        let stored = self.objects.replace(&manifest, self.mode).await?;
        let written = self.written(stored.revision());
        let answer = Json(stored.presented(&self.target.api_version()));
        let warnings = warning::headers(&manifest.warnings, &ineffective);
        Ok((written, warnings, answer).into_response())
    }

    async fn delete(&self, name: &ObjectName, request: Request) -> Result<Response, Failure> {
        let body = body::read(request, MAX_OBJECT_BYTES).await?;
        let options = DeleteOptions::read(&body)?;
        let mode = match options.dry_run {
            true => Mode::DryRun,
            false => self.mode,
        };
        let precondition = options.precondition;
        let deleted = ObjectRef {
            group: name.kind.group().to_owned(),
            kind: name.kind.kind().to_owned(),
            namespace: name.namespace.clone(),
            name: name.name.clone(),
        };
        let ineffective = self.ineffective(Change {
            written: &[],
            deleted: Some(&deleted),
        });
        let (removed, revision) = self.objects.delete(name, &precondition, mode).await?;
        let answer = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {
                "name": name.name,
                "group": name.kind.group(),
                "kind": name.kind.plural(),
                "uid": removed.uid(),
            },
        });
        let warnings = warning::headers(&[], &ineffective);
        Ok((self.written(revision), warnings, Json(answer)).into_response())
    }

    /// What the answer to a write waits for; a dry run wrote nothing.
    fn written(&self, revision: u64) -> Option<Extension<WrittenAt>> {
        (self.mode == Mode::Write).then(|| written_at(revision))
    }

    /// Reads the object in the body and sees that it is what the path says.
    async fn admit(&self, request: Request) -> Result<Manifest, Failure> {
        let form = MediaType::of(request.headers())?;
        let text = body::read_text(request, MAX_OBJECT_BYTES).await?;
        let kind = self.target.kind;
        let invalid = |problems: Problems| Failure::invalid(kind, &problems);
        let mut object = match form {
            MediaType::Json => admission::json(&text).map_err(|error| {
                Failure::bad_request(format!("the body cannot be read as JSON: {error}"))
            })?,
            MediaType::Yaml => admission::yaml(&text).map_err(invalid)?,
        };
        self.check_target(&mut object)?;
        admission::object(&object, self.objects.domain()).map_err(invalid)
    }

    /// The kind must be the path's; a namespace that is not said is the path's.
    fn check_target(&self, object: &mut Value) -> Result<(), Failure> {
        let Target {
            kind, namespace, ..
        } = &self.target;
        for (field, expected) in [
            ("kind", kind.kind()),
            ("apiVersion", &self.target.api_version()),
        ] {
            let found = &object[field];
            if found != expected {
                let message = format!("{field} is {found}, but the path serves {expected:?}");
                return Err(Failure::bad_request(message));
            }
        }
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        let said = metadata
            .entry("namespace")
            .or_insert_with(|| json!(namespace));
        if said.as_str() == Some("") || said.is_null() {
            *said = json!(namespace);
        }
        if *said != json!(namespace) {
            let message = format!(
                "metadata.namespace is {said}, but the path says {}: make them equal",
                json!(namespace)
            );
            return Err(Failure::bad_request(message));
        }
        Ok(())
    }
}

/// What is wrong and what to write instead; the field and its place are told beside it.
fn sentence(problem: &Problem) -> String {
    match problem.remedy.as_str() {
        "" => problem.message.clone(),
        remedy => format!("{}, {remedy}", problem.message),
    }
}

/// What a caller asks of a deletion.
#[derive(Debug, Default)]
struct DeleteOptions {
    precondition: Precondition,
    dry_run: bool,
}

impl DeleteOptions {
    /// Kubernetes' `DeleteOptions`; an empty body asks nothing.
    fn read(body: &[u8]) -> Result<Self, Failure> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let options: WireDeleteOptions = serde_json::from_slice(body).map_err(|error| {
            let message = format!("the body holds no DeleteOptions: {error}");
            Failure::bad_request(message)
        })?;
        let dry_run = match options.dry_run.as_deref() {
            None | Some([]) => false,
            Some([all]) if all == "All" => true,
            Some(_) => {
                let message = "dryRun has no such value: write [\"All\"], or leave it out";
                return Err(Failure::bad_request(message));
            }
        };
        Ok(Self {
            precondition: Precondition {
                uid: options.preconditions.uid,
                resource_version: options.preconditions.resource_version,
            },
            dry_run,
        })
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDeleteOptions {
    #[serde(default)]
    preconditions: WirePreconditions,
    dry_run: Option<Vec<String>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePreconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}
