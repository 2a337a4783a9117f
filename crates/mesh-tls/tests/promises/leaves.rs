//! Leaves of the right CA that are not of the one form.

use mesh_tls::config::{self, ClientCertificates};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType,
};
use rustls::client::ResolvesClientCert;
use std::sync::Arc;

use crate::support::{Domain, Forged, calling, meet, reason, strict, uri};

const WEB: &str = "spiffe://mesh.local/ns/shop/sa/web";
/// The OID of subjectAltName.
const NAMES: &[u64] = &[2, 5, 29, 17];

/// Its name, the reason expected, and what is changed in a good leaf.
type Case = (
    &'static str,
    &'static str,
    Box<dyn Fn(&mut CertificateParams)>,
);

/// Each edit is refused at both ends for the reason named; the unedited leaf is accepted.
async fn all_refused(cases: Vec<Case>) {
    let mesh = Domain::new("mesh.local");
    let (as_client, as_server) = Forged::new(&mesh, |_| {}).met(&mesh).await;
    assert!(as_client.succeeded() && as_server.succeeded(), "control");
    for (case, expected, edit) in cases {
        let (client, server) = Forged::new(&mesh, edit).refused(&mesh).await;
        for reason in [client, server] {
            assert!(reason.contains(expected), "{case}: {reason}");
        }
    }
}

