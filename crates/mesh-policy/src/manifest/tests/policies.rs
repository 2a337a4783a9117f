//! The kinds that say who may call: what is refused, in which words, and what is read.

use std::collections::BTreeMap;

use super::*;
use crate::plan::endpoint::HttpVersions;

#[test]
fn a_server_that_selects_nothing_certain_is_refused() {
    let table = [
        (
            "{ port: 80 }",
            "7: spec.podSelector: is missing, write {} to select every workload",
        ),
        (
            "{ podSelector: {} }",
            "7: spec.port: is missing, write a port of the selected workloads",
        ),
        (
            "{ podSelector: {}, port: 0 }",
            "32: spec.port: 0 is out of range, write a whole number from 1 to 65535",
        ),
        (
            "{ podSelector: {}, port: HTTP }",
            "32: spec.port: \"HTTP\" is no name: write 1 to 63 lower-case letters, digits or inner '-', such as web-1",
        ),
        (
            "{ podSelector: {}, port: 80, proxyProtocol: HTTP2 }",
            "51: spec.proxyProtocol: \"HTTP2\" is not known, write HTTP/2",
        ),
        (
            "{ podSelector: {}, port: 80, accessPolicy: all-authentcated }",
            "50: spec.accessPolicy: \"all-authentcated\" is not known, write all-authenticated",
        ),
        (
            "{ podSelector: {}, externalWorkloadSelector: {}, port: 80 }",
            "22: spec.podSelector: stands beside externalWorkloadSelector, write one of them",
        ),
        (
            "{ podSelector: { app: a }, port: 80 }",
            "24: spec.podSelector.app: is no field that is known here, the fields here are matchLabels, matchExpressions",
        ),
        (
            "{ podSelector: { matchExpressions: [{ key: a, operator: Exists, values: [b] }] }, port: 80 }",
            "43: spec.podSelector.matchExpressions[0]: the operator and the values do not fit, give In and NotIn values, and Exists and DoesNotExist none",
        ),
        (
            "{ podSelector: { matchExpressions: [{ key: a, operator: In }] }, port: 80 }",
            "43: spec.podSelector.matchExpressions[0]: the operator and the values do not fit, give In and NotIn values, and Exists and DoesNotExist none",
        ),
        (
            "{ podSelector: { matchExpressions: [{ key: a, operator: Is, values: [b] }] }, port: 80 }",
            "63: spec.podSelector.matchExpressions[0].operator: \"Is\" is not known, write In",
        ),
    ];
    refused("policy.linkerd.io/v1beta3 Server", &table);
}

#[test]
fn a_policy_that_guards_or_requires_nothing_certain_is_refused() {
    let table = [
        (
            "{ targetRef: { group: policy.linkerd.io, kind: Server, name: s } }",
            "7: spec.requiredAuthenticationRefs: is missing, name what a client must show",
        ),
        (
            "{ targetRef: { kind: Namespace, name: other }, requiredAuthenticationRefs: [{ kind: ServiceAccount, name: a }] }",
            "20: spec.targetRef: names the namespace \"other\" from within \"shop\", name the policy's own namespace",
        ),
        (
            "{ targetRef: { kind: Server, name: s }, requiredAuthenticationRefs: [{ kind: ServiceAccount, name: a }] }",
            "20: spec.targetRef: names \"Server\" of group \"\", which a policy cannot guard, write group: policy.linkerd.io and kind: Server",
        ),
        (
            "{ targetRef: { group: policy.linkerd.io, kind: Server, name: '' }, requiredAuthenticationRefs: [{ kind: ServiceAccount, name: a }] }",
            "68: spec.targetRef.name: \"\" is no name, write lower-case letters, digits and inner '-'",
        ),
        (
            "{ targetRef: { kind: Namespace, name: shop }, requiredAuthenticationRefs: [{ kind: ServiceAccount, name: a }, { kind: ServiceAccount, name: b }] }",
            "81: spec.requiredAuthenticationRefs: names several of one sort, and all of them would have to hold, name at most one MeshTLSAuthentication or ServiceAccount and one NetworkAuthentication; write a second policy for alternatives",
        ),
        (
            "{ targetRef: { kind: Namespace, name: shop }, requiredAuthenticationRefs: [{ group: policy.linkerd.io, kind: NetworkAuthentication, name: a }, { group: policy.linkerd.io, kind: NetworkAuthentication, name: b }] }",
            "81: spec.requiredAuthenticationRefs: names several of one sort, and all of them would have to hold, name at most one MeshTLSAuthentication or ServiceAccount and one NetworkAuthentication; write a second policy for alternatives",
        ),
        (
            "{ targetRef: { kind: Namespace, name: shop }, requiredAuthenticationRefs: [{ kind: MeshTLSAuthentication, name: a }] }",
            "82: spec.requiredAuthenticationRefs[0]: names \"MeshTLSAuthentication\" of group \"\", which proves nothing of a client, name a MeshTLSAuthentication or NetworkAuthentication of group policy.linkerd.io, or a ServiceAccount",
        ),
        (
            "{ targetRef: { kind: Namespace, name: shop }, requiredAuthenticationRefs: [{ kind: ServiceAccount, name: A }] }",
            "112: spec.requiredAuthenticationRefs[0].name: \"A\" is no name: write 1 to 63 lower-case letters, digits or inner '-', such as web-1",
        ),
    ];
    refused("policy.linkerd.io/v1alpha1 AuthorizationPolicy", &table);
}

