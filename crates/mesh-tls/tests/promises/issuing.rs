//! What the CA signs, whatever it is asked for, and what nobody gets to see.

use std::collections::HashSet;
use std::time::Duration;

use mesh_policy::identity::Identity;
use mesh_tls::config::{self, ClientCertificates};
use mesh_tls::issuer::{InvalidIssuer, Issuer, IssuingRefused, LEAF_LIFETIME, Template};
use mesh_tls::request::{InvalidRequest, KeyPair, SigningRequest};
use mesh_tls::root::{ISSUER_LIFETIME, Root};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;

use crate::support::{Domain, calling, identity, strict, uri};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn parse<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    X509Certificate::from_der(der)
        .expect("it was just signed")
        .1
}

/// An extension of the template.
fn held<T>(extension: Result<Option<T>, X509Error>) -> T {
    let extension = extension.expect("it reads and comes once");
    extension.expect("the template holds it")
}

/// The leaf in words, for what has no free choice in it.
fn golden(leaf: &X509Certificate<'_>) -> Vec<String> {
    let mut lines = vec![
        format!("version {}", leaf.version()),
        format!("subject {:?}", leaf.subject().to_string()),
        format!("issuer {}", leaf.issuer()),
    ];
    let names = held(leaf.subject_alternative_name());
    lines.push(format!(
        "names {:?} critical {}",
        names.value.general_names, names.critical
    ));
    let usage = held(leaf.key_usage());
    lines.push(format!("usage {} critical {}", usage.value, usage.critical));
    let purposes = held(leaf.extended_key_usage()).value;
    lines.push(format!(
        "serves {} calls {}",
        purposes.server_auth, purposes.client_auth
    ));
    let constraints = held(leaf.basic_constraints());
    lines.push(format!(
        "CA {} critical {}",
        constraints.value.ca, constraints.critical
    ));
    let mut extensions: Vec<_> = leaf
        .extensions()
        .iter()
        .map(|e| e.oid.to_id_string())
        .collect();
    extensions.sort();
    lines.push(extensions.join(" "));
    lines
}

const TEMPLATE: [&str; 8] = [
    "version V3",
    "subject \"\"",
    "issuer CN=issuer.mesh.local",
    "names [URI(\"spiffe://mesh.local/ns/shop/sa/web\")] critical true",
    "usage Digital Signature critical true",
    "serves true calls true",
    "CA false critical true",
    // Key identifiers of subject and authority, usage, names, constraints, extended usage.
    "2.5.29.14 2.5.29.15 2.5.29.17 2.5.29.19 2.5.29.35 2.5.29.37",
];

fn asking(edit: impl FnOnce(&mut CertificateParams)) -> SigningRequest {
    let key = rcgen::KeyPair::generate().expect("a key is made");
    let mut params = CertificateParams::default();
    edit(&mut params);
    let request = params.serialize_request(&key).expect("a request is signed");
    SigningRequest::from_der(request.der()).expect("its key and signature are good")
}

#[test]
fn j05_a_leaf_is_exactly_the_template_whatever_the_request_asks_for() {
    let mesh = Domain::new("mesh.local");
    let web = mesh.identity("web");
    let requests = [
        KeyPair::generate().unwrap().signing_request().unwrap(),
        asking(|ask| ask.subject_alt_names = vec![uri("spiffe://mesh.local/ns/shop/sa/admin")]),
        asking(|ask| {
            ask.subject_alt_names = vec![
                uri("spiffe://mesh.local/ns/a/sa/b"),
                uri("spiffe://mesh.local/ns/c/sa/d"),
                SanType::DnsName("bank.example".try_into().unwrap()),
            ];
        }),
        asking(|ask| ask.distinguished_name.push(DnType::CommonName, "admin")),
        asking(|ask| {
            ask.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            ask.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }),
        asking(|ask| {
            let unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            ask.custom_extensions = vec![unknown];
        }),
    ];
    for request in requests {
        let issued = mesh
            .issuer
            .issue(&request, &web, &Template::default(), mesh.now);
        let issued = issued.unwrap();
        let leaf = parse(&issued.chain[0]);
        assert_eq!(golden(&leaf), TEMPLATE);
        assert!(leaf.issuer_uid.is_none() && leaf.subject_uid.is_none());
        let lasts = leaf.validity().not_after - leaf.validity().not_before;
        let lasts = lasts.unwrap().whole_seconds().unsigned_abs();
        assert_eq!(lasts, LEAF_LIFETIME.as_secs() + 60);
    }
}

