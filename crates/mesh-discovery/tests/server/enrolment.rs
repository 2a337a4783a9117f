//! A token becomes a certificate, once.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use mesh_discovery::wire::TokenRequest;
use mesh_policy::plan::PROTOCOL_VERSION;
use mesh_policy::plan::enrol::{Attestation, EnrolRequest, EnrolResponse};
use mesh_policy::token::JoinToken;
use mesh_tls::request::KeyPair;
use rcgen::{CertificateParams, CustomExtension, DnType, KeyUsagePurpose, SanType};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::harness::{
    Discovery, HOLDS, answer, certificates, config, encode, enrol_request, request,
};

fn csr() -> Vec<u8> {
    let key = KeyPair::generate().expect(HOLDS);
    key.signing_request().expect(HOLDS).der().to_vec()
}

#[tokio::test]
async fn a_token_makes_its_holder_who_it_names() {
    let discovery = Discovery::start().await;
    let token = discovery.token("shop/web").await;
    let enrolled = discovery.enrol(&token.reveal(), &csr()).await.unwrap();
    let identity = "spiffe://mesh.local/ns/shop/sa/web";
    assert_eq!(enrolled.identity.as_str(), identity);
    assert_eq!(enrolled.anchors.len(), 1);
    assert!(enrolled.not_after - enrolled.now <= 24 * 60 * 60);
    discovery.server.shutdown().await;
}

#[tokio::test]
async fn j01_every_useless_token_is_refused_with_one_text() {
    let discovery = Discovery::start().await;
    let token = discovery.token("shop/web").await;
    let root = *discovery.server.root_hash();
    let whole = token.reveal();
    let used = discovery.token("shop/used").await.reveal();
    discovery
        .enrol(&used, &csr())
        .await
        .expect("the first use is good");
    let parts: Vec<_> = whole.split('.').collect();
    let mut refusals = BTreeSet::new();
    for text in [
        used,
        String::new(),
        whole[..whole.len() - 1].to_owned(),
        whole.to_uppercase(),
        JoinToken::new([0; 9], [0; 32], root).reveal(),
        [
            parts[0],
            parts[1],
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            parts[3],
        ]
        .join("."),
        [
            parts[0],
            parts[1],
            parts[2],
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ]
        .join("."),
    ] {
        let (status, refusal) = discovery.enrol(&text, &csr()).await.unwrap_err();
        refusals.insert((status, refusal.error, refusal.message));
    }
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    let (status, word, _) = refusals.pop_first().unwrap();
    assert_eq!(
        (status, word.as_str()),
        (StatusCode::FORBIDDEN, "join-refused")
    );
    // The token that was misspelled is still good.
    assert!(discovery.enrol(&whole, &csr()).await.is_ok());
}

#[tokio::test]
async fn j02_of_fifty_racers_with_one_token_exactly_one_gets_a_certificate() {
    let discovery = Discovery::start().await;
    let token = discovery.token("shop/web").await.reveal();
    let racers = (0..50).map(|_| async { discovery.enrol(&token, &csr()).await.is_ok() });
    let won = futures_util::future::join_all(racers).await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
}

#[tokio::test]
async fn j03_the_same_key_gets_the_same_certificate_again_and_another_key_none() {
    let discovery = Discovery::start().await;
    let token = discovery.token("shop/web").await.reveal();
    let csr = csr();
    let first = discovery.enrol(&token, &csr).await.unwrap();
    let again = discovery.enrol(&token, &csr).await.unwrap();
    assert_eq!(first.chain, again.chain);
    assert!(discovery.enrol(&token, &self::csr()).await.is_err());
}

#[tokio::test]
async fn j03_a_lost_answer_is_repeated_after_the_tokens_end_and_counts_once() {
    let discovery = Discovery::start().await;
    let short = TokenRequest {
        ttl_seconds: 1,
        uses: 2,
        ..request("shop/web")
    };
    let token = discovery.server.create_token(&short).await.expect(HOLDS);
    let token = token.reveal();
    let csr = csr();
    let first = discovery.enrol(&token, &csr).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;

    let again = discovery.enrol(&token, &csr).await.unwrap();
    assert_eq!(first.chain, again.chain);
    assert!(again.now > first.now, "only the clock has moved on");
    let (status, _) = discovery.enrol(&token, &self::csr()).await.unwrap_err();
    assert_eq!(status, StatusCode::FORBIDDEN, "the token has ended");

    let metrics = discovery.admin("metrics").await.1;
    let issued = "mesh_discovery_certificates_issued_total 1\n";
    assert!(metrics.contains(issued), "{metrics}");
}

/// A request for everything that a workload must not have.
fn greedy(ask: fn(&mut CertificateParams)) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().expect(HOLDS);
    let mut params = CertificateParams::default();
    ask(&mut params);
    let request = params.serialize_request(&key).expect(HOLDS);
    request.der().to_vec()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect(HOLDS))
}

