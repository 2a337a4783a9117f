use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::plan::endpoint::HttpVersions;
use crate::plan::inbound::NarrowingPlan;
use crate::plan::part::Part;

const HERE: &str = "10.1.2.3";

fn grant(name: &str, networks: &[&str], client: ClientPlan) -> AuthorizationPlan {
    AuthorizationPlan {
        source: ObjectRef::builtin(name),
        effect: EffectPlan::Allow,
        networks: networks
            .iter()
            .map(|cidr| NetworkPlan {
                cidr: (*cidr).to_owned(),
                except: vec!["10.9.0.0/16".to_owned()],
            })
            .collect(),
        client,
    }
}

fn exactly(identity: &str) -> ClientPlan {
    ClientPlan::Identities {
        exact: BTreeSet::from([identity.parse().unwrap()]),
        patterns: Vec::new(),
    }
}

fn matching(pattern: PatternPlan) -> ClientPlan {
    ClientPlan::Identities {
        exact: BTreeSet::new(),
        patterns: vec![pattern],
    }
}

fn policy(grants: Vec<AuthorizationPlan>) -> Policy {
    Policy::compile(&InboundPlan {
        port: "api.shop:80".parse().unwrap(),
        server: ObjectRef::builtin("test"),
        http: HttpVersions::Both,
        authorizations: grants
            .into_iter()
            .map(|grant| Part::new("authorization/1", grant))
            .collect(),
        narrowed_by: Vec::new(),
        request_body_idle_ms: None,
    })
    .unwrap()
}

fn admits(policy: &Policy, identity: Option<&str>, address: &str) -> bool {
    let identity = identity.map(|identity| identity.parse().unwrap());
    let client = Client {
        identity: identity.as_ref(),
        address: address.parse().unwrap(),
    };
    !matches!(policy.decide(&client), Verdict::Deny { .. })
}

const WEB: &str = "spiffe://mesh.local/ns/shop/sa/web";
const OPS: &str = "spiffe://mesh.local/ns/shop/sa/ops";

#[test]
fn z01_nothing_granted_is_everyone_denied() {
    let nothing = policy(Vec::new());
    assert!(!admits(&nothing, Some(WEB), HERE));
    assert!(!admits(&nothing, None, HERE));
    assert!(!nothing.admits_plaintext());
}

proptest! {
    /// AuthorizationPolicy only adds: one more never takes away what others grant.
    #[test]
    fn z01_one_more_authorization_only_adds(
        granted in proptest::collection::vec("[a-c]", 0..4),
        more in "[a-c]",
        client in "[a-c]",
    ) {
        let id = |account: &str| format!("spiffe://mesh.local/ns/shop/sa/{account}");
        let grants = |accounts: &[String]| {
            let grants = accounts.iter().map(|account| grant("a", &[], exactly(&id(account))));
            policy(grants.collect())
        };
        let before = admits(&grants(&granted), Some(&id(&client)), HERE);
        prop_assert_eq!(before, granted.contains(&client));
        let wider = [granted, vec![more.clone()]].concat();
        let after = admits(&grants(&wider), Some(&id(&client)), HERE);
        prop_assert_eq!(after, before || client == more);
    }
}

/// What the first of these lists grants, as far as every other one does too.
fn narrowed(grants: &[&[AuthorizationPlan]]) -> Policy {
    let (governs, narrowing) = grants.split_first().unwrap();
    let parts = |grants: &[AuthorizationPlan]| {
        let grants = grants.iter().cloned();
        grants
            .map(|grant| Part::new("authorization/1", grant))
            .collect()
    };
    let narrowing = narrowing.iter().enumerate();
    Policy::compile(&InboundPlan {
        port: "api.shop:80".parse().unwrap(),
        server: ObjectRef::builtin("test"),
        http: HttpVersions::Both,
        authorizations: parts(governs),
        narrowed_by: narrowing
            .map(|(place, grants)| NarrowingPlan {
                server: ObjectRef::builtin(&format!("narrowing {place}")),
                authorizations: parts(grants),
            })
            .collect(),
        request_body_idle_ms: None,
    })
    .unwrap()
}

