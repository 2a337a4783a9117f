//! policy.linkerd.io `Server`: one port of the workloads it selects.

use std::fmt;
use std::time::Duration;

use super::fields::{At, Fields};
use super::meta::REQUEST_BODY_IDLE;
use super::policy_name::{self, DefaultPolicy};
use super::selector::{self, LabelSelector};
use crate::duration;
use crate::name::Label;
use crate::plan::endpoint::HttpVersions;

/// A port that policies can be attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Which workloads.
    pub selector: LabelSelector,
    /// Which of their ports: the logical one, or the container's as a Service names it.
    pub port: PortSelector,
    /// Which versions of HTTP it speaks.
    pub http: HttpVersions,
    /// Who may call where no authorization says otherwise.
    pub access_policy: DefaultPolicy,
    /// How long a request body may be silent; zero means for ever, `None` the process's default.
    pub request_body_idle: Option<Duration>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSelector {
    /// The number.
    Number(u16),
    /// The name.
    Name(String),
}

impl fmt::Display for PortSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

pub(super) fn read(at: &At<'_>, metadata: &At<'_>) -> Option<Server> {
    let mut fields = at.fields();
    let selector = selector(&mut fields);
    let port = fields.need("port", "write a port of the selected workloads");
    let protocol = fields.take("proxyProtocol");
    let access_policy = fields.take("accessPolicy");
    fields.finish();
    let http = match protocol {
        Some(at) => versions(&at),
        None => Some(HttpVersions::Both),
    };
    let access_policy = match access_policy {
        Some(at) => policy_name::read(&at),
        None => Some(DefaultPolicy::default()),
    };
    let port = port.and_then(|at| port_selector(&at));
    let request_body_idle = annotation(metadata).map(|at| idle(&at));
    Some(Server {
        selector: selector?,
        port: port?,
        http: http?,
        access_policy: access_policy?,
        request_body_idle: match request_body_idle {
            Some(idle) => Some(idle?),
            None => None,
        },
    })
}

/// The workloads: pods in Kubernetes, the joined processes here.
fn selector(fields: &mut Fields<'_>) -> Option<LabelSelector> {
    const EVERY: &str = "write {} to select every workload";
    let Some(external) = fields.take("externalWorkloadSelector") else {
        let at = fields.need("podSelector", EVERY)?;
        let selector = selector::read(&at)?;
        if selector == LabelSelector::default() {
            at.warn(
                "selects EVERY workload of the namespace",
                "name labels if some of them are meant",
            );
        }
        return Some(selector);
    };
    let read = selector::read(&external);
    if let Some(pods) = fields.take("podSelector") {
        return pods.refuse(
            "stands beside externalWorkloadSelector",
            "write one of them",
        );
    }
    external.warn(
        "selects ExternalWorkloads, which this version does not serve: the Server guards NOTHING",
        "select joined processes with podSelector",
    );
    read.map(|_| LabelSelector::nothing())
}

fn versions(at: &At<'_>) -> Option<HttpVersions> {
    let known = [
        ("unknown", Some(HttpVersions::Both)),
        ("HTTP/1", Some(HttpVersions::Http1)),
        ("HTTP/2", Some(HttpVersions::Http2)),
        ("gRPC", Some(HttpVersions::Http2)),
        ("opaque", None),
        ("TLS", None),
    ];
    let versions = at.one_of(&known)?;
    if versions.is_none() {
        at.warn(
            "has no effect: the port carries HTTP, and who may call is decided for each request",
            "write unknown, HTTP/1, HTTP/2 or gRPC",
        );
    }
    Some(versions.unwrap_or(HttpVersions::Both))
}

pub(super) fn port_selector(at: &At<'_>) -> Option<PortSelector> {
    if let super::node::Value::Text(name) = &at.node.value {
        // A port's name is a label with a letter in it (RFC 6335): digits alone would name
        // nothing, and leave the port that was meant without its Server.
        if name.bytes().all(|b| b.is_ascii_digit()) {
            return at.refuse(
                format!("{name:?} is text, and so the name of a port"),
                "write the number without quotes or leading zeros",
            );
        }
        let name: Label = match name.parse() {
            Ok(name) => name,
            Err(error) => return at.refuse(error, ""),
        };
        return Some(PortSelector::Name(name.to_string()));
    }
    at.port().map(PortSelector::Number)
}

fn annotation<'a>(metadata: &At<'a>) -> Option<At<'a>> {
    let node = metadata.node.get("annotations")?.get(REQUEST_BODY_IDLE)?;
    Some(At {
        node,
        path: format!("{}.annotations[{REQUEST_BODY_IDLE:?}]", metadata.path),
        sink: metadata.sink,
    })
}

fn idle(at: &At<'_>) -> Option<Duration> {
    let text = at.text()?;
    if text == "off" {
        return Some(Duration::ZERO);
    }
    match duration::parse(text) {
        Ok(idle) if idle.is_zero() => at.refuse("leaves no time at all", "write off for no limit"),
        Ok(idle) => Some(idle),
        Err(error) => at.refuse(error, "or off"),
    }
}