#[tokio::test]
async fn j05_whatever_a_request_asks_for_the_certificate_is_of_the_one_form() {
    let asks: [fn(&mut CertificateParams); 5] = [
        |params| params.subject_alt_names = vec![uri("spiffe://mesh.local/ns/bank/sa/vault")],
        |params| {
            params.subject_alt_names = vec![
                uri("spiffe://mesh.local/ns/shop/sa/web"),
                uri("spiffe://mesh.local/ns/mesh-system/sa/admin"),
                SanType::DnsName("mesh-discovery".try_into().expect(HOLDS)),
            ];
        },
        |params| {
            params.distinguished_name.push(DnType::CommonName, "admin");
        },
        |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign],
        |params| {
            // Basic constraints with CA:true.
            let authority = vec![0x30, 0x03, 0x01, 0x01, 0xFF];
            let extension = CustomExtension::from_oid_content(&[2, 5, 29, 19], authority);
            params.custom_extensions = vec![extension];
        },
    ];
    let discovery = Discovery::start().await;
    for ask in asks {
        let csr = greedy(ask);
        let token = discovery.token("shop/web").await.reveal();
        let enrolled = discovery.enrol(&token, &csr).await.unwrap();
        let leaf = &certificates(&enrolled.chain)[0];
        let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical, "there is no subject");
        let identity = "spiffe://mesh.local/ns/shop/sa/web";
        assert_eq!(names.value.general_names, [GeneralName::URI(identity)]);
        assert_eq!(leaf.subject().iter().count(), 0);
        assert!(!leaf.is_ca());
        let usage = leaf.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        assert_eq!(usage.value.flags, 1, "digitalSignature alone");
        let usages = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usages.server_auth && usages.client_auth && !usages.any);
        assert!(usages.other.is_empty() && !usages.code_signing);
    }
}

#[tokio::test]
async fn j05_a_request_that_proves_no_key_is_refused_and_costs_no_token() {
    let discovery = Discovery::start().await;
    let token = discovery.token("shop/web").await.reveal();
    let good = csr();
    let mut forged = good.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let weak = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).expect(HOLDS);
    let weak = CertificateParams::default()
        .serialize_request(&weak)
        .expect(HOLDS);
    for csr in [forged, weak.der().to_vec(), Vec::new(), vec![0x30; 9_000]] {
        let (status, refusal) = discovery.enrol(&token, &csr).await.unwrap_err();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{refusal:?}");
    }
    assert!(discovery.enrol(&token, &good).await.is_ok());
}

fn renew(discovery: &Discovery, client: &reqwest::Client) -> reqwest::RequestBuilder {
    let request = EnrolRequest {
        version: PROTOCOL_VERSION,
        csr: encode(&csr()),
        attestation: Attestation::Certificate,
    };
    let body = serde_json::to_string(&request).expect(HOLDS);
    client.post(discovery.url("/v1/identity")).body(body)
}

#[tokio::test]
async fn j13_a_flood_of_bad_tokens_ends_no_renewal_and_no_join_from_elsewhere() {
    let discovery = Discovery::start().await;
    let web = discovery.join("shop/web").await;
    let good = discovery.token("shop/api").await.reveal();
    let bad = JoinToken::new([0; 9], [0; 32], *discovery.server.root_hash()).reveal();
    let csr = csr();
    let stranger = discovery.nobody();
    let body = enrol_request(&bad, &csr);
    let flood = (0..300).map(|_| {
        let asked = stranger.post(discovery.url("/v1/identity"));
        asked.body(body.clone()).send()
    });
    let answers = futures_util::future::join_all(flood).await;
    let mut limited = 0;
    for answer in answers {
        let answer = answer.expect(HOLDS);
        if answer.status() == StatusCode::FORBIDDEN {
            continue;
        }
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()["retry-after"], "1");
        limited += 1;
    }
    assert!(limited > 0, "all of them were looked at");

    assert!(
        answer::<EnrolResponse>(renew(&discovery, &web))
            .await
            .is_ok()
    );
    let elsewhere = reqwest::Client::builder()
        .tls_backend_preconfigured(
            (*mesh_tls::config::joining(*discovery.server.root_hash())).clone(),
        )
        .local_address(Some([127, 0, 0, 2].into()))
        .build()
        .expect(HOLDS);
    let body = enrol_request(&good, &csr);
    let joining = elsewhere.post(discovery.url("/v1/identity")).body(body);
    assert!(answer::<EnrolResponse>(joining).await.is_ok());
}

#[tokio::test]
async fn a_certificate_is_renewed_for_the_same_identity_and_another_key() {
    let discovery = Discovery::start().await;
    let web = discovery.join("shop/web").await;
    let renewed: EnrolResponse = answer(renew(&discovery, &web)).await.unwrap();
    let identity = "spiffe://mesh.local/ns/shop/sa/web";
    assert_eq!(renewed.identity.as_str(), identity);

    let refused = answer::<EnrolResponse>(renew(&discovery, &discovery.nobody())).await;
    assert_eq!(refused.unwrap_err().0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_joined_before_a_restart_is_believed_after_it() {
    let dir = tempfile::tempdir().expect(HOLDS);
    let first = mesh_discovery::Server::start(config(&dir))
        .await
        .expect(HOLDS);
    let root = *first.root_hash();
    first.shutdown().await;
    let second = mesh_discovery::Server::start(config(&dir))
        .await
        .expect(HOLDS);
    assert_eq!(*second.root_hash(), root);
}
