//! One answer and its decisions, for people and for programs.

use std::collections::BTreeMap;

use mesh_core::outbound::Decided;
use mesh_policy::identity::Identity;
use mesh_policy::name::ObjectRef;
use serde_json::{Value, json};

use super::request::Sample;

/// The answer as `curl -i` shows one.
pub(super) fn answer(sample: &Sample) -> Vec<u8> {
    let mut out = format!("{:?} {}\n", sample.version, sample.status).into_bytes();
    for (name, value) in &sample.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(&sample.body);
    if !sample.body.is_empty() && !sample.body.ends_with(b"\n") {
        out.push(b'\n');
    }
    out
}

/// What was decided, line by line.
pub(super) fn trace(sample: &Sample, caller: &Identity) -> Vec<String> {
    let decided = &sample.decided;
    let none = || "-".to_owned();
    let rule = decided.rule.as_ref().map(|rule| match &rule.name {
        Some(name) => format!(", rule {} ({name})", rule.index),
        None => format!(", rule {}", rule.index),
    });
    let route = decided.route.as_ref().map(|route| match written(route) {
        Some(route) => {
            let rule = rule.unwrap_or_default();
            format!("{} {}/{}{rule}", route.kind, route.namespace, route.name)
        }
        None => "default: nobody wrote one, everything goes to the service itself".to_owned(),
    });
    let tls = decided.tls.as_ref();
    let agreed = tls.map(|tls| format!("{} {} {}", tls.version, tls.suite, tls.group));
    let mut lines = vec![
        ("caller", Some(caller.to_string())),
        ("service", decided.port.as_ref().map(ToString::to_string)),
        ("route", route),
        ("backend", decided.backend.as_ref().map(ToString::to_string)),
        ("endpoint", decided.endpoint.map(|at| at.to_string())),
        ("peer", peer(decided)),
        ("tls", agreed),
        ("attempts", Some(decided.attempts.to_string())),
        ("latency", Some(format!("{:.1} ms", milliseconds(sample)))),
    ];
    if let Some(reason) = sample.reason() {
        lines.push(("answered by", Some(format!("the mesh: {reason}"))));
    }
    if let Some((server, reason)) = sample.denied_by() {
        lines.push(("denied by", Some(format!("{server}: reason {reason}"))));
    }
    if let Some(broken) = &sample.broken {
        lines.push(("body", Some(format!("not whole: {broken}"))));
    }
    let lines = lines.into_iter();
    lines
        .map(|(what, value)| format!("* {what:<12}{}", value.unwrap_or_else(none)))
        .collect()
}

/// The whole sample, in the form that scripts read.
pub(super) fn json(sample: &Sample) -> Value {
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &sample.headers {
        let values = headers.entry(name.as_str()).or_default();
        values.push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let decided = &sample.decided;
    let route = decided.route.as_ref().and_then(written);
    let rule = decided.rule.as_ref().filter(|_| route.is_some());
    json!({
        "status": sample.status.as_u16(),
        "headers": headers,
        "body": String::from_utf8_lossy(&sample.body),
        "route": route.map(|route| json!({
            "kind": route.kind,
            "namespace": route.namespace,
            "name": route.name,
        })),
        "rule": rule.map(|rule| json!({"index": rule.index, "name": rule.name})),
        "backend": decided.backend,
        "endpoint": decided.endpoint,
        "peer": peer(decided),
        "tls": decided.tls.as_ref().map(|tls| json!({
            "version": tls.version,
            "suite": tls.suite,
            "group": tls.group,
        })),
        "attempts": decided.attempts,
        "latency_ms": milliseconds(sample),
    })
}

/// The route, unless it is the built-in one that nobody wrote.
fn written(route: &ObjectRef) -> Option<&ObjectRef> {
    (route.kind != "default").then_some(route)
}

fn peer(decided: &Decided) -> Option<String> {
    let peer = decided.tls.as_ref()?.peer.as_ref()?;
    Some(peer.to_string())
}

fn milliseconds(sample: &Sample) -> f64 {
    (sample.latency.as_secs_f64() * 1e6).round() / 1e3
}
