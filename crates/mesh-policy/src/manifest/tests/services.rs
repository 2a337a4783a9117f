//! `Service` and `TrafficSplit`: what is refused, in which words, and what is read.

use super::*;

const SERVICE: &str = "v1 Service";

#[test]
fn a_service_that_could_not_be_called_as_it_says_is_refused() {
    let table = [
        (
            "{}",
            "7: spec.ports: is missing, write the port that clients call",
        ),
        (
            "{ ports: [] }",
            "16: spec.ports: is empty, write the port that clients call",
        ),
        (
            "{ ports: [{ port: 80 }, { port: 81, name: b }] }",
            "17: spec.ports[0]: has no name, and the service has several ports, name it",
        ),
        (
            "{ ports: [{ port: 80, name: a }, { port: 80, name: b }] }",
            "40: spec.ports[1]: names port 80 again, name it once",
        ),
        (
            "{ ports: [{ port: 80, name: a }, { port: 81, name: a }] }",
            "40: spec.ports[1]: has the name of another port, give it its own",
        ),
        (
            "{ ports: [{ port: 80 }], selector: { a: 1 } }",
            "47: spec.selector[\"a\"]: is a number, not text, put it in quotes",
        ),
        (
            "{ ports: [{ port: 80 }], selector: { a: b c } }",
            "42: spec.selector: gives \"a\" the value \"b c\", write at most 63 letters, digits and inner '-', '_' or '.'",
        ),
        (
            "{ prots: [{ port: 80 }] }",
            "7: spec.ports: is missing, write the port that clients call\n9: spec.prots: is no field that is known here, write ports",
        ),
    ];
    refused(SERVICE, &table);
}

#[test]
fn what_a_cluster_adds_to_a_service_is_accepted() {
    let (spec, warnings) = accepted(
        SERVICE,
        "{ type: ClusterIP, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ipFamilies: [IPv4],
           ipFamilyPolicy: SingleStack, internalTrafficPolicy: Cluster, sessionAffinity: None,
           selector: { app: api }, ports: [{ name: http, port: 80, targetPort: 80, protocol: TCP },
           { name: grpc, port: 81, targetPort: web, appProtocol: kubernetes.io/h2c }] }",
    );
    let Spec::Service(service) = spec else {
        panic!("a service");
    };
    assert_eq!(service.ports[0].name.as_deref(), Some("http"));
    assert_eq!(service.ports[1].port, 81);
    let protocol = service.ports[1].app_protocol.as_deref();
    assert_eq!(protocol, Some("kubernetes.io/h2c"));
    assert_eq!(service.selector["app"], "api");
    assert_eq!(service.ports[0].target, Some(PortSelector::Number(80)));
    assert_eq!(
        service.ports[1].target,
        Some(PortSelector::Name("web".into()))
    );
    assert!(warnings.is_empty(), "{warnings:#?}");
}

fn service(spec: &str) -> (Service, Vec<String>) {
    match accepted(SERVICE, spec) {
        (Spec::Service(service), warnings) => (service, warnings),
        other => panic!("a service, not {other:?}"),
    }
}

#[test]
fn what_has_no_effect_on_a_service_is_read_with_a_warning() {
    let ports = "ports: [{ port: 80 }]";
    let table = [
        ("type: ExternalName", "spec.type: has no effect"),
        ("externalName: a.b", "spec.externalName: has no effect"),
        (
            "sessionAffinity: ClientIP",
            "spec.sessionAffinity: has no effect",
        ),
        (
            "sessionAffinityConfig: {}",
            "spec.sessionAffinityConfig: has no effect",
        ),
        (
            "internalTrafficPolicy: Local",
            "spec.internalTrafficPolicy: has no effect",
        ),
        (
            "publishNotReadyAddresses: true",
            "spec.publishNotReadyAddresses: has no effect",
        ),
        ("externalIPs: [1.2.3.4]", "spec.externalIPs: has no effect"),
        (
            "trafficDistribution: PreferClose",
            "spec.trafficDistribution: has no effect",
        ),
        (
            "loadBalancerSourceRanges: [10.0.0.0/8]",
            "spec.loadBalancerSourceRanges: is NOT ENFORCED",
        ),
    ];
    for (field, told) in table {
        let (_, warnings) = service(&format!("{{ {ports}, {field} }}"));
        assert_eq!(warnings.len(), 1, "{field}: {warnings:#?}");
        assert!(warnings[0].contains(told), "{field}: {warnings:#?}");
    }
}

#[test]
fn a_protocol_that_the_mesh_does_not_know_changes_nothing() {
    for protocol in ["kubernetes.io/ws", "mysql", "https"] {
        let (read, warnings) = service(&format!(
            "{{ ports: [{{ port: 80, appProtocol: {protocol} }}] }}"
        ));
        assert_eq!(read.ports[0].app_protocol, None);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].contains(&format!("appProtocol: {protocol:?} is no protocol")),
            "{warnings:#?}"
        );
    }
}