proptest! {
    /// Whoever is let in fits what governs and everything that narrows.
    #[test]
    fn z01_what_narrows_never_adds(
        granted in proptest::collection::vec("[a-c]", 0..4),
        narrowing in proptest::collection::vec(proptest::collection::vec("[a-c]", 0..4), 0..3),
        client in "[a-c]",
    ) {
        let id = |account: &str| format!("spiffe://mesh.local/ns/shop/sa/{account}");
        let grants = |accounts: &Vec<String>| {
            let grants = accounts.iter().map(|account| grant("a", &[], exactly(&id(account))));
            grants.collect::<Vec<_>>()
        };
        let all: Vec<_> = std::iter::once(&granted).chain(&narrowing).map(grants).collect();
        let all: Vec<&[_]> = all.iter().map(Vec::as_slice).collect();
        let found = admits(&narrowed(&all), Some(&id(&client)), HERE);
        let all = narrowing.iter().chain([&granted]).all(|one| one.contains(&client));
        prop_assert_eq!(found, all);
    }
}

#[test]
fn a_verdict_names_what_refuses_and_what_would() {
    let client = Client {
        identity: None,
        address: HERE.parse().unwrap(),
    };
    let anyone = [grant("anyone", &[], ClientPlan::Anyone)];
    let audit = [AuthorizationPlan {
        effect: EffectPlan::Audit,
        ..grant("audit", &[], ClientPlan::Anyone)
    }];
    let by = |policy: &Policy| match policy.decide(&client) {
        Verdict::Allow { by } => format!("allow {}", by.name),
        Verdict::Audit { by } => format!("audit {}", by.name),
        Verdict::Deny { server, reason } => format!("deny {} {reason:?}", server.name),
    };
    let table: [(&[&[_]], _); 5] = [
        (&[&anyone, &anyone], "allow anyone"),
        (&[&anyone, &audit], "audit audit"),
        (&[&audit, &anyone], "audit audit"),
        (&[&anyone, &anyone, &[]], "deny narrowing 1 NoAuthorization"),
        (&[&[], &anyone], "deny test NoAuthorization"),
    ];
    for (grants, expected) in table {
        assert_eq!(by(&narrowed(grants)), expected);
    }
}

#[test]
fn authorizations_are_alternatives() {
    let either = policy(vec![
        grant("a", &[], exactly(WEB)),
        grant("b", &[], exactly(OPS)),
    ]);
    assert!(admits(&either, Some(WEB), HERE));
    assert!(admits(&either, Some(OPS), HERE));
    assert!(!admits(
        &either,
        Some("spiffe://mesh.local/ns/shop/sa/x"),
        HERE
    ));
    assert!(!admits(&either, None, HERE));
}

#[test]
fn network_and_identity_must_both_fit() {
    let both = policy(vec![grant("a", &["10.0.0.0/8"], exactly(WEB))]);
    assert!(admits(&both, Some(WEB), HERE));
    assert!(admits(&both, Some(WEB), "::ffff:10.1.2.3"));
    assert!(!admits(&both, Some(WEB), "192.168.0.1"));
    assert!(
        !admits(&both, Some(WEB), "10.9.0.1"),
        "a hole in the network"
    );
    assert!(!admits(&both, Some(OPS), HERE));
}

#[test]
fn networks_are_compared_in_the_family_that_clients_are_seen_in() {
    let open = |cidr: &str, hole: &str| {
        let mut plan = grant("a", &[cidr], ClientPlan::Anyone);
        plan.networks[0].except = vec![hole.to_owned()];
        policy(vec![plan])
    };
    let mapped = open("::ffff:10.0.0.0/104", "::ffff:10.9.0.0/112");
    assert!(admits(&mapped, None, HERE));
    assert!(!admits(&mapped, None, "10.9.0.1"));
    assert!(!admits(&mapped, None, "::ffff:10.9.0.1"));
    assert!(!admits(&mapped, None, "11.0.0.1"));

    let all_but_one = open("0.0.0.0/0", "10.1.2.3");
    assert!(
        !admits(&all_but_one, None, HERE),
        "a single address is a network"
    );
    assert!(admits(&all_but_one, None, "10.1.2.4"));
    assert!(!admits(&all_but_one, None, "fd00::1"), "another family");
    assert!(admits(&open("::/0", "fd01::/16"), None, "fd00::1"));
}

