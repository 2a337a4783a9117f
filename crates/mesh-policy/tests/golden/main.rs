//! Every wire form as one JSON document beside this file, held in both directions.
//!
//! Processes of different ages talk to each other, so a change here is a change
//! of the protocol: a document is edited only together with a new capability or
//! a new protocol version, never to make a test pass.

mod reports;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use mesh_policy::identity::Identity;
use mesh_policy::name::{Label, ObjectRef, ServicePort};
use mesh_policy::plan::PROTOCOL_VERSION;
use mesh_policy::plan::endpoint::{Endpoint, EndpointSet, HttpVersions};
use mesh_policy::plan::enrol::{Attestation, EnrolRequest, EnrolResponse, Refusal};
use mesh_policy::plan::inbound::{
    AuthorizationPlan, ClientPlan, EffectPlan, InboundPlan, NarrowingPlan, NetworkPlan, PatternPlan,
};
use mesh_policy::plan::part::Part;
use mesh_policy::plan::registration::Registration;
use mesh_policy::plan::watch::{Change, Cursor, Event, Subscriptions, WatchRequest};
use mesh_policy::report::{Rejection, Report};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `value` is written as `document`, byte for byte, and read back from it.
fn agree<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, document: &str) {
    let mut written = serde_json::to_string_pretty(value).expect("wire types have string keys");
    written.push('\n');
    assert_eq!(written, document, "the written form changed:\n{written}");
    let read: T = serde_json::from_str(document).expect("a golden document is well formed");
    assert_eq!(&read, value, "the document is read differently");
}

fn object(group: &str, kind: &str, name: &str) -> ObjectRef {
    ObjectRef {
        group: group.into(),
        kind: kind.into(),
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn web() -> Identity {
    let web = "spiffe://mesh.local/ns/shop/sa/web".parse();
    web.expect("it is a SPIFFE ID")
}

fn port(text: &str) -> ServicePort {
    text.parse().expect("it names a port")
}

fn label(text: &str) -> Label {
    text.parse().expect("it is a DNS label")
}

fn cursor() -> Cursor {
    Cursor {
        store: "k3v9".into(),
        revision: 42,
    }
}

fn event(change: Change) -> Event {
    Event {
        cursor: cursor(),
        change,
    }
}

fn labels() -> BTreeMap<String, String> {
    [("app", "api"), ("version", "v1")]
        .map(|(name, value)| (name.into(), value.into()))
        .into()
}

fn stable() -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, 7], 8443).into(),
        identity: "spiffe://mesh.local/ns/shop/sa/api".parse().ok(),
        http: HttpVersions::Http2,
        weight: 100,
        workload: "api".into(),
        instance: "api-1".into(),
        zone: Some("a".into()),
    }
}

fn plain() -> Endpoint {
    Endpoint {
        address: "[fd00::7]:8080".parse().expect("it is an address"),
        identity: None,
        http: HttpVersions::Both,
        weight: 0,
        workload: "legacy".into(),
        instance: "legacy-1".into(),
        zone: None,
    }
}

fn endpoints<const N: usize>(endpoints: [(&str, Endpoint); N]) -> EndpointSet {
    let named = endpoints.map(|(id, endpoint)| (id.to_owned(), endpoint));
    named.into_iter().collect()
}

#[test]
fn enrolment_keeps_its_form() {
    let enrol = |attestation| EnrolRequest {
        version: PROTOCOL_VERSION,
        csr: "MIG5".into(),
        attestation,
    };
    agree(
        &enrol(Attestation::JoinToken("mj1.id.secret.root".into())),
        include_str!("enrol-join-token.json"),
    );
    agree(
        &enrol(Attestation::Certificate),
        include_str!("enrol-certificate.json"),
    );
    agree(
        &EnrolResponse {
            identity: web(),
            chain: vec!["MIIBleaf".into(), "MIIBissuer".into()],
            anchors: vec!["MIIBroot".into()],
            not_after: 1_800_086_400,
            now: 1_800_000_000,
        },
        include_str!("enrol-response.json"),
    );
    agree(
        &Refusal {
            error: "unknown-watch".into(),
            message: "this replica holds no watch w1; open a new one".into(),
        },
        include_str!("refusal.json"),
    );
}

#[test]
fn a_watch_is_opened_and_changed_in_one_form() {
    let subscriptions = Subscriptions {
        services: BTreeSet::from(["api.shop".parse().unwrap()]),
        inbound: ["web.shop", "web.shop:8080"]
            .map(|address| address.parse().unwrap())
            .into(),
        resend: BTreeSet::from([port("api-stable.shop:80")]),
    };
    agree(&subscriptions, include_str!("subscriptions.json"));
    agree(
        &WatchRequest {
            version: PROTOCOL_VERSION,
            capabilities: ["authorization/1", "inbound/1", "route/1"]
                .map(Into::into)
                .into(),
            library: "0.1.0".into(),
            workload: "web".into(),
            instance: "web-1".into(),
            labels: labels(),
            admin: Some("127.0.0.1:4191".into()),
            resume: Some(cursor()),
            subscriptions,
        },
        include_str!("watch-request.json"),
    );
    agree(
        &WatchRequest {
            version: PROTOCOL_VERSION,
            capabilities: BTreeSet::new(),
            library: "0.1.0".into(),
            workload: "web".into(),
            instance: "web-1".into(),
            labels: BTreeMap::new(),
            admin: None,
            resume: None,
            subscriptions: Subscriptions::default(),
        },
        include_str!("watch-request-least.json"),
    );
}