#[test]
fn a_port_of_another_transport_is_left_out_and_one_number_may_be_both() {
    let (read, warnings) = service(
        "{ ports: [{ name: dns, port: 53, protocol: UDP }, { name: dns-tcp, port: 53, protocol: TCP }] }",
    );
    let ports: Vec<_> = read.ports.iter().map(|port| port.name.as_deref()).collect();
    assert_eq!(ports, [Some("dns-tcp")]);
    assert!(warnings[0].contains("ports[0].protocol: is a protocol that the mesh does not carry"));
    let found = problems(&document(
        SERVICE,
        "{ ports: [{ port: 1, protocol: QUIC }] }",
    ));
    assert!(found[0].contains("\"QUIC\" is not known"), "{found:?}");
}

#[test]
fn a_headless_service_and_a_name_of_another_host_need_no_port() {
    for spec in [
        "{ clusterIP: None }",
        "{ type: ExternalName, externalName: a.example }",
    ] {
        assert_eq!(service(spec).0.ports, []);
    }
}

#[test]
fn a_split_of_quantities_that_cannot_be_meant_is_refused() {
    let table = [
        (
            "{ service: api, backends: [] }",
            "33: spec.backends: is empty, name the services that answer",
        ),
        (
            "{ service: api.other, backends: [{ service: a, weight: 1 }] }",
            "18: spec.service: is in another namespace than the split, split services of one namespace",
        ),
        (
            "{ service: api.svc.cluster.local, backends: [{ service: a, weight: 1 }] }",
            "18: spec.service: \"api.svc.cluster.local\" is no service, write its name, such as api",
        ),
        (
            "{ service: api, backends: [{ service: a, weight: 1 }, { service: a.shop, weight: 1 }] }",
            "61: spec.backends[1]: names the same service again, give it one share",
        ),
        (
            "{ service: api, backends: [{ service: a, weight: -1 }] }",
            "56: spec.backends[0].weight: \"-1\" is no weight, write a quantity such as 950, 500m or 1k",
        ),
        (
            "{ service: api, backends: [{ service: a, weight: 5x }] }",
            "56: spec.backends[0].weight: \"5x\" is no weight, write a quantity such as 950, 500m or 1k",
        ),
        (
            "{ service: api, backends: [{ service: a }] }",
            "34: spec.backends[0].weight: is missing, give it a share",
        ),
        (
            "{ service: api, backends: [{ service: a, weight: 1n }, { service: b, weight: 1E }] }",
            "33: spec.backends: has shares whose ratio no two numbers of 32 bits have, write smaller or rounder numbers",
        ),
        (
            "{ service: api, matches: [], backends: [{ service: a, weight: 1 }] }",
            "23: spec.matches: is no field that is known here, the fields here are service, backends",
        ),
    ];
    refused("split.smi-spec.io/v1alpha1 TrafficSplit", &table);
}

#[test]
fn a_split_of_later_versions_has_whole_weights_and_no_matches_yet() {
    let table = [
        (
            "{ service: api, backends: [{ service: a, weight: 500m }] }",
            "56: spec.backends[0].weight: is text, not a number, write a whole number from 0 to 4294967295",
        ),
        (
            "{ service: api, backends: [{ service: a, weight: 1.5 }] }",
            "56: spec.backends[0].weight: 1.5 is not a whole number, write a whole number from 0 to 4294967295",
        ),
        (
            "{ service: api, backends: [{ service: a, weight: 4294967296 }] }",
            "56: spec.backends[0].weight: 4294967296 is out of range, write a whole number from 0 to 4294967295",
        ),
        (
            "{ service: api, matches: [{ kind: HTTPRouteGroup, name: x }], backends: [{ service: a, weight: 1 }] }",
            "32: spec.matches: is not supported in this version, leave it out",
        ),
    ];
    refused("split.smi-spec.io/v1alpha4 TrafficSplit", &table);
}

fn split(version: &str, spec: &str) -> (TrafficSplit, Vec<String>) {
    let kind = format!("split.smi-spec.io/{version} TrafficSplit");
    match accepted(&kind, spec) {
        (Spec::TrafficSplit(split), warnings) => (split, warnings),
        other => panic!("a split, not {other:?}"),
    }
}

#[test]
fn a_split_names_its_services_shortly_or_in_full() {
    for name in ["api", "api.shop", "api.shop.svc.cluster.local"] {
        let spec = format!(
            "{{ service: {name}, backends: [{{ service: a, weight: 0.5 }}, {{ service: b, weight: 1 }}] }}"
        );
        let (read, warnings) = split("v1alpha1", &spec);
        assert_eq!(read.service.to_string(), "api.shop");
        let weights: Vec<_> = read.backends.iter().map(|(_, weight)| *weight).collect();
        assert_eq!((weights, warnings.len()), (vec![1, 2], 0));
    }
}

#[test]
fn a_split_that_sends_nothing_anywhere_is_pointed_at_in_every_version() {
    let spec = "{ service: api, backends: [{ service: a, weight: 0 }] }";
    for version in Kind::TrafficSplit.versions() {
        let (_, warnings) = split(version, spec);
        assert!(warnings[0].contains("weight 0"), "{version}: {warnings:?}");
    }
}
