//! Objects of kinds that are not served: which are skipped, which are refused, and what is said of them.

use super::*;

fn object(api_version: &str, kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{ name: x, namespace: shop }}\nspec: {spec}\n---\n"
    )
}

fn read(text: &str) -> Parsed {
    parse_yaml("all.yaml", text).expect("a good file")
}

#[test]
fn what_belongs_to_a_cluster_is_skipped_and_listed() {
    let service = object("v1", "Service", "{ ports: [{ port: 80 }] }");
    let text = [
        object("apps/v1", "Deployment", "{}"),
        object("v1", "Pod", "{}"),
        service,
        object("gateway.networking.k8s.io/v1", "Gateway", "{}"),
        object("mesh.rs/v1alpha1", "Rollout", "{}"),
        "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n".to_owned(),
    ];
    let parsed = read(&text.concat());
    assert_eq!(parsed.manifests.len(), 1);
    assert_eq!(parsed.warnings, []);
    assert_eq!(
        Skipped::list(&parsed.skipped),
        "Deployment shop/x (apps/v1), Pod shop/x (v1), Gateway shop/x (gateway.networking.k8s.io/v1), \
         Rollout shop/x (mesh.rs/v1alpha1), Namespace shop (v1)"
    );
}

#[test]
fn a_skipped_kind_that_restricts_traffic_is_warned_of_in_capitals() {
    for (api_version, kind) in [
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("cilium.io/v2", "CiliumClusterwideNetworkPolicy"),
        (
            "policy.networking.k8s.io/v1alpha1",
            "BaselineAdminNetworkPolicy",
        ),
        ("security.istio.io/v1", "AuthorizationPolicy"),
        ("security.istio.io/v1", "PeerAuthentication"),
        ("consul.hashicorp.com/v1alpha1", "ServiceIntentions"),
        ("kuma.io/v1alpha1", "MeshTrafficPermission"),
        ("access.smi-spec.io/v1alpha3", "TrafficTarget"),
        ("mesh.rs/v1alpha1", "JwtAuthentication"),
        ("workload.linkerd.io/v1beta1", "ExternalWorkload"),
    ] {
        let parsed = read(&object(api_version, kind, "{}"));
        let warning = parsed.warnings[0].to_string();
        assert!(
            warning.starts_with("all.yaml:1:1: WARNING: the "),
            "{warning}"
        );
        assert!(warning.contains("NOT ENFORCED"), "{warning}");
        assert_eq!((parsed.warnings.len(), parsed.skipped.len()), (1, 1));
    }
}

#[test]
fn a_kind_that_nobody_has_in_a_served_group_is_refused_with_the_nearest() {
    for (api_version, kind, told) in [
        ("v1", "Pot", "v1, kind Pot, is not served, write kind Pod"),
        ("v1", "Servce", "write apiVersion v1, kind Service"),
        (
            "policy.linkerd.io/v1beta1",
            "Sever",
            "write apiVersion policy.linkerd.io/v1beta1, kind Server",
        ),
        (
            "gateway.networking.k8s.io/v1",
            "GRPCRout",
            "write kind GRPCRoute",
        ),
        ("gateway.networking.k8s.io/v2x", "Gateway", "is not served"),
        (
            "gateway.networking.k8s.io/v7",
            "HTTPRoute",
            "write apiVersion gateway.networking.k8s.io/v1, kind HTTPRoute",
        ),
        (
            "gatway.networking.k8s.io/v1",
            "HTTPRoute",
            "write apiVersion gateway.networking.k8s.io/v1",
        ),
        (
            "policy.linkerd.oi/v1beta3",
            "Server",
            "write apiVersion policy.linkerd.io/v1beta3",
        ),
        ("mesh.rs/v1alpha1", "Rolout", "write kind Rollout"),
        (
            "linkerd.io/v1alpha2",
            "ServiceProfil",
            "write kind ServiceProfile",
        ),
    ] {
        let found = problems(&object(api_version, kind, "{}"));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(told), "{}", found[0]);
    }
}

#[test]
fn a_misspelt_kind_that_is_served_is_named_and_not_a_foreign_one() {
    for kind in ["HttpRoute", "httproute", "HTTPRoutes", "HTTProute"] {
        let found = problems(&object("gateway.networking.k8s.io/v1", kind, "{}"));
        let meant = "write apiVersion gateway.networking.k8s.io/v1, kind HTTPRoute";
        assert!(found[0].contains(meant), "{kind}: {found:?}");
    }
}

