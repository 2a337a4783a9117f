//! Chains that lead to no anchor of the right domain, at the wrong time, or too far.

use std::time::Duration;

use mesh_tls::anchors::{TrustBundle, TrustBundles};
use mesh_tls::issuer::Template;
use mesh_tls::request::KeyPair;
use mesh_tls::root::Root;
use mesh_tls::verify::{Presented, RefusedCertificate, Role, verify};
use rcgen::{CertificateParams, CustomExtension, KeyUsagePurpose};

use crate::support::{
    Domain, Forged, authority_params, calling, domain, leaf_params, meet, reason, strict, uri,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[tokio::test]
async fn t03_t04_a_leaf_counts_only_between_its_dates_in_both_directions() {
    let mesh = Domain::new("mesh.local");
    let dated = |begins: i64, ends: i64| {
        let at = |seconds: i64| {
            let distance = Duration::from_secs(seconds.unsigned_abs());
            match seconds {
                0.. => mesh.now + distance,
                _ => mesh.now - distance,
            }
        };
        Forged::new(&mesh, |leaf| {
            leaf.not_before = at(begins).into();
            leaf.not_after = at(ends).into();
        })
    };
    let (as_client, as_server) = dated(-3600, 3600).met(&mesh).await;
    assert!(as_client.succeeded() && as_server.succeeded(), "control");
    let (client, server) = dated(-7200, -3600).refused(&mesh).await;
    assert_eq!(client, "Certificate(Expired)");
    assert_eq!(server, "Certificate(Expired)");
    let (client, server) = dated(600, 3600).refused(&mesh).await;
    assert_eq!(client, "Certificate(NotYetValid)");
    assert_eq!(server, "Certificate(NotYetValid)");
}

#[tokio::test]
async fn t05_an_unknown_ca_and_a_self_signed_leaf_are_refused() {
    let mesh = Domain::new("mesh.local");
    // Same names throughout, other keys.
    let stranger = Forged::new(&Domain::new("mesh.local"), |_| {});
    let self_signed = Forged::self_signed(&leaf_params(&mesh, |_| {}));
    for forged in [stranger, self_signed] {
        let (client, server) = forged.refused(&mesh).await;
        assert_eq!(client, "Certificate(UnknownAuthority)");
        assert_eq!(server, "Certificate(UnknownAuthority)");
    }
    let own = Forged::new(&mesh, |_| {});
    let (as_client, as_server) = own.met(&mesh).await;
    assert!(as_client.succeeded() && as_server.succeeded(), "control");
}

#[test]
fn t06_the_ca_of_one_domain_cannot_vouch_for_another() {
    let (ours, theirs) = (Domain::new("mesh.local"), Domain::new("partner.example"));
    let both: TrustBundles = [&ours, &theirs]
        .map(|mesh| mesh.root.bundle().clone())
        .into_iter()
        .collect();
    let judge = |forged: &Forged, bundles: &TrustBundles| {
        let presented = Presented::from_chain(&forged.chain).unwrap();
        verify(&presented, bundles, Role::Client, ours.now).map(|leaf| leaf.identity().clone())
    };
    let own = Forged::new(&theirs, |_| {});
    assert_eq!(judge(&own, &both), Ok(theirs.identity("web")));
    let crossed = Forged::new(&theirs, |leaf| {
        leaf.subject_alt_names = vec![uri(ours.identity("web").as_str())];
    });
    assert_eq!(
        judge(&crossed, &both),
        Err(RefusedCertificate::UnknownAuthority)
    );
    let only_ours = ours.bundles();
    assert!(matches!(
        judge(&own, &only_ours),
        Err(RefusedCertificate::UnknownDomain { .. })
    ));
}

#[tokio::test]
async fn t13_a_long_or_large_chain_is_refused_before_it_is_verified() {
    let mesh = Domain::new("mesh.local");
    let mut forged = Forged::new(&mesh, |_| {});
    forged.chain.push(mesh.root.certificate().clone());
    forged.chain.push(mesh.root.certificate().clone());
    let (as_client, as_server) = forged.met(&mesh).await;
    assert!(as_client.succeeded() && as_server.succeeded(), "control");
    forged.chain.push(mesh.root.certificate().clone());
    let (client, server) = forged.refused(&mesh).await;
    assert!(client.contains("TooLarge { certificates: 5"), "{client}");
    assert!(server.contains("TooLarge { certificates: 5"), "{server}");

    let padded = |bytes: usize| {
        Forged::new(&mesh, |leaf| {
            let padding = vec![0; bytes];
            let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], padding);
            leaf.custom_extensions.push(extension);
        })
    };
    let (as_client, _) = padded(14 * 1024).met(&mesh).await;
    assert!(as_client.succeeded(), "control");
    let (client, _) = padded(16 * 1024).refused(&mesh).await;
    assert!(client.contains("TooLarge { certificates: 2"), "{client}");
}

