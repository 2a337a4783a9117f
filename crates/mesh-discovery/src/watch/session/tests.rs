use super::*;
use crate::store::memory::Memory;
use crate::store::{Store, Write};

fn identity(account: &str) -> Identity {
    let text = format!("spiffe://mesh.local/ns/shop/sa/{account}");
    text.parse().unwrap()
}

fn request() -> WatchRequest {
    WatchRequest {
        version: 1,
        capabilities: BTreeSet::new(),
        library: "test".into(),
        workload: "api".into(),
        instance: "api-1".into(),
        labels: BTreeMap::new(),
        admin: None,
        resume: None,
        subscriptions: Subscriptions::default(),
    }
}

struct Fixture {
    store: Arc<Memory>,
    sessions: Arc<Sessions>,
    _ending: watch::Sender<bool>,
}

/// Sessions whose expiry runs.
fn fixture() -> Fixture {
    let store = Arc::new(Memory::new());
    let sessions = Sessions::new(store.clone(), Arc::new(Metrics::new()));
    let sessions = Arc::new(sessions);
    let (ending, is_ending) = watch::channel(false);
    drop(tokio::spawn(expire(sessions.clone(), is_ending)));
    Fixture {
        store,
        sessions,
        _ending: ending,
    }
}

async fn serve(fixture: &Fixture, open: &Open) {
    let write = Write::put("endpoints/shop/api/1", "{}").leased(open.session().lease());
    fixture.store.commit(vec![write]).await.unwrap();
}

async fn serves(fixture: &Fixture) -> bool {
    let found = fixture.store.get("endpoints/shop/api/1").await.unwrap();
    found.is_some()
}

#[tokio::test(start_paused = true)]
async fn the_endpoints_of_a_watch_that_ended_leave_after_the_grace() {
    let fixture = fixture();
    let open = fixture
        .sessions
        .open(&identity("api"), request())
        .await
        .unwrap();
    serve(&fixture, &open).await;
    tokio::time::sleep(GRACE * 10).await;
    assert!(serves(&fixture).await, "an open watch never expires");
    drop(open);
    tokio::time::sleep(GRACE - TICK).await;
    assert!(serves(&fixture).await);
    tokio::time::sleep(TICK * 3).await;
    assert!(!serves(&fixture).await);
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_another_watch_took_over_stay() {
    let fixture = fixture();
    let open = fixture
        .sessions
        .open(&identity("api"), request())
        .await
        .unwrap();
    serve(&fixture, &open).await;
    drop(open);
    let again = fixture
        .sessions
        .open(&identity("api"), request())
        .await
        .unwrap();
    serve(&fixture, &again).await;
    tokio::time::sleep(GRACE * 10).await;
    assert!(serves(&fixture).await);
}

#[tokio::test]
async fn a_watch_is_its_own_identitys_and_ends_with_its_stream() {
    let fixture = fixture();
    let open = fixture
        .sessions
        .open(&identity("api"), request())
        .await
        .unwrap();
    let id = open.session().id().to_owned();
    assert!(fixture.sessions.find(&id, &identity("api")).is_ok());
    assert!(fixture.sessions.find(&id, &identity("web")).is_err());
    assert!(fixture.sessions.find("other", &identity("api")).is_err());
    drop(open);
    assert!(fixture.sessions.find(&id, &identity("api")).is_err());
}

#[tokio::test]
async fn one_identity_cannot_take_all_watches() {
    let fixture = fixture();
    let mut held = Vec::new();
    for _ in 0..MAX_WATCHES_OF_ONE {
        held.push(
            fixture
                .sessions
                .open(&identity("api"), request())
                .await
                .unwrap(),
        );
    }
    assert!(
        fixture
            .sessions
            .open(&identity("api"), request())
            .await
            .is_err()
    );
    assert!(
        fixture
            .sessions
            .open(&identity("web"), request())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn what_is_to_be_sent_again_is_taken_once_and_never_lost() {
    let fixture = fixture();
    let open = fixture
        .sessions
        .open(&identity("api"), request())
        .await
        .unwrap();
    for port in ["a.shop:80", "b.shop:80"] {
        open.session().want(Subscriptions {
            resend: BTreeSet::from([port.parse().unwrap()]),
            ..Subscriptions::default()
        });
    }
    assert_eq!(open.session().take_wanted().resend.len(), 2);
    assert_eq!(open.session().take_wanted().resend.len(), 0);
}
