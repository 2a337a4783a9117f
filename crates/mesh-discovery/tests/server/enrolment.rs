//! A token becomes a certificate, once.

use std::collections::BTreeSet;

use http::StatusCode;
use mesh_policy::token::JoinToken;
use mesh_tls::request::KeyPair;

use crate::harness::{Discovery, HOLDS};

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