#[test]
fn what_names_no_identity_is_refused() {
    let table = [
        (
            "{ identities: web }",
            "21: spec.identities: is text, not a list, begin each item with '- '",
        ),
        (
            "{ identities: ['spiffe://Mesh.Local/x'] }",
            "22: spec.identities[0]: \"spiffe://Mesh.Local/x\" names no identity: \"spiffe://Mesh.Local/x\" is no SPIFFE ID: a trust domain holds only lower-case letters, digits, '.', '-' and '_'",
        ),
        (
            "{ identities: null }",
            "7: spec: names nobody, write the identities that are meant, or identities: ['*'] for any",
        ),
        (
            "{ identityRefs: [{ kind: Namespace, name: shop, group: x }] }",
            "62: spec.identityRefs[0].group: is not the group of a Namespace, write group: \"\"",
        ),
        (
            "{ identityRefs: [{ kind: Namespace }] }",
            "24: spec.identityRefs[0].name: is missing, name the namespace",
        ),
        (
            "{ identityRefs: [{ group: policy.linkerd.io, kind: NetworkAuthentication, name: x }] }",
            "24: spec.identityRefs[0]: names no identity, name a ServiceAccount or a Namespace",
        ),
    ];
    refused("policy.linkerd.io/v1alpha1 MeshTLSAuthentication", &table);
}

#[test]
fn networks_that_hold_nobody_are_refused() {
    let table = [
        (
            "{ networks: [{ cidr: 10.0.0.0/33 }] }",
            "28: spec.networks[0].cidr: \"10.0.0.0/33\" is no network, write one such as 10.0.0.0/8",
        ),
        (
            "{ networks: [{ cidr: 10.0.0.0/8, except: [11.0.0.0/8] }] }",
            "49: spec.networks[0].except[0]: 11.0.0.0/8 is not a smaller part of 10.0.0.0/8, except a smaller network inside the cidr",
        ),
        (
            "{ networks: [{ cidr: 10.0.0.0/8, except: [10.0.0.0/8] }] }",
            "49: spec.networks[0].except[0]: 10.0.0.0/8 is not a smaller part of 10.0.0.0/8, except a smaller network inside the cidr",
        ),
        (
            "{ networks: [{ except: [10.0.0.0/8] }] }",
            "20: spec.networks[0].cidr: is missing, write a network, such as 10.0.0.0/8",
        ),
    ];
    refused("policy.linkerd.io/v1alpha1 NetworkAuthentication", &table);
}

#[test]
fn an_authorization_that_leaves_open_who_may_call_is_refused() {
    let table = [
        (
            "{ server: {}, client: { unauthenticated: true } }",
            "17: spec.server: needs a name or a selector, write one of them",
        ),
        (
            "{ server: { name: s, selector: {} }, client: { unauthenticated: true } }",
            "17: spec.server: needs a name or a selector, write one of them",
        ),
        (
            "{ server: { name: s }, client: { unauthenticated: true, meshTLS: { identities: ['*'] } } }",
            "38: spec.client: is unauthenticated and has meshTLS, write one of them",
        ),
        (
            "{ server: { name: s }, client: { meshTLS: { identities: [], serviceAccounts: [] } } }",
            "49: spec.client.meshTLS: names nobody, write the identities that are meant, or identities: ['*'] for any",
        ),
        (
            "{ server: { name: s }, client: { meshTLS: { unauthenticatedTLS: true, identities: ['*'] } } }",
            "71: spec.client.meshTLS.unauthenticatedTLS: stands beside identities or serviceAccounts, leave it out",
        ),
        (
            "{ server: { name: s }, client: { networks: [], unauthenticated: true } }",
            "50: spec.client.networks: is empty, name at least one network, such as cidr: 10.0.0.0/8",
        ),
        (
            "{ server: { name: s }, client: { unauthenticated: 'yes' } }",
            "57: spec.client.unauthenticated: is text, not a boolean, write true or false",
        ),
        (
            "{ server: { name: s }, client: { meshTLS: { serviceAccounts: [{ name: A }] } } }",
            "77: spec.client.meshTLS.serviceAccounts[0].name: \"A\" is no name: write 1 to 63 lower-case letters, digits or inner '-', such as web-1",
        ),
    ];
    refused("policy.linkerd.io/v1beta1 ServerAuthorization", &table);
}