#[test]
fn j05_weak_keys_and_bad_signatures_get_nothing() {
    let good = KeyPair::generate().unwrap().signing_request().unwrap();
    let judge = |der: &[u8]| SigningRequest::from_der(der).map(|_| ());
    assert!(judge(good.der()).is_ok(), "control");

    let mut forged = good.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(judge(&forged), Err(InvalidRequest::Signature)));

    // Somebody else's key under our signature.
    let other = KeyPair::generate().unwrap().signing_request().unwrap();
    let key_of = |der: &[u8]| {
        let point = der.windows(3).position(|w| w == [0x42, 0, 4]).unwrap() + 3;
        point..point + 64
    };
    let mut stolen = good.der().to_vec();
    stolen[key_of(good.der())].copy_from_slice(&other.der()[key_of(other.der())]);
    assert!(matches!(judge(&stolen), Err(InvalidRequest::Signature)));

    let with_key = |algorithm| {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::default()
            .serialize_request(&key)
            .unwrap()
    };
    for weak in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P521_SHA512] {
        let refused = judge(with_key(weak).der());
        assert!(matches!(refused, Err(InvalidRequest::Kind)), "{refused:?}");
    }
    for strong in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        assert!(judge(with_key(strong).der()).is_ok());
    }

    let trailing = [good.der(), &[0]].concat();
    assert!(matches!(judge(&trailing), Err(InvalidRequest::Unreadable)));
    assert!(matches!(
        judge(b"-----BEGIN"),
        Err(InvalidRequest::Unreadable)
    ));
    let huge = vec![0; 9 * 1024];
    assert!(matches!(judge(&huge), Err(InvalidRequest::TooLarge { .. })));
}

#[test]
fn an_issuer_names_nobody_of_another_domain() {
    let mesh = Domain::new("mesh.local");
    let request = KeyPair::generate().unwrap().signing_request().unwrap();
    let foreign = identity("spiffe://partner.example/ns/shop/sa/web");
    let refused = mesh
        .issuer
        .issue(&request, &foreign, &Template::default(), mesh.now);
    assert!(matches!(refused, Err(IssuingRefused::ForeignDomain { .. })));
}

#[test]
fn j09_a_leaf_never_outlives_its_issuer_and_an_expired_issuer_signs_nothing() {
    let mesh = Domain::new("mesh.local");
    let request = KeyPair::generate().unwrap().signing_request().unwrap();
    let issue = |now| {
        let template = Template::default();
        mesh.issuer
            .issue(&request, &mesh.identity("web"), &template, now)
    };
    let end = mesh.issuer.not_after();
    let whole = issue(end - 2 * DAY).unwrap();
    assert_eq!(whole.not_after, end - DAY);
    let capped = issue(end - Duration::from_secs(60)).unwrap();
    assert_eq!(capped.not_after, end);
    assert_eq!(
        parse(&capped.chain[0]).validity().not_after,
        parse(&capped.chain[1]).validity().not_after
    );
    assert!(
        mesh.issuer
            .check_clock(end - Duration::from_secs(1))
            .is_ok()
    );
    for late in [end, end + Duration::from_secs(1), end + ISSUER_LIFETIME] {
        assert!(matches!(issue(late), Err(IssuingRefused::Expired { .. })));
        assert!(mesh.issuer.check_clock(late).is_err());
    }
    let early = mesh.now - DAY;
    assert!(matches!(
        issue(early),
        Err(IssuingRefused::NotYetValid { .. })
    ));
}

#[test]
fn j09_an_issuer_ends_with_its_root() {
    let mesh = Domain::new("mesh.local");
    let root_end = parse(mesh.root.certificate())
        .validity()
        .not_after
        .timestamp();
    let late = mesh.now + 3600 * DAY;
    let issuer = mesh.root.sign_issuer(late).unwrap();
    let end = issuer
        .not_after()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert_eq!(i64::try_from(end.as_secs()).unwrap(), root_end);
    // Then no new issuer would help.
    assert_eq!(issuer.root_not_after(), issuer.not_after());
    let ended = issuer.check_clock(issuer.not_after()).unwrap_err();
    assert!(
        ended.to_string().contains("the root has expired"),
        "{ended}"
    );
    let ended = mesh.issuer.check_clock(mesh.issuer.not_after());
    let ended = ended.unwrap_err().to_string();
    assert!(ended.contains("the issuer has expired"), "{ended}");
    assert!(mesh.root.sign_issuer(mesh.now + 3700 * DAY).is_err());
}