#[tokio::test]
async fn t13_who_may_not_sign_signs_nothing() {
    let mesh = Domain::new("mesh.local");
    let root = (
        mesh.root.bundle().to_pem(),
        mesh.root.key().to_pem().to_string(),
    );
    let issued = (mesh.issuer.chain_pem(), mesh.issuer.key_pem().to_string());
    let below = |signer: &(String, String), ca: &CertificateParams| {
        let ca = Forged::signed_by(&signer.0, &signer.1, ca);
        Forged::signed_by(&ca.chain_pem(), &ca.key_pem(), &leaf_params(&mesh, |_| {}))
    };
    let good = below(&root, &authority_params(&mesh));
    let (as_client, as_server) = good.met(&mesh).await;
    assert!(as_client.succeeded() && as_server.succeeded(), "control");

    let too_deep = below(&issued, &authority_params(&mesh));
    let (client, _) = too_deep.refused(&mesh).await;
    assert!(client.contains("PathLenConstraintViolated"), "{client}");

    let from_a_leaf = below(&root, &leaf_params(&mesh, |_| {}));
    let (client, _) = from_a_leaf.refused(&mesh).await;
    assert!(client.contains("EndEntityUsedAsCa"), "{client}");

    let mut without_usage = authority_params(&mesh);
    without_usage.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let (client, _) = below(&root, &without_usage).refused(&mesh).await;
    assert!(client.contains("IssuerMayNotSign"), "{client}");
}

#[tokio::test]
async fn t15_a_client_refuses_a_valid_workload_that_it_did_not_mean() {
    let mesh = Domain::new("mesh.local");
    let (web, orders) = (mesh.credentials("web"), mesh.credentials("orders"));
    let thief = mesh.credentials("thief");
    let met = meet(strict(&thief), calling(&web, orders.identity())).await;
    // The server never saw a certificate of ours, let alone a byte.
    assert!(met.server.is_err() && !met.answered);
    assert!(reason(met.client).contains("Unexpected"));
    let met = meet(strict(&orders), calling(&web, orders.identity())).await;
    assert!(met.succeeded(), "control");
}

#[tokio::test]
async fn t28_an_expired_anchor_vouches_for_nobody() {
    let mesh = Domain::new("mesh.local");
    let verdict = |root: &Root, bundle: TrustBundle| {
        let (pem, key) = (root.bundle().to_pem(), root.key().to_pem());
        let forged = Forged::signed_by(&pem, &key, &leaf_params(&mesh, |_| {}));
        // The leaf alone: path building does look at the dates of what is presented.
        let presented = Presented::from_chain(&forged.chain[..1]).unwrap();
        verify(&presented, &bundle.into(), Role::Client, mesh.now).map(|_| ())
    };
    let live = Root::create(&domain("mesh.local"), mesh.now - 9 * YEAR).unwrap();
    let expired = Root::create(&domain("mesh.local"), mesh.now - 11 * YEAR).unwrap();
    let certificates = [&expired, &live].map(|root| root.certificate().clone());
    let both = TrustBundle::new(domain("mesh.local"), certificates.to_vec()).unwrap();

    assert_eq!(verdict(&live, live.bundle().clone()), Ok(()));
    assert_eq!(verdict(&live, both.clone()), Ok(()));
    let unknown = Err(RefusedCertificate::UnknownAuthority);
    assert_eq!(verdict(&expired, expired.bundle().clone()), unknown);
    assert_eq!(verdict(&expired, both), unknown);
}

#[test]
fn credentials_that_peers_would_refuse_are_never_put_together() {
    use mesh_tls::credentials::{Credentials, UnfitCredentials};

    let mesh = Domain::new("mesh.local");
    let key = KeyPair::generate().unwrap();
    let request = key.signing_request().unwrap();
    let web = mesh.identity("web");
    let issued = mesh
        .issuer
        .issue(&request, &web, &Template::default(), mesh.now);
    let chain = issued.unwrap().chain;

    let stranger = KeyPair::generate().unwrap();
    let unfit = Credentials::new(stranger, chain.clone(), mesh.bundles(), mesh.now);
    assert!(matches!(unfit, Err(UnfitCredentials::ForeignKey)));
    let text = key.to_pem();
    let copy = || KeyPair::from_pem(&text).unwrap();
    let other = Domain::new("mesh.local").bundles();
    let unfit = Credentials::new(copy(), chain.clone(), other, mesh.now);
    assert!(matches!(unfit, Err(UnfitCredentials::Refused(_))));
    let unfit = Credentials::new(copy(), chain.clone(), mesh.bundles(), mesh.now + 2 * DAY);
    assert!(matches!(unfit, Err(UnfitCredentials::Refused(_))));
    assert!(Credentials::new(copy(), chain, mesh.bundles(), mesh.now).is_ok());
}