#[test]
fn what_lets_in_more_or_fewer_than_it_seems_to_is_read_with_a_warning() {
    let table = [
        (
            "v1beta3 Server",
            "{ podSelector: {}, port: 80 }",
            "spec.podSelector: selects EVERY workload",
        ),
        (
            "v1beta3 Server",
            "{ externalWorkloadSelector: {}, port: 80 }",
            "the Server guards NOTHING",
        ),
        (
            "v1beta3 Server",
            "{ podSelector: { matchLabels: { a: b } }, port: 80, proxyProtocol: opaque }",
            "spec.proxyProtocol: has no effect",
        ),
        (
            "v1beta3 Server",
            "{ podSelector: { matchLabels: { a: b } }, port: 80, proxyProtocol: TLS }",
            "spec.proxyProtocol: has no effect",
        ),
        (
            "v1alpha1 AuthorizationPolicy",
            "{ targetRef: { group: policy.linkerd.io, kind: HTTPRoute, name: r }, requiredAuthenticationRefs: [{ kind: ServiceAccount, name: a }] }",
            "spec.targetRef: names the HTTPRoute \"r\": routes on a Server are NOT ENFORCED",
        ),
        (
            "v1alpha1 NetworkAuthentication",
            "{ networks: [{ cidr: 10.0.0.1/8 }] }",
            "write 10.0.0.0/8",
        ),
        (
            "v1beta1 ServerAuthorization",
            "{ server: { name: s }, client: {} }",
            "spec.client: lets NOBODY in",
        ),
        (
            "v1beta1 ServerAuthorization",
            "{ server: { name: s }, client: { networks: [{ cidr: 10.0.0.0/8 }] } }",
            "spec.client: lets NOBODY in",
        ),
        (
            "v1beta1 ServerAuthorization",
            "{ server: { name: s }, client: { meshTLS: {} } }",
            "spec.client.meshTLS: lets NOBODY in",
        ),
        (
            "v1beta1 ServerAuthorization",
            "{ server: { name: s }, client: { meshTLS: { unauthenticatedTLS: true } } }",
            "unauthenticatedTLS: lets in any identity",
        ),
    ];
    for (kind, spec, told) in table {
        let (_, warnings) = accepted(&format!("policy.linkerd.io/{kind}"), spec);
        assert_eq!(warnings.len(), 1, "{spec}: {warnings:#?}");
        assert!(warnings[0].contains(told), "{spec}: {warnings:#?}");
    }
}

#[test]
fn who_is_let_in_by_what_names_nobody_is_nobody() {
    let client = |client: &str| {
        let spec = format!("{{ server: {{ name: s }}, client: {client} }}");
        match accepted("policy.linkerd.io/v1beta1 ServerAuthorization", &spec).0 {
            Spec::ServerAuthorization(read) => read.client,
            other => panic!("an authorization, not {other:?}"),
        }
    };
    let nobody = AuthorizedClient::Identities(Vec::new());
    assert_eq!(client("{}"), nobody);
    assert_eq!(client("{ unauthenticated: false }"), nobody);
    assert_eq!(client("{ meshTLS: {} }"), nobody);
    let any = AuthorizedClient::Identities(vec![IdentitySpec::Any]);
    assert_eq!(client("{ meshTLS: { unauthenticatedTLS: true } }"), any);
    let outside = server("v1beta3", "{ externalWorkloadSelector: {}, port: 1 }");
    assert!(!outside.selector.matches(&BTreeMap::new()));
}

