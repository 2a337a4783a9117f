//! What people write: YAML of Gateway API, SMI, Linkerd and ours, read into a model or refused whole.
//!
//! ```text
//!  text ──▶ tree with positions ──▶ one reader per kind ──▶ Manifest
//!                                      ├──▶ every warning: accepted, and has no effect
//!                                      └──▶ every problem: file:line:col: field: what, remedy
//! ```
//!
//! What a cluster with the upstream schemas and webhooks takes is taken, and nothing is ignored
//! in silence: a value without effect here is a warning, an object of a kind that belongs to a
//! cluster is skipped and listed. An unknown field, kind or annotation is a problem that names
//! the nearest known one, and so is what would open what it seems to close.

mod authorization_policy;
mod fields;
mod foreign;
mod http_route;
mod identities;
mod kind;
mod later;
mod mesh_tls_authentication;
mod meta;
mod network_authentication;
mod node;
mod place;
mod policy_name;
mod problem;
mod resilience;
mod selector;
mod server;
mod server_authorization;
mod service;
mod traffic_split;

use serde_saphyr::UserMessageFormatter;
use serde_saphyr::options;

pub use authorization_policy::{
    AuthenticationKind, AuthenticationRef, AuthorizationPolicy, PolicyTarget,
};
pub use foreign::Skipped;
pub use http_route::{BackendRef, HttpRoute, Parent, RouteRule, RuleRetry, RuleTimeouts, Unusable};
pub use identities::{IdentitySpec, InvalidIdentitySpec, Resolved, UnknownIdentity};
pub use kind::{Kind, UnknownKind};
pub use mesh_tls_authentication::MeshTlsAuthentication;
pub use meta::Meta;
pub use network_authentication::NetworkAuthentication;
pub use place::Places;
pub use policy_name::DefaultPolicy;
pub use problem::{Problem, Problems};
pub use resilience::{AnnotatedRetry, AnnotatedTimeouts, Resilience};
pub use selector::LabelSelector;
pub use server::{PortSelector, Server};
pub use server_authorization::{AuthorizedClient, ServerAuthorization, ServerTarget};
pub use service::{Service, ServicePortSpec};
pub use traffic_split::TrafficSplit;

use fields::{At, Sink};
use node::{Node, Value};

/// How deep lists and maps may stand in each other.
///
/// The deepest field of a served kind is below 10, and what clusters add is below 15. The YAML
/// library takes some 40 KiB of stack a level without optimisation, and a runtime's thread has
/// 2 MiB: 64 levels would overflow it.
const MOST_DEPTH: usize = 24;

/// A file of policy has kilobytes; what a tree of this much takes still fits a small server.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// One object, as it was written and as it is meant.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// What it is called.
    pub meta: Meta,
    /// What it says.
    pub spec: Spec,
    /// What should be written otherwise and is understood all the same.
    pub warnings: Vec<Problem>,
    /// The object verbatim, to be kept and given back.
    pub raw: serde_json::Value,
}

/// What an object says, by its kind.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the kind of its name")]
pub enum Spec {
    AuthorizationPolicy(AuthorizationPolicy),
    HttpRoute(HttpRoute),
    MeshTlsAuthentication(MeshTlsAuthentication),
    NetworkAuthentication(NetworkAuthentication),
    Server(Server),
    ServerAuthorization(ServerAuthorization),
    Service(Service),
    TrafficSplit(TrafficSplit),
}

/// A file, read whole.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Its objects in their order, without those that were skipped.
    pub manifests: Vec<Manifest>,
    /// The objects of kinds that this version does not serve.
    pub skipped: Vec<Skipped>,
    /// The warnings of all of them.
    pub warnings: Vec<Problem>,
}

/// Reads a file of YAML documents; `List`s are taken apart, empty documents passed over.
///
/// # Errors
///
/// Every problem of the whole file; a file with one is refused whole.
pub fn parse_yaml(file: &str, text: &str) -> Result<Parsed, Problems> {
    let sink = Sink {
        file: Some(file.to_owned()).filter(|name| !name.is_empty()),
        ..Sink::default()
    };
    if text.len() > MOST_BYTES {
        return Err(Problems(vec![Problem {
            file: sink.file,
            message: format!("has {} bytes", text.len()),
            remedy: format!("write at most {MOST_BYTES}, or several files"),
            ..Problem::default()
        }]));
    }
    let documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, yaml_options())
        .map_err(|error| Problems(vec![not_yaml(file, &error)]))?;
    let mut manifests = Vec::new();
    let mut skipped = Vec::new();
    for object in documents.iter().flat_map(objects) {
        if foreign::is_foreign(object) {
            skipped.extend(foreign::read(object, &sink));
        } else {
            manifests.extend(read_or_refuse(object, &sink));
        }
    }
    let problems = sink.problems.into_inner();
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let warnings = sink.warnings.into_inner();
    Ok(Parsed {
        manifests,
        skipped,
        warnings,
    })
}