#[test]
fn a_problem_is_placed_past_what_was_skipped() {
    let text = [
        object("apps/v1", "Deployment", "{}"),
        object("v1", "Service", "{ ports: [{ port: 80 }] }"),
    ]
    .concat();
    assert_eq!(
        Places::of(&text).find(0, "spec.ports[0].port"),
        Some((9, 25))
    );
}

#[test]
fn typed_lists_are_taken_apart_too() {
    let item =
        "{ apiVersion: v1, kind: Service, metadata: { name: a }, spec: { ports: [{ port: 1 }] } }";
    let pod = "{ apiVersion: v1, kind: Pod, metadata: { name: p } }";
    let parsed = read(&format!(
        "apiVersion: v1\nkind: ServiceList\nitems: [{item}]\n---\napiVersion: v1\nkind: List\nitems: [{pod}, {item}]\n"
    ));
    assert_eq!((parsed.manifests.len(), parsed.skipped.len()), (2, 1));
}

const ROUTE: &str = "policy.linkerd.io/v1beta3";
const PARENT: &str = "parentRefs: [{ group: policy.linkerd.io, kind: Server, name: s }]";

#[test]
fn a_route_of_linkerd_is_skipped_and_told_of_once() {
    let spec = format!("{{ {PARENT}, rules: [{{ matches: [{{ path: {{ value: /a }} }}] }}] }}");
    let parsed = read(&object(ROUTE, "HTTPRoute", &spec));
    assert_eq!(parsed.skipped.len(), 1);
    assert_eq!(parsed.warnings.len(), 1, "{:#?}", parsed.warnings);
    let warning = parsed.warnings[0].to_string();
    let told = "WARNING: the HTTPRoute shop/x (policy.linkerd.io/v1beta3) is NOT ENFORCED";
    assert!(warning.contains(told), "{warning}");
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a table, one mistake after the other"
)]
fn what_upstream_refuses_of_a_skipped_kind_is_refused() {
    const PROFILE: &str = "linkerd.io/v1alpha2";
    let grpc = |rule: &str| format!("{{ {PARENT}, rules: [{rule}] }}");
    let limit = |rest: &str| {
        format!("{{ targetRef: {{ group: policy.linkerd.io, kind: Server, name: s }}, {rest} }}")
    };
    let route = |rest: &str| format!("{{ routes: [{{ name: r, {rest} }}] }}");
    let table = [
        (
            ROUTE,
            "HTTPRoute",
            format!("{{ {PARENT}, rules: [{{ matches: [{{ path: {{ value: a }} }}] }}] }}"),
            "path.value: \"a\" is a path that no request has",
        ),
        (
            ROUTE,
            "HTTPRoute",
            "{ parentRefs: [{ group: policy.linkerd.io, kind: EgressNetwork, name: e }] }"
                .to_owned(),
            "names an EgressNetwork without a port",
        ),
        (
            ROUTE,
            "HTTPRoute",
            format!("{{ {PARENT}, rule: [] }}"),
            "spec.rule: is no field that is known here, write rules",
        ),
        (
            "gateway.networking.k8s.io/v1",
            "GRPCRoute",
            grpc("{ matches: [{ method: {} }] }"),
            "method: names no method",
        ),
        (
            "gateway.networking.k8s.io/v1",
            "GRPCRoute",
            grpc("{ matches: [{ method: { service: 'a b' } }] }"),
            "service: is no name of gRPC",
        ),
        (
            "gateway.networking.k8s.io/v1",
            "GRPCRoute",
            grpc("{ filters: [{ type: URLRewrite }] }"),
            "type: \"URLRewrite\" is not known",
        ),
        (
            "gateway.networking.k8s.io/v1",
            "GRPCRoute",
            grpc("{ matchs: [] }"),
            "write matches",
        ),
        (
            "gateway.networking.k8s.io/v1alpha2",
            "TCPRoute",
            format!("{{ {PARENT}, rules: [] }}"),
            "spec.rules: has 0 rules",
        ),
        (
            "policy.linkerd.io/v1alpha1",
            "HTTPLocalRateLimitPolicy",
            limit("total: { requestsPerSecond: 0 }"),
            "0 is out of range",
        ),
        (
            "policy.linkerd.io/v1alpha1",
            "HTTPLocalRateLimitPolicy",
            limit("total: { requestsPerSecond: 5 }, identity: { requestsPerSecond: 6 }"),
            "is more than the 5 of spec.total",
        ),
        (
            "policy.linkerd.io/v1alpha1",
            "HTTPLocalRateLimitPolicy",
            limit(
                "overrides: [{ requestsPerSecond: 1, clientRefs: [{ kind: Service, name: a }] }]",
            ),
            "names \"Service\" of group \"\"",
        ),
        (
            "policy.linkerd.io/v1alpha1",
            "HTTPLocalRateLimitPolicy",
            "{ targetRef: { kind: Service, name: s } }".to_owned(),
            "write group: \"policy.linkerd.io\" and kind: Server",
        ),
        (
            "policy.linkerd.io/v1alpha1",
            "EgressNetwork",
            "{ trafficPolicy: Alow }".to_owned(),
            "write Allow",
        ),
        (
            "policy.linkerd.io/v1alpha1",
            "EgressNetwork",
            "{ trafficPolicy: Deny, networks: [] }".to_owned(),
            "spec.networks: is empty",
        ),
        (
            PROFILE,
            "ServiceProfile",
            "{ foo: bar }".to_owned(),
            "spec.foo: is no field that is known here",
        ),
        (
            PROFILE,
            "ServiceProfile",
            route("condition: {}"),
            "condition: matches nothing in particular",
        ),
        (
            PROFILE,
            "ServiceProfile",
            route("condition: { pathRegex: '(' }"),
            "pathRegex",
        ),
        (
            PROFILE,
            "ServiceProfile",
            route("condition: { method: GET }, timeout: soon"),
            "\"soon\" is no time",
        ),
        (
            PROFILE,
            "ServiceProfile",
            route(
                "condition: { all: [{ not: { method: GET } }] }, responseClasses: [{ condition: { all: [{ status: { min: 500, max: 400 } }] } }]",
            ),
            "status: ends before it begins",
        ),
        (
            PROFILE,
            "ServiceProfile",
            "{ retryBudget: { minRetriesPerSecond: 5, retryRatio: -0.2, ttl: 10s } }".to_owned(),
            "retryRatio: is below zero",
        ),
        (
            PROFILE,
            "ServiceProfile",
            "{ retryBudget: { minRetriesPerSecond: -5, retryRatio: 0.2, ttl: 10s } }".to_owned(),
            "minRetriesPerSecond: -5 is out of range",
        ),
    ];
    for (api_version, kind, spec, told) in table {
        let text = object(api_version, kind, &spec);
        let text = match kind {
            "ServiceProfile" => text.replace("name: x", "name: x.shop.svc.cluster.local"),
            _ => text,
        };
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{kind} {spec}: {found:#?}");
        assert!(found[0].contains(told), "{kind} {spec}: {}", found[0]);
    }
}

#[test]
fn what_upstream_takes_of_a_skipped_kind_is_skipped() {
    let table = [
        ("linkerd.io/v1alpha2", "ServiceProfile", "{ routes: [{ name: r, condition: { method: GET, pathRegex: '/a/[^/]*' }, isRetryable: true, timeout: 1.5s,
            responseClasses: [{ condition: { any: [{ status: { min: 500 } }] }, isFailure: true }] }], retryBudget: { retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 10s },
            dstOverrides: [{ authority: a, weight: 500m }], opaquePorts: ['80'] }"),
        ("gateway.networking.k8s.io/v1", "GRPCRoute", "{ parentRefs: [{ group: '', kind: Service, name: api }], hostnames: [a.example], rules: [{ name: one,
            matches: [{ method: { service: helloworld.Greeter, method: SayHello }, headers: [{ name: a, value: b }] }, { method: { type: RegularExpression, method: '[a-z]+' } }],
            filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: a, port: 1 } } }], backendRefs: [{ name: a, port: 80, weight: 3 }] }] }"),
        ("policy.linkerd.io/v1alpha1", "EgressNetwork", "{ trafficPolicy: Deny, networks: [{ cidr: 0.0.0.0/0, except: [10.0.0.0/8] }] }"),
        ("policy.linkerd.io/v1alpha1", "HTTPLocalRateLimitPolicy", "{ targetRef: { group: policy.linkerd.io, kind: Server, name: s }, total: { requestsPerSecond: 9 }, identity: { requestsPerSecond: 9 },
            overrides: [{ requestsPerSecond: 9, clientRefs: [{ kind: ServiceAccount, name: a, namespace: b }] }] }"),
        ("gateway.networking.k8s.io/v1alpha2", "TLSRoute", "{ parentRefs: [{ group: '', kind: Service, name: api }], hostnames: [a.example], rules: [{ backendRefs: [{ name: a, port: 1 }] }] }"),
    ];
    for (api_version, kind, spec) in table {
        let text = object(api_version, kind, spec);
        let text = text.replacen("name: x", "name: x.shop.svc.cluster.local", 1);
        assert_eq!(problems(&text), [""; 0], "{kind}");
        assert_eq!(read(&text).skipped.len(), 1);
    }
}