#[test]
fn j10_ten_thousand_serials_are_unique_positive_and_random() {
    let mesh = Domain::new("mesh.local");
    let other = mesh.root.sign_issuer(mesh.now).unwrap();
    let request = KeyPair::generate().unwrap().signing_request().unwrap();
    let web = mesh.identity("web");
    let mut seen = HashSet::new();
    let mut ones = [0_u32; 128];
    for index in 0..10_000 {
        let issuer = if index % 2 == 0 { &mesh.issuer } else { &other };
        let issued = issuer.issue(&request, &web, &Template::default(), mesh.now);
        let serial = u128::from_str_radix(&issued.unwrap().serial, 16).unwrap();
        assert!(serial > 0 && serial >> 127 == 0, "{serial:x}");
        for (bit, count) in ones.iter_mut().enumerate() {
            *count += u32::from(serial >> bit & 1 == 1);
        }
        assert!(seen.insert(serial), "{serial:x} came twice");
    }
    // Each of 127 bits is set about half of the time: 10 standard deviations are 500.
    for (bit, count) in ones[..127].iter().enumerate() {
        assert!(
            (4_500..5_500).contains(count),
            "bit {bit} was set {count} times"
        );
    }
}

#[test]
fn the_serial_that_is_logged_is_that_of_the_certificate() {
    let mesh = Domain::new("mesh.local");
    let web = mesh.credentials("web");
    let logged = u128::from_str_radix(web.serial(), 16).unwrap();
    let written = parse(&web.chain()[0]).serial.to_str_radix(16);
    assert_eq!(format!("{logged:x}"), written);
}

#[test]
fn a_ca_is_written_and_read_again_and_strange_parts_are_refused() {
    let mesh = Domain::new("mesh.local");
    let other = Domain::new("mesh.local");
    let take = |chain: &str, key: &str| {
        Issuer::from_pem(chain, key, mesh.root.bundle().clone(), mesh.now).map(|_| ())
    };
    let (chain, key) = (mesh.issuer.chain_pem(), mesh.issuer.key_pem());
    assert!(take(&chain, &key).is_ok(), "control");
    let with_root = format!("{chain}{}", mesh.root.bundle().to_pem());
    assert!(take(&with_root, &key).is_ok());

    let foreign = take(&chain, &other.issuer.key_pem());
    assert!(matches!(foreign, Err(InvalidIssuer::ForeignKey)));
    let disbelieved = take(&other.issuer.chain_pem(), &other.issuer.key_pem());
    assert!(matches!(disbelieved, Err(InvalidIssuer::Disbelieved(_))));
    let root = take(&mesh.root.bundle().to_pem(), &mesh.root.key().to_pem());
    assert!(matches!(root, Err(InvalidIssuer::OnlyRoot)));
    let leaf = crate::support::Forged::new(&mesh, |_| {});
    assert!(take(&leaf.chain_pem(), &leaf.key_pem()).is_err());
    assert!(matches!(take("", &key), Err(InvalidIssuer::Pem(_))));
    assert!(matches!(take(&chain, ""), Err(InvalidIssuer::Key(_))));

    let late = mesh.now + ISSUER_LIFETIME + DAY;
    let expired = Issuer::from_pem(&chain, &key, mesh.root.bundle().clone(), late);
    assert!(matches!(expired, Err(InvalidIssuer::Expired { .. })));

    let text = mesh.root.bundle().to_pem();
    let again = Root::from_pem(mesh.issuer.domain(), &text, &mesh.root.key().to_pem()).unwrap();
    assert_eq!(again.hash(), mesh.root.hash());
    let foreign = Root::from_pem(mesh.issuer.domain(), &text, &other.root.key().to_pem());
    assert!(matches!(foreign, Err(InvalidIssuer::ForeignKey)));
}

#[test]
fn s01_debug_shows_no_key() {
    let mesh = Domain::new("mesh.local");
    let key = KeyPair::generate().unwrap();
    let text = key.to_pem();
    let request = key.signing_request().unwrap();
    let web = mesh.identity("web");
    let issued = mesh
        .issuer
        .issue(&request, &web, &Template::default(), mesh.now)
        .unwrap();
    let shown_key = format!("{key:?}");
    let credentials =
        mesh_tls::credentials::Credentials::new(key, issued.chain, mesh.bundles(), mesh.now);
    let credentials = credentials.unwrap();
    let shown = [
        shown_key,
        format!("{:?}", mesh.root),
        format!("{:?}", mesh.issuer),
        format!("{credentials:?}"),
        format!("{:?}", strict(&credentials)),
        format!(
            "{:?}",
            config::server(&credentials, ClientCertificates::Optional)
        ),
        format!(
            "{:?}",
            calling(&credentials, &Identity::admin(mesh.issuer.domain()))
        ),
    ];
    // The secret scalar of a PKCS#8 P-256 key: its bytes as they would be printed.
    let der = rcgen::KeyPair::from_pem(&text).unwrap().serialize_der();
    let secret = &der[36..44];
    let decimal = format!("{secret:?}");
    let decimal = decimal.trim_matches(['[', ']']);
    let hexadecimal: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    for shown in shown {
        assert!(!shown.contains(decimal), "{shown}");
        assert!(!shown.to_lowercase().contains(&hexadecimal), "{shown}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