#[tokio::test]
async fn t02_a_client_without_a_certificate_is_refused_or_nobody() {
    let mesh = Domain::new("mesh.local");
    let orders = mesh.credentials("orders");
    let mut nobody = (*calling(&mesh.credentials("web"), orders.identity())).clone();
    nobody.client_auth_cert_resolver = Arc::new(NoCertificate);
    let nobody = Arc::new(nobody);

    let met = meet(strict(&orders), nobody.clone()).await;
    assert!(!met.answered);
    assert_eq!(reason(met.server), "NoCertificate");

    let open = config::server(&orders, ClientCertificates::Optional);
    let met = meet(open.clone(), nobody).await;
    assert!(met.answered);
    assert_eq!(met.server.unwrap().peer, None);

    // What is shown must hold, where it need not be shown.
    let stranger = Domain::new("mesh.local").credentials("web");
    let posing = mesh.credentials("web");
    let stranger = Forged::self_signed(&crate::support::leaf_params(&mesh, |_| {}))
        .calls(&calling(&stranger, orders.identity()));
    let met = meet(open.clone(), stranger).await;
    assert!(!met.answered && met.server.is_err());
    let met = meet(open, calling(&posing, orders.identity())).await;
    assert_eq!(met.server.unwrap().peer.as_ref(), Some(posing.identity()));
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn t07_two_uris_are_refused_also_when_the_first_is_right() {
    let second = |text: &'static str| {
        Box::new(move |leaf: &mut CertificateParams| leaf.subject_alt_names.push(uri(text))) as _
    };
    all_refused(vec![
        (
            "another identity",
            "SeveralUris",
            second("spiffe://mesh.local/ns/shop/sa/admin"),
        ),
        ("the same twice", "SeveralUris", second(WEB)),
        (
            "a web address",
            "SeveralUris",
            second("https://mesh.local/"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn t08_a_certificate_without_a_uri_is_nobody() {
    all_refused(vec![
        (
            "a DNS name only",
            "NoUri",
            Box::new(|leaf| {
                leaf.subject_alt_names = vec![SanType::DnsName("web.shop".try_into().unwrap())];
            }),
        ),
        (
            "the ID as common name",
            "NoUri",
            Box::new(|leaf| {
                leaf.subject_alt_names.clear();
                leaf.distinguished_name.push(DnType::CommonName, WEB);
            }),
        ),
    ])
    .await;
}

#[tokio::test]
async fn t09_a_leaf_that_could_sign_is_refused() {
    let usage =
        |usage| Box::new(move |leaf: &mut CertificateParams| leaf.key_usages.push(usage)) as _;
    all_refused(vec![
        (
            "CA:true",
            "Authority",
            Box::new(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        ("keyCertSign", "Signer", usage(KeyUsagePurpose::KeyCertSign)),
        ("cRLSign", "Signer", usage(KeyUsagePurpose::CrlSign)),
        (
            "no path",
            "Identity",
            Box::new(|leaf| leaf.subject_alt_names = vec![uri("spiffe://mesh.local")]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn t10_identities_are_never_mended() {
    let spelt = |text: &'static str| {
        let edit = move |leaf: &mut CertificateParams| leaf.subject_alt_names = vec![uri(text)];
        (text, "Identity", Box::new(edit) as _)
    };
    let mut cases: Vec<Case> = [
        "spiffe://Mesh.Local/ns/shop/sa/web",
        "SPIFFE://mesh.local/ns/shop/sa/web",
        "spiffe://user@mesh.local/ns/shop/sa/web",
        "spiffe://mesh.local:443/ns/shop/sa/web",
        "spiffe://mesh.local/ns/shop/sa/web/",
        "spiffe://mesh.local/ns//sa/web",
        "spiffe://mesh.local/ns/shop/sa/../sa/web",
        "spiffe://mesh.local/ns/shop/sa/%77eb",
        "spiffe://mesh.local/ns/shop/sa/web?x",
        "spiffe://mesh.local/ns/shop/sa/web#x",
        "spiffe://mesh.local/ns/shop/sa/web\0",
        "spiffe://mesh.local/ns/shop/sa/web\0.evil",
    ]
    .into_iter()
    .map(spelt)
    .collect();
    cases.push((
        "beyond ASCII",
        "Identity",
        Box::new(|leaf| raw_uris(leaf, &["spiffe://mesh.local/ns/shop/sa/wéb".as_bytes()])),
    ));
    cases.push((
        "a second that is no text",
        "Unreadable",
        Box::new(|leaf| raw_uris(leaf, &[WEB.as_bytes(), b"spiffe://\xff"])),
    ));
    all_refused(cases).await;
}

/// Writes names that the signing library would not.
fn raw_uris(leaf: &mut CertificateParams, uris: &[&[u8]]) {
    let element = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("the test's names are short");
        assert!(length < 128, "the short form of a length");
        [&[tag, length], content].concat()
    };
    let names: Vec<u8> = uris.iter().flat_map(|uri| element(0x86, uri)).collect();
    leaf.subject_alt_names.clear();
    let extension = CustomExtension::from_oid_content(NAMES, element(0x30, &names));
    leaf.custom_extensions.push(extension);
}

#[tokio::test]
async fn t10_names_written_by_hand_are_read_like_any_other() {
    let mesh = Domain::new("mesh.local");
    let forged = Forged::new(&mesh, |leaf| raw_uris(leaf, &[WEB.as_bytes()]));
    let (as_client, as_server) = forged.met(&mesh).await;
    assert!(as_client.succeeded() && as_server.succeeded());
}

#[tokio::test]
async fn t11_other_kinds_of_names_are_no_identity() {
    all_refused(vec![
        (
            "as a DNS name",
            "NoUri",
            Box::new(|leaf| {
                leaf.subject_alt_names = vec![SanType::DnsName(WEB.try_into().unwrap())];
            }),
        ),
        (
            "as a mail address",
            "NoUri",
            Box::new(|leaf| {
                leaf.subject_alt_names = vec![SanType::Rfc822Name(WEB.try_into().unwrap())];
            }),
        ),
    ])
    .await;
}

#[tokio::test]
async fn t12_the_extended_key_usage_must_fit_the_end() {
    let mesh = Domain::new("mesh.local");
    let for_use = |usage| Forged::new(&mesh, |leaf| leaf.extended_key_usages = vec![usage]);

    let mail = for_use(ExtendedKeyUsagePurpose::EmailProtection);
    let (client, server) = mail.refused(&mesh).await;
    assert!(client.contains("WrongRole { role: Client }"), "{client}");
    assert!(server.contains("WrongRole { role: Server }"), "{server}");

    let serving = for_use(ExtendedKeyUsagePurpose::ServerAuth);
    let (as_client, as_server) = serving.met(&mesh).await;
    assert!(!as_client.answered && as_server.succeeded());

    let calling = for_use(ExtendedKeyUsagePurpose::ClientAuth);
    let (as_client, as_server) = calling.met(&mesh).await;
    assert!(as_client.succeeded() && !as_server.answered);
}

#[tokio::test]
async fn t29_a_leaf_that_does_not_say_what_its_key_is_for_is_refused() {
    all_refused(vec![
        (
            "no key usage",
            "NoKeyUsage",
            Box::new(|leaf| leaf.key_usages.clear()),
        ),
        (
            "another key usage",
            "NoDigitalSignature",
            Box::new(|leaf| leaf.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
        ),
        (
            "no extended key usage",
            "NoExtendedKeyUsage",
            Box::new(|leaf| leaf.extended_key_usages.clear()),
        ),
    ])
    .await;
}