#[test]
fn welcome_and_heartbeat_keep_their_form() {
    agree(
        &event(Change::Welcome {
            watch: "w1".into(),
            replica: "discovery-0".into(),
            now: 1_800_000_000,
            reset: true,
        }),
        include_str!("event-welcome.json"),
    );
    agree(
        &event(Change::Heartbeat { now: 1_800_000_010 }),
        include_str!("event-heartbeat.json"),
    );
}

#[test]
fn endpoints_keep_their_form_whole_and_as_a_change() {
    let first = endpoints([("e1", stable()), ("e2", plain())]);
    let second = endpoints([
        ("e1", stable()),
        (
            "e3",
            Endpoint {
                http: HttpVersions::Http1,
                ..plain()
            },
        ),
    ]);
    let told = |delta| {
        event(Change::Endpoints {
            port: port("api-stable.shop:80"),
            delta,
        })
    };
    agree(
        &told(first.whole()),
        include_str!("event-endpoints-whole.json"),
    );
    agree(
        &told(first.delta(&second)),
        include_str!("event-endpoints-delta.json"),
    );
}

#[test]
fn the_policy_of_a_listener_keeps_its_form() {
    let grant = |source, client| AuthorizationPlan {
        source,
        effect: EffectPlan::Allow,
        networks: Vec::new(),
        client,
    };
    let web_from_inside = AuthorizationPlan {
        networks: vec![NetworkPlan {
            cidr: "10.0.0.0/8".into(),
            except: vec!["10.9.0.0/16".into()],
        }],
        ..grant(
            object("policy.linkerd.io", "AuthorizationPolicy", "web"),
            ClientPlan::Identities {
                exact: BTreeSet::from([web()]),
                patterns: vec![PatternPlan {
                    trust_domain: "mesh.local".parse().ok(),
                    namespace: Some(label("ops")),
                    account: Some(label("probe")),
                }],
            },
        )
    };
    let any_identity = ClientPlan::Identities {
        exact: BTreeSet::new(),
        patterns: vec![PatternPlan::default()],
    };
    let audited = AuthorizationPlan {
        effect: EffectPlan::Audit,
        ..grant(ObjectRef::builtin("audit"), ClientPlan::Anyone)
    };
    let authenticated = grant(ObjectRef::builtin("all-authenticated"), any_identity);
    let plan = InboundPlan {
        port: port("api.shop:80"),
        server: object("policy.linkerd.io", "Server", "api"),
        http: HttpVersions::Both,
        authorizations: [web_from_inside, authenticated, audited]
            .map(|grant| Part::new("authorization/1", grant))
            .into(),
        narrowed_by: Vec::new(),
        request_body_idle_ms: Some(0),
    };
    agree(
        &event(Change::Inbound {
            serves: "api.shop".parse().unwrap(),
            plan: Part::new("inbound/1", plan),
        }),
        include_str!("event-inbound.json"),
    );
}

#[test]
fn a_policy_that_others_narrow_keeps_its_form_and_closes_for_older_readers() {
    let anyone = AuthorizationPlan {
        source: ObjectRef::builtin("all-unauthenticated"),
        effect: EffectPlan::Allow,
        networks: Vec::new(),
        client: ClientPlan::Anyone,
    };
    let plan = InboundPlan {
        port: port("api.shop:80"),
        server: ObjectRef::builtin("all-authenticated"),
        http: HttpVersions::Both,
        authorizations: vec![Part::new("authorization/1", anyone)],
        narrowed_by: vec![NarrowingPlan {
            server: object("policy.linkerd.io", "Server", "metrics"),
            authorizations: Vec::new(),
        }],
        request_body_idle_ms: None,
    };
    agree(
        &event(Change::Inbound {
            serves: "api.shop".parse().unwrap(),
            plan: Part::new("inbound/1", plan).requiring("narrowing/1"),
        }),
        include_str!("event-inbound-narrowed.json"),
    );
}

#[test]
fn what_a_process_tells_keeps_its_form() {
    agree(
        &Registration {
            watch: "w1".into(),
            serves: "api.shop:8080".parse().unwrap(),
            address: ([10, 0, 0, 7], 8443).into(),
            workload: "api".into(),
            instance: "api-1".into(),
            labels: labels(),
            zone: Some("a".into()),
            weight: 100,
        },
        include_str!("registration.json"),
    );
    agree(
        &Report {
            watch: "w1".into(),
            library: "0.1.0".into(),
            applied: cursor(),
            rejections: vec![Rejection {
                subject: "api.shop:80".into(),
                why: "the plan requires \"route/9\", which this version lacks".into(),
            }],
            traffic: None,
        },
        include_str!("report.json"),
    );
}

#[test]
fn an_event_of_tomorrow_is_passed_over_and_its_cursor_kept() {
    for json in [
        r#"{"store":"k3v9","revision":42,"event":"tap"}"#,
        r#"{"store":"k3v9","revision":42,"event":"tap","id":7,"match":{"path":["/"]}}"#,
        r#"{"event":"tap","plan":null,"revision":42,"store":"k3v9"}"#,
    ] {
        let read: Event = serde_json::from_str(json).unwrap();
        assert_eq!(read, event(Change::Unknown), "{json}");
    }
}