/// Reads one object from the API.
///
/// # Errors
///
/// Every problem of it.
pub fn parse_json(json: &serde_json::Value) -> Result<Manifest, Problems> {
    let node = Node::from(json);
    let sink = Sink::default();
    let manifest = read_or_refuse(&node, &sink);
    let problems = sink.problems.into_inner();
    match manifest {
        Some(manifest) if problems.is_empty() => Ok(manifest),
        _ => Err(Problems(problems)),
    }
}

/// Small budgets: policy is written by people, and a bomb is not.
///
/// Spellings that YAML 1.1 took for something else stay text (`no`, `1_000`, `010`),
/// so that a reader refuses them instead of guessing.
fn yaml_options() -> serde_saphyr::Options {
    options! {
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        leading_zero_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 8,
        },
        budget: serde_saphyr::budget! {
            max_depth: MOST_DEPTH,
            flow_nesting_limit: MOST_DEPTH,
            max_nodes: 200_000,
            max_events: 500_000,
            max_anchors: 1_000,
            max_aliases: 1_000,
            max_documents: 5_000,
        },
    }
}

fn not_yaml(file: &str, error: &serde_saphyr::Error) -> Problem {
    let location = error.location();
    let number = |pick: fn(&serde_saphyr::Location) -> u64| {
        location
            .as_ref()
            .and_then(|at| u32::try_from(pick(at)).ok())
    };
    let text = error.render_with_formatter(&UserMessageFormatter);
    let what = text.lines().next().unwrap_or_default();
    // The place stands before the message already.
    let what = what.split(" at line ").next().unwrap_or_default();
    Problem {
        file: Some(file.to_owned()).filter(|name| !name.is_empty()),
        line: number(serde_saphyr::Location::line),
        column: number(serde_saphyr::Location::column),
        object: None,
        field: String::new(),
        message: format!("this is no YAML that can be read: {}", fields::cut(what)),
        remedy: "correct the text at this place".to_owned(),
    }
}

/// The objects in a document: itself, the items of a list such as `List` or `ServiceList`, or none.
fn objects(document: &Node) -> Vec<&Node> {
    let is_list = document
        .text("kind")
        .is_some_and(|kind| kind.ends_with("List"));
    match document.get("items").map(|items| &items.value) {
        Some(Value::List(items)) if is_list => items.iter().collect(),
        _ if document.value == Value::Null => Vec::new(),
        _ => vec![document],
    }
}

/// Gives an object, or leaves at least one problem: none is ever dropped in silence.
fn read_or_refuse(node: &Node, sink: &Sink) -> Option<Manifest> {
    let manifest = read(node, sink);
    if manifest.is_none() && sink.problems.borrow().is_empty() {
        let top = At::top(node, sink);
        top.refuse::<()>("cannot be read", "report this object as a defect");
    }
    manifest
}

fn read(node: &Node, sink: &Sink) -> Option<Manifest> {
    *sink.object.borrow_mut() = None;
    let warned = sink.warnings.borrow().len();
    let top = At::top(node, sink);
    if !matches!(node.value, Value::Map(_)) {
        return top.refuse("is no object", "write apiVersion, kind, metadata and spec");
    }
    let mut fields = top.fields();
    let api_version = fields.need("apiVersion", "write it, such as v1")?.text()?;
    let kind = fields.need("kind", "write it, such as HTTPRoute")?.text()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(kind) = Kind::from_api(group, version, kind) else {
        let message = format!("{api_version}, kind {kind}, is not served");
        let remedy = foreign::remedy(api_version, kind);
        let remedy = remedy.unwrap_or_else(|| Kind::remedy(api_version, kind));
        return top.refuse(message, remedy);
    };
    let metadata = fields.need("metadata", "write metadata with a name")?;
    let meta = meta::read(kind, api_version, &metadata);
    fields.pass(&["status"]);
    let spec = fields.need("spec", "write what the object should do");
    fields.finish();
    let spec = read_spec(&meta, &spec?, &metadata);
    Some(Manifest {
        spec: spec?,
        warnings: sink.warnings.borrow()[warned..].to_vec(),
        raw: node.to_json(),
        meta,
    })
}

fn read_spec(meta: &Meta, spec: &At<'_>, metadata: &At<'_>) -> Option<Spec> {
    match meta.kind {
        Kind::AuthorizationPolicy => {
            authorization_policy::read(meta, spec).map(Spec::AuthorizationPolicy)
        }
        Kind::HttpRoute => http_route::read(meta, spec, metadata).map(Spec::HttpRoute),
        Kind::MeshTlsAuthentication => {
            mesh_tls_authentication::read(meta, spec).map(Spec::MeshTlsAuthentication)
        }
        Kind::NetworkAuthentication => {
            network_authentication::read(spec).map(Spec::NetworkAuthentication)
        }
        Kind::Server => server::read(spec, metadata).map(Spec::Server),
        Kind::ServerAuthorization => {
            server_authorization::read(meta, spec).map(Spec::ServerAuthorization)
        }
        Kind::Service => service::read(spec, metadata).map(Spec::Service),
        Kind::TrafficSplit => traffic_split::read(meta, spec).map(Spec::TrafficSplit),
    }
}

#[cfg(test)]
mod tests;
