//! What of an object stands in a table, between its name and its age.

use mesh_policy::manifest::Kind;
use serde_json::Value;

/// A column of a kind.
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) cell: fn(&Value) -> String,
    /// Shown with `-o wide` alone.
    pub(super) wide: bool,
}

const fn shown(head: &'static str, cell: fn(&Value) -> String) -> Column {
    let wide = false;
    Column { head, cell, wide }
}

const fn wide(head: &'static str, cell: fn(&Value) -> String) -> Column {
    let wide = true;
    Column { head, cell, wide }
}

const SERVICE: &[Column] = &[
    shown("PORT(S)", |o| {
        each(&o["spec"]["ports"], |p| say(&p["port"]))
    }),
    wide("SELECTOR", |o| pairs(&o["spec"]["selector"])),
];
const HTTP_ROUTE: &[Column] = &[
    shown("SERVICES", |o| each(&o["spec"]["parentRefs"], reference)),
    shown("BACKENDS", each_rule),
    wide("RULES", |o| count(&o["spec"]["rules"])),
];
const TRAFFIC_SPLIT: &[Column] = &[
    shown("SERVICE", |o| say(&o["spec"]["service"])),
    shown("BACKENDS", |o| {
        each(&o["spec"]["backends"], |b| weighted(&b["service"], b))
    }),
];
const SERVER: &[Column] = &[
    shown("PORT", |o| say(&o["spec"]["port"])),
    shown("PROTOCOL", |o| say(&o["spec"]["proxyProtocol"])),
    shown("ACCESS-POLICY", |o| say(&o["spec"]["accessPolicy"])),
    wide("SELECTOR", |o| {
        pairs(&o["spec"]["podSelector"]["matchLabels"])
    }),
];
const AUTHORIZATION_POLICY: &[Column] = &[
    shown("TARGET", |o| target(&o["spec"]["targetRef"])),
    shown("REQUIRES", |o| {
        each(&o["spec"]["requiredAuthenticationRefs"], target)
    }),
];
const MESH_TLS_AUTHENTICATION: &[Column] = &[
    shown("IDENTITIES", |o| each(&o["spec"]["identities"], say)),
    shown("ACCOUNTS", |o| each(&o["spec"]["identityRefs"], target)),
];
const NETWORK_AUTHENTICATION: &[Column] = &[shown("NETWORKS", |o| {
    each(&o["spec"]["networks"], |n| say(&n["cidr"]))
})];
const SERVER_AUTHORIZATION: &[Column] = &[shown("SERVER", |o| {
    match say(&o["spec"]["server"]["name"]) {
        name if name.is_empty() => "(selected)".to_owned(),
        name => name,
    }
})];

/// The columns of a kind.
pub(super) const fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::AuthorizationPolicy => AUTHORIZATION_POLICY,
        Kind::HttpRoute => HTTP_ROUTE,
        Kind::MeshTlsAuthentication => MESH_TLS_AUTHENTICATION,
        Kind::NetworkAuthentication => NETWORK_AUTHENTICATION,
        Kind::Server => SERVER,
        Kind::ServerAuthorization => SERVER_AUTHORIZATION,
        Kind::Service => SERVICE,
        Kind::TrafficSplit => TRAFFIC_SPLIT,
    }
}

/// A value as one word; nothing for what is absent.
fn say(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn each(list: &Value, word: impl Fn(&Value) -> String) -> String {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<_> = items.iter().map(word).collect();
    words.join(",")
}

fn pairs(map: &Value) -> String {
    let fields = map.as_object().into_iter().flatten();
    let pairs: Vec<_> = fields.map(|(k, v)| format!("{k}={}", say(v))).collect();
    pairs.join(",")
}

fn count(list: &Value) -> String {
    list.as_array().map_or(0, Vec::len).to_string()
}

/// `name`, or `name:port`.
fn reference(value: &Value) -> String {
    match &value["port"] {
        Value::Null => say(&value["name"]),
        port => format!("{}:{port}", say(&value["name"])),
    }
}

/// `name=weight`; a weight that is not said is 1.
fn weighted(name: &Value, backend: &Value) -> String {
    match &backend["weight"] {
        Value::Null => say(name),
        weight => format!("{}={}", say(name), say(weight)),
    }
}

/// The backends of the rules, a semicolon between one rule and the next.
fn each_rule(route: &Value) -> String {
    let rules = route["spec"]["rules"].as_array();
    let rules = rules.map(Vec::as_slice).unwrap_or_default();
    let rules = rules.iter();
    let words: Vec<_> = rules
        .map(|rule| each(&rule["backendRefs"], |b| weighted(&b["name"], b)))
        .collect();
    words.join("; ")
}

fn target(value: &Value) -> String {
    format!("{}/{}", say(&value["kind"]), say(&value["name"]))
}
