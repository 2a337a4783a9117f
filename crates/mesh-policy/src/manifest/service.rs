//! core/v1 `Service`: a name that clients call, and its logical ports.

use std::collections::BTreeMap;

use super::fields::{At, Fields, each, repeated};
use super::meta::labels;
use super::node::Value;
use super::resilience::{self, Resilience};
use crate::name::Label;

/// A service's logical ports; who serves it is a matter of registrations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its ports in their written order; never empty, no number and no name twice.
    pub ports: Vec<ServicePortSpec>,
    /// The labels of its workloads, for offline questions.
    pub selector: BTreeMap<String, String>,
    /// What its annotations say of all its requests.
    pub resilience: Resilience,
}

/// One logical port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortSpec {
    /// Its name, which `Server`s may refer to; always there when there are several ports.
    pub name: Option<String>,
    /// Its number.
    pub port: u16,
    /// What it speaks, as it is written: `http`, `kubernetes.io/h2c` or `grpc`.
    pub app_protocol: Option<String>,
}

const MOST_PORTS: usize = 128;

pub(super) fn read(at: &At<'_>, metadata: &At<'_>) -> Option<Service> {
    let resilience = resilience::read(metadata);
    let mut fields = at.fields();
    let items = fields.need_items("ports", MOST_PORTS, "write the port that clients call");
    let selector = fields.take("selector").map(|at| labels(&at));
    cluster_only(&mut fields);
    fields.finish();
    let items = items?;
    let ports = each(&items, port)?;
    if let Some(index) = repeated(ports.iter().map(|port| port.port)) {
        let number = ports[index].port;
        return items[index].refuse(format!("names port {number} again"), "name it once");
    }
    // Kubernetes' rule: a port among several is referred to by its name.
    if ports.len() > 1
        && let Some(index) = ports.iter().position(|port| port.name.is_none())
    {
        return items[index].refuse("has no name, and the service has several ports", "name it");
    }
    if let Some(index) = repeated(ports.iter().map(|port| &port.name)) {
        return items[index].refuse("has the name of another port", "give it its own");
    }
    Some(Service {
        ports,
        selector: selector.unwrap_or_default(),
        resilience,
    })
}

/// Fields with a closed list of values, and whether the mesh does what each asks for.
const CHOICES: [(&str, &[(&str, bool)]); 4] = [
    (
        "type",
        &[
            ("ClusterIP", true),
            ("NodePort", true),
            ("LoadBalancer", true),
            ("ExternalName", false),
        ],
    ),
    ("sessionAffinity", &[("None", true), ("ClientIP", false)]),
    (
        "internalTrafficPolicy",
        &[("Cluster", true), ("Local", false)],
    ),
    (
        "externalTrafficPolicy",
        &[("Cluster", true), ("Local", true)],
    ),
];

/// What a cluster writes into every Service and what says how it routes packets: here
/// processes find each other through discovery, so that only a wish that would be
/// disappointed is refused, and one that cannot matter is pointed at.
fn cluster_only(fields: &mut Fields<'_>) {
    fields.pass(&["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
    for (name, choices) in CHOICES {
        if let Some(at) = fields.take(name)
            && at.one_of(choices) == Some(false)
        {
            let remedy = format!("write {} or leave it out", choices[0].0);
            at.refuse::<()>("is not supported in this version", remedy);
        }
    }
    if let Some(at) = fields.take("publishNotReadyAddresses")
        && at.boolean() == Some(true)
    {
        at.refuse::<()>("is not supported in this version", "leave it out");
    }
    fields.not_yet(&[
        "externalIPs",
        "externalName",
        "sessionAffinityConfig",
        "trafficDistribution",
    ]);
    for name in [
        "allocateLoadBalancerNodePorts",
        "healthCheckNodePort",
        "loadBalancerClass",
        "loadBalancerIP",
        "loadBalancerSourceRanges",
    ] {
        if let Some(at) = fields.take(name) {
            at.warn(
                "has no effect: clients outside the mesh are not reached",
                "leave it out",
            );
        }
    }
}

fn port(at: &At<'_>) -> Option<ServicePortSpec> {
    let mut fields = at.fields();
    let port = fields.need("port", "write the port that clients call");
    let name = fields.take("name").map(|at| at.parse::<Label>());
    let app_protocol = fields.take("appProtocol").map(|at| protocol(&at));
    let transport = match fields.take("protocol") {
        Some(at) => at.one_of(&[("TCP", ())]),
        None => Some(()),
    };
    let target = fields.take("targetPort");
    fields.pass(&["nodePort"]);
    fields.finish();
    let port = port.and_then(|at| at.port());
    if let (Some(at), Some(port)) = (target, port)
        && at.node.value != Value::Integer(port.into())
    {
        at.warn(
            "has no effect: each process tells where its socket is bound",
            "leave it out",
        );
    }
    transport?;
    Some(ServicePortSpec {
        name: match name {
            Some(name) => Some(name?.to_string()),
            None => None,
        },
        port: port?,
        app_protocol: match app_protocol {
            Some(protocol) => Some(protocol?),
            None => None,
        },
    })
}

/// What the mesh carries; every other protocol would be read as HTTP and fail.
fn protocol(at: &At<'_>) -> Option<String> {
    let known = ["http", "kubernetes.io/h2c", "grpc"].map(|name| (name, name));
    at.one_of(&known).map(ToOwned::to_owned)
}
