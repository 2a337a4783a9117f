//! core/v1 `Service`: a name that clients call, and its logical ports.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::At;
use super::meta::texts;
use crate::name::Label;

/// A service's logical ports; who serves it is a matter of registrations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its ports in their written order.
    pub ports: Vec<ServicePortSpec>,
    /// The labels of its workloads, for offline questions.
    pub selector: BTreeMap<String, String>,
}

/// One logical port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortSpec {
    /// Its name, which `Server`s may refer to.
    pub name: Option<String>,
    /// Its number.
    pub port: u16,
    /// What it speaks, as it is written.
    pub app_protocol: Option<String>,
}

pub(super) fn read(at: &At<'_>) -> Option<Service> {
    let mut fields = at.fields();
    let ports = fields
        .take("ports")
        .map(|at| at.list(128))
        .unwrap_or_default();
    let selector = fields.take("selector").map(|at| texts(&at));
    // They say how a cluster routes packets, which is nothing that happens here.
    fields.pass(&[
        "allocateLoadBalancerNodePorts",
        "clusterIP",
        "clusterIPs",
        "internalTrafficPolicy",
        "ipFamilies",
        "ipFamilyPolicy",
        "publishNotReadyAddresses",
        "sessionAffinity",
        "type",
    ]);
    fields.not_yet(&[
        "externalName",
        "externalIPs",
        "sessionAffinityConfig",
        "trafficDistribution",
    ]);
    fields.finish();
    let ports: Vec<_> = ports.iter().filter_map(port).collect();
    let mut seen = BTreeSet::new();
    for port in &ports {
        if !seen.insert(port.port) {
            return at.refuse(format!("names port {} twice", port.port), "name it once");
        }
    }
    Some(Service {
        ports,
        selector: selector.unwrap_or_default(),
    })
}

fn port(at: &At<'_>) -> Option<ServicePortSpec> {
    let mut fields = at.fields();
    let port = fields.need("port", "write the port that clients call");
    let name = fields.take("name").and_then(|at| at.parse::<Label>());
    let app_protocol = fields.take("appProtocol").and_then(|at| at.text());
    if let Some(at) = fields.take("protocol") {
        at.one_of(&[("TCP", ())])?;
    }
    // Where a socket is bound is what a process registers.
    fields.pass(&["targetPort", "nodePort"]);
    fields.finish();
    Some(ServicePortSpec {
        name: name.map(|name| name.to_string()),
        port: port?.port()?,
        app_protocol: app_protocol.map(ToOwned::to_owned),
    })
}