#[test]
fn plaintext_is_worth_reading_only_where_somebody_may_use_it() {
    let anyone = grant("a", &["10.0.0.0/8"], ClientPlan::Anyone);
    assert!(policy(vec![grant("b", &[], exactly(WEB)), anyone]).admits_plaintext());
    let any_identity = matching(PatternPlan::default());
    assert!(!policy(vec![grant("b", &[], any_identity.clone())]).admits_plaintext());
    let anyone = [grant("a", &[], ClientPlan::Anyone)];
    let narrow = [grant("b", &[], any_identity)];
    assert!(narrowed(&[&anyone, &anyone]).admits_plaintext());
    assert!(!narrowed(&[&anyone, &narrow]).admits_plaintext());
}

#[test]
fn a_pattern_s_segments_must_all_fit() {
    let mesh_web = PatternPlan {
        trust_domain: Some("mesh.local".parse().unwrap()),
        namespace: None,
        account: Some("web".parse().unwrap()),
    };
    let policy = policy(vec![grant("a", &[], matching(mesh_web))]);
    assert!(admits(&policy, Some(WEB), HERE));
    assert!(admits(
        &policy,
        Some("spiffe://mesh.local/ns/bank/sa/web"),
        HERE
    ));
    assert!(!admits(&policy, Some(OPS), HERE));
    for identity in [
        "spiffe://mesh.local.evil/ns/shop/sa/web",
        "spiffe://evil.mesh.local/ns/shop/sa/web",
        "spiffe://mesh.loca/ns/shop/sa/web",
    ] {
        assert!(!admits(&policy, Some(identity), HERE), "{identity}");
    }
}

#[test]
fn z13_patterns_match_whole_segments() {
    let in_shop = policy(vec![grant(
        "a",
        &[],
        matching(PatternPlan {
            namespace: Some("shop".parse().unwrap()),
            ..PatternPlan::default()
        }),
    )]);
    assert!(admits(&in_shop, Some(WEB), HERE));
    for identity in [
        "spiffe://mesh.local/ns/shopping/sa/web",
        "spiffe://mesh.local/ns/a-shop/sa/web",
        "spiffe://mesh.local/ns/other/sa/shop",
        "spiffe://mesh.local/ns/shop/sa/web/more",
        "spiffe://mesh.local/shop",
    ] {
        assert!(!admits(&in_shop, Some(identity), HERE), "{identity}");
    }
    let anyone = policy(vec![grant("a", &[], matching(PatternPlan::default()))]);
    assert!(admits(&anyone, Some("spiffe://other/x"), HERE));
    assert!(
        !admits(&anyone, None, HERE),
        "any identity is still an identity"
    );
}

#[test]
fn no_identity_at_all_admits_nobody() {
    let nobody = policy(vec![grant(
        "a",
        &[],
        ClientPlan::Identities {
            exact: BTreeSet::new(),
            patterns: Vec::new(),
        },
    )]);
    assert!(!admits(&nobody, Some(WEB), HERE));
}

#[test]
fn audit_lets_in_only_where_nothing_allows() {
    let mut audit = grant("audit", &[], ClientPlan::Anyone);
    audit.effect = EffectPlan::Audit;
    let policy = policy(vec![audit, grant("a", &[], exactly(WEB))]);
    let decide = |identity: &str| {
        let identity = identity.parse().unwrap();
        let client = Client {
            identity: Some(&identity),
            address: HERE.parse().unwrap(),
        };
        matches!(policy.decide(&client), Verdict::Audit { .. })
    };
    assert!(!decide(WEB));
    assert!(decide(OPS));
}

#[test]
fn z16_an_authorization_that_is_not_understood_closes_the_listener() {
    let mut plan = InboundPlan {
        port: "api.shop:80".parse().unwrap(),
        server: ObjectRef::builtin("test"),
        http: HttpVersions::Both,
        authorizations: vec![Part::new(
            "authorization/1",
            grant("a", &[], ClientPlan::Anyone),
        )],
        narrowed_by: Vec::new(),
        request_body_idle_ms: None,
    };
    assert!(Policy::compile(&plan).is_ok());
    plan.authorizations.push(Part::NotUnderstood {
        requires: BTreeSet::new(),
        why: "newer".to_owned(),
    });
    assert!(Policy::compile(&plan).is_err());
    plan.authorizations.pop();
    let network = grant("a", &["10.0.0.0/99"], ClientPlan::Anyone);
    plan.authorizations
        .push(Part::new("authorization/1", network));
    assert!(Policy::compile(&plan).is_err());
}
