//! core/v1 `Service`: a name that clients call, and its logical ports.

use std::collections::BTreeMap;

use super::fields::{At, Fields, cut, each, repeated};
use super::meta::labels;
use super::resilience::{self, Resilience};
use super::server::{PortSelector, port_selector};
use crate::name::Label;

/// A service's logical ports; who serves it is a matter of registrations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its TCP ports in their written order, no number and no name twice; empty for a Service
    /// without any, whose ports are those that its processes serve.
    pub ports: Vec<ServicePortSpec>,
    /// The labels of its workloads: `Server`s know their ports as it does.
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
    /// The container's port behind it, by which `Server`s may name it; `None` means its own number.
    pub target: Option<PortSelector>,
    /// What it speaks, where the mesh knows that: `http`, `kubernetes.io/h2c` or `grpc`.
    pub app_protocol: Option<String>,
}

/// What Kubernetes tells apart: one number may be there once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Tcp,
    Udp,
    Sctp,
}

const MOST_PORTS: usize = 128;
const PORTS: &str = "write the port that clients call";

pub(super) fn read(at: &At<'_>, metadata: &At<'_>) -> Option<Service> {
    let resilience = resilience::read(metadata);
    let mut fields = at.fields();
    // Kubernetes' rule: a headless Service and a name of another host need no port.
    let portless =
        at.node.text("clusterIP") == Some("None") || at.node.text("type") == Some("ExternalName");
    let items = match portless {
        true => Some(fields.items("ports", MOST_PORTS)),
        false => fields.need_items("ports", MOST_PORTS, PORTS),
    };
    let selector = fields.take("selector").map(|at| labels(&at));
    cluster_only(&mut fields);
    fields.finish();
    let ports = ports(&items?)?;
    Some(Service {
        ports,
        selector: selector.unwrap_or_default(),
        resilience,
    })
}

/// The TCP ports; the others are checked with them, and carry nothing here.
fn ports(items: &[At<'_>]) -> Option<Vec<ServicePortSpec>> {
    let ports = each(items, port)?;
    let numbers = ports
        .iter()
        .map(|(transport, port)| (*transport, port.port));
    if let Some(index) = repeated(numbers) {
        let number = ports[index].1.port;
        return items[index].refuse(format!("names port {number} again"), "name it once");
    }
    // Kubernetes' rule: a port among several is referred to by its name.
    if ports.len() > 1
        && let Some(index) = ports.iter().position(|(_, port)| port.name.is_none())
    {
        return items[index].refuse("has no name, and the service has several ports", "name it");
    }
    if let Some(index) = repeated(ports.iter().map(|(_, port)| &port.name)) {
        return items[index].refuse("has the name of another port", "give it its own");
    }
    let tcp = ports.into_iter();
    let tcp = tcp.filter(|(transport, _)| *transport == Transport::Tcp);
    Some(tcp.map(|(_, port)| port).collect())
}

/// A value of a closed list, and why it has no effect here, if it has none.
type Choice = (&'static str, Option<&'static str>);

/// Fields with a closed list of values.
const CHOICES: [(&str, &[Choice]); 4] = [
    (
        "type",
        &[
            ("ClusterIP", None),
            ("NodePort", None),
            ("LoadBalancer", None),
            (
                "ExternalName",
                Some("calls go to the processes that serve this name, and to no other host"),
            ),
        ],
    ),
    (
        "sessionAffinity",
        &[
            ("None", None),
            (
                "ClientIP",
                Some("each request picks its endpoint independently"),
            ),
        ],
    ),
    (
        "internalTrafficPolicy",
        &[
            ("Cluster", None),
            ("Local", Some("endpoints of every node are called")),
        ],
    ),
    (
        "externalTrafficPolicy",
        &[("Cluster", None), ("Local", None)],
    ),
];

const NO_CLUSTER: &str = "processes find each other through discovery";
const NO_OUTSIDE: &str = "clients outside the mesh are not reached";

/// What a cluster writes into every Service and what says how it routes packets: here
/// processes find each other through discovery, so that a wish that would be disappointed is
/// pointed at, and what cannot matter is passed over.
fn cluster_only(fields: &mut Fields<'_>) {
    fields.pass(&["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
    for (name, choices) in CHOICES {
        if let Some(at) = fields.take(name)
            && let Some(Some(why)) = at.one_of(choices)
        {
            at.warn(format!("has no effect: {why}"), "leave it out");
        }
    }
    if let Some(at) = fields.take("publishNotReadyAddresses")
        && at.boolean() == Some(true)
    {
        at.warn(
            "has no effect: a process is called once it is ready",
            "leave it out",
        );
    }
    fields.without_effect(
        &["externalIPs", "externalName", "sessionAffinityConfig"],
        NO_CLUSTER,
    );
    fields.without_effect(&["trafficDistribution"], NO_CLUSTER);
    fields.without_effect(
        &[
            "allocateLoadBalancerNodePorts",
            "healthCheckNodePort",
            "loadBalancerClass",
            "loadBalancerIP",
        ],
        NO_OUTSIDE,
    );
    if let Some(at) = fields.take("loadBalancerSourceRanges") {
        at.warn(
            "is NOT ENFORCED: who may call is a matter of policies",
            "name the networks in a NetworkAuthentication",
        );
    }
}

fn port(at: &At<'_>) -> Option<(Transport, ServicePortSpec)> {
    let mut fields = at.fields();
    let port = fields.need("port", PORTS);
    let name = fields.take("name").map(|at| at.parse::<Label>());
    let app_protocol = fields.take("appProtocol").and_then(|at| protocol(&at));
    let transport = match fields.take("protocol") {
        Some(at) => transport(&at),
        None => Some(Transport::Tcp),
    };
    let target = fields.take("targetPort").map(|at| port_selector(&at));
    fields.pass(&["nodePort"]);
    fields.finish();
    let port = port.and_then(|at| at.port());
    let port = ServicePortSpec {
        name: match name {
            Some(name) => Some(name?.to_string()),
            None => None,
        },
        port: port?,
        target: match target {
            Some(target) => Some(target?),
            None => None,
        },
        app_protocol,
    };
    Some((transport?, port))
}

fn transport(at: &At<'_>) -> Option<Transport> {
    let transport = at.one_of(&[
        ("TCP", Transport::Tcp),
        ("UDP", Transport::Udp),
        ("SCTP", Transport::Sctp),
    ])?;
    if transport != Transport::Tcp {
        at.warn(
            "is a protocol that the mesh does not carry: this port is left out",
            "leave the port out, or reach it without the mesh",
        );
    }
    Some(transport)
}

/// What the mesh carries; what another protocol means is known to its users alone.
fn protocol(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    if ["http", "kubernetes.io/h2c", "grpc"].contains(&text) {
        return Some(text.to_owned());
    }
    at.warn(
        format!(
            "{:?} is no protocol that the mesh knows, and has no effect: the port carries HTTP",
            cut(text)
        ),
        "write http, kubernetes.io/h2c or grpc, or leave it out",
    );
    None
}