#[test]
fn references_to_accounts_and_namespaces_become_identities() {
    let own = "mesh.local".parse().unwrap();
    let (spec, _) = accepted(
        "policy.linkerd.io/v1alpha1 MeshTLSAuthentication",
        "{ identityRefs: [{ kind: ServiceAccount, name: web },
           { kind: ServiceAccount, name: web, namespace: b }, { kind: Namespace, name: c }] }",
    );
    let Spec::MeshTlsAuthentication(read) = spec else {
        panic!("an authentication");
    };
    let resolved: Vec<_> = read
        .identities
        .iter()
        .map(|spec| spec.resolve(&own).unwrap())
        .collect();
    let exact = |id: &str| Resolved::Exact(id.parse().unwrap());
    assert_eq!(resolved[0], exact("spiffe://mesh.local/ns/shop/sa/web"));
    assert_eq!(resolved[1], exact("spiffe://mesh.local/ns/b/sa/web"));
    let Resolved::Pattern(pattern) = &resolved[2] else {
        panic!("a pattern");
    };
    // Only of the own domain: another's namespace of that name is somebody else's.
    assert_eq!(pattern.trust_domain.as_ref(), Some(&own));
    assert_eq!(pattern.namespace, Some("c".parse().unwrap()));
    assert_eq!(pattern.account, None);
}

fn server(version: &str, spec: &str) -> Server {
    match accepted(&format!("policy.linkerd.io/{version} Server"), spec) {
        (Spec::Server(server), _) => server,
        other => panic!("a server, not {other:?}"),
    }
}

#[test]
fn a_server_selects_every_workload_and_denies_unless_it_says_otherwise() {
    let plain = server("v1beta1", "{ podSelector: {}, port: 1 }");
    assert!(plain.selector.matches(&BTreeMap::new()));
    assert_eq!(plain.port, PortSelector::Number(1));
    assert_eq!(plain.http, HttpVersions::Both);
    assert_eq!(plain.access_policy, DefaultPolicy::Deny);
    assert_eq!(plain.request_body_idle, None);

    let spoken = "{ podSelector: {}, port: http, proxyProtocol: gRPC, accessPolicy: audit }";
    let spoken = server("v1beta3", spoken);
    assert_eq!(spoken.port, PortSelector::Name("http".into()));
    assert_eq!(spoken.http, HttpVersions::Http2);
    assert_eq!(spoken.access_policy, DefaultPolicy::Audit);
}

#[test]
fn an_idle_time_of_nothing_is_no_way_to_say_off() {
    let with = |idle: &str| {
        document(
            "policy.linkerd.io/v1beta3 Server",
            "{ podSelector: {}, port: 1 }",
        )
        .replace(
            "name: x",
            &format!("name: x, annotations: {{ mesh.rs/request-body-idle: '{idle}' }}"),
        )
    };
    assert_eq!(problems(&with("off")), [""; 0]);
    assert_eq!(problems(&with("1m")), [""; 0]);
    let found = problems(&with("0s"));
    assert!(
        found[0].contains("leaves no time at all, write off"),
        "{found:?}"
    );
}

#[test]
fn an_authorization_of_the_older_form_is_read() {
    let (spec, _) = accepted(
        "policy.linkerd.io/v1beta1 ServerAuthorization",
        "{ server: { selector: { matchLabels: { a: b } } },
           client: { networks: [{ cidr: 10.0.0.0/8, except: [10.1.0.1] }],
           meshTLS: { unauthenticatedTLS: false, identities: ['*'], serviceAccounts: [{ name: web }] } } }",
    );
    let Spec::ServerAuthorization(read) = spec else {
        panic!("an authorization");
    };
    assert_eq!(read.networks[0].cidr, "10.0.0.0/8");
    assert_eq!(read.networks[0].except, ["10.1.0.1/32"]);
    let AuthorizedClient::Identities(identities) = read.client else {
        panic!("identities");
    };
    assert_eq!(identities.len(), 2);
    let ServerTarget::Selector(servers) = read.servers else {
        panic!("a selector");
    };
    assert!(!servers.matches(&BTreeMap::new()), "labels are needed");
}

#[test]
fn z12_a_field_that_narrows_is_never_left_empty_in_silence() {
    let server = |selector: &str| {
        format!(
            "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{ name: s }}\nspec: {{ port: 80, podSelector: {selector} }}\n"
        )
    };
    assert!(parse_yaml("p.yaml", &server("{}")).is_ok());
    for selector in ["{ matchLabels: }", "{ matchExpressions: }"] {
        let problems = parse_yaml("p.yaml", &server(selector)).unwrap_err();
        assert_eq!(problems.0[0].message, "is written and empty", "{selector}");
    }
    let network = "apiVersion: policy.linkerd.io/v1alpha1\nkind: NetworkAuthentication\nmetadata: { name: n }\nspec: { networks: [{ cidr: 10.0.0.0/8, except: }] }\n";
    assert!(parse_yaml("p.yaml", network).is_err());
    let quoted = server("{}").replace("port: 80", "port: '80'");
    assert!(
        parse_yaml("p.yaml", &quoted).is_err(),
        "a port in quotes is a name"
    );
}
