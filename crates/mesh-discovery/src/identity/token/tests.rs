use std::sync::Arc;

use super::*;
use crate::store::memory::Memory;

fn tokens() -> Tokens {
    let domain = "mesh.local".parse().unwrap();
    Tokens::new(Arc::new(Memory::new()), domain, [7; 32])
}

fn request() -> TokenRequest {
    TokenRequest::new("shop".parse().unwrap(), "web".parse().unwrap())
}

#[tokio::test]
async fn s01_the_store_holds_no_secret() {
    let tokens = tokens();
    let (token, _) = tokens.create(&request(), SystemTime::now()).await.unwrap();
    let record = tokens.store.get(&key(token.id())).await.unwrap().unwrap();
    let text = String::from_utf8(record.value.to_vec()).unwrap();
    let revealed = token.reveal();
    let secret = revealed.split('.').nth(2).unwrap();
    assert!(!text.contains(secret), "{text}");
    let kept = TokenRecord::from_json(&record.value).unwrap();
    assert_eq!(kept.check_secret(&token), Ok(()));
}

#[tokio::test]
async fn every_bound_of_a_token_is_checked() {
    let tokens = tokens();
    let break_it: [fn(&mut TokenRequest); 6] = [
        |r| r.namespace = "mesh-system".parse().unwrap(),
        |r| r.ttl_seconds = 0,
        |r| r.ttl_seconds = 86_401,
        |r| r.uses = 0,
        |r| r.uses = 1001,
        |r| r.serves = vec!["a.b".parse().unwrap(); 65],
    ];
    for change in break_it {
        let mut request = request();
        change(&mut request);
        let made = tokens.create(&request, SystemTime::now()).await;
        assert!(made.is_err(), "{request:?}");
    }
}

#[tokio::test]
async fn a_list_tells_what_can_be_used_and_a_sweep_removes_what_cannot() {
    let tokens = tokens();
    let now = SystemTime::now();
    let (token, expires) = tokens.create(&request(), now).await.unwrap();
    let listed = tokens.list(now).await.unwrap().tokens;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, token.id());
    assert_eq!(listed[0].uses_left, 1);

    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(expires);
    assert_eq!(tokens.list(end).await.unwrap().tokens, []);
    tokens.sweep(now).await.unwrap();
    assert!(tokens.revoke(token.id()).await.unwrap());
    assert!(!tokens.revoke(token.id()).await.unwrap());

    let (token, _) = tokens.create(&request(), now).await.unwrap();
    tokens.sweep(end).await.unwrap();
    let kept = tokens.store.get(&key(token.id())).await.unwrap();
    assert!(kept.is_some(), "a lost answer can still be asked for");
    tokens.sweep(end + REPLAY).await.unwrap();
    assert!(!tokens.revoke(token.id()).await.unwrap());
}

#[tokio::test]
async fn c18_a_newer_versions_token_is_kept_with_all_that_it_says() {
    let tokens = tokens();
    let now = SystemTime::now();
    let (token, _) = tokens.create(&request(), now).await.unwrap();
    let record = tokens.store.get(&key(token.id())).await.unwrap().unwrap();
    let mut newer: Value = serde_json::from_slice(&record.value).unwrap();
    newer["only_from"] = "10.0.0.0/8".into();
    let read = TokenRecord::from_json(newer.to_string().as_bytes()).unwrap();
    let used: Value = serde_json::from_slice(&read.used().unwrap().to_json()).unwrap();
    assert_eq!(used["only_from"], "10.0.0.0/8");

    let write = Write::put(key("later"), r#"{"form":2}"#);
    tokens.store.commit(vec![write]).await.unwrap();
    tokens.sweep(now + MAX_TTL * 2).await.unwrap();
    assert!(tokens.store.get(&key("later")).await.unwrap().is_some());
}

#[test]
fn j01_a_token_that_is_wrong_or_late_is_useless() {
    let token = JoinToken::new([1; 9], [2; 32], [7; 32]);
    let record = TokenRecord {
        identity: "spiffe://mesh.local/ns/shop/sa/web".parse().unwrap(),
        serves: Vec::new(),
        secret: token.secret_hash(),
        uses_left: 1,
        expires: 100,
        rest: Map::new(),
    };
    assert_eq!(record.check_secret(&token), Ok(()));
    assert_eq!(record.check_end(99), Ok(()));
    assert_eq!(record.check_end(100), Err(UselessToken::Expired));
    let forged = JoinToken::new([1; 9], [3; 32], [7; 32]);
    assert_eq!(record.check_secret(&forged), Err(UselessToken::WrongSecret));
    let used = record.used().unwrap();
    assert_eq!(used.used(), Err(UselessToken::UsedUp));
}
