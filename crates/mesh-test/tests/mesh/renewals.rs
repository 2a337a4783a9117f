//! When processes that joined together ask for their next certificates.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, Response};
use mesh_core::{Body, BoxError, Mesh};
use mesh_discovery::wire::StatQuery;
use mesh_test::TestMesh;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// The shortest that discovery issues.
const LEAF: Duration = Duration::from_secs(10);
const PROCESSES: usize = 16;

/// How long after it had joined the process had its next certificate.
async fn renewed(mesh: Mesh) -> Duration {
    let joined = Instant::now();
    let refreshed = || crate::metric(&mesh, "control_identity_cert_refresh_timestamp_seconds");
    // In whole seconds, of which a certificate has several.
    let first = refreshed();
    while refreshed() - first < 1.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    joined.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t21_each_process_renews_in_time_and_after_a_wait_of_its_own() {
    let mesh = TestMesh::start_with(|config| config.leaf_ttl = LEAF)
        .await
        .expect("a mesh");
    let mut waits = Vec::new();
    // One after the other, so that joining takes each about as long.
    for index in 0..PROCESSES {
        let before = Instant::now();
        let joined = mesh.join(&format!("shop/web-{index}")).await;
        let joining = before.elapsed();
        let wait = tokio::spawn(renewed(joined.expect("it joins")));
        waits.push(async move { (wait.await.expect("no panic"), joining) });
    }
    let waits: Vec<(Duration, Duration)> = join_all(waits).await;
    for (wait, joining) in &waits {
        // The certificate came while the process joined.
        assert!(*wait + *joining >= LEAF * 2 / 5, "too early: {wait:?}");
        // Half of the life, and what a machine that is busy may add.
        assert!(*wait <= LEAF * 4 / 5, "too late: {wait:?}");
    }
    let waits = waits.iter().map(|(wait, _)| *wait);
    let (shortest, longest) = (waits.clone().min(), waits.clone().max());
    // Sixteen draws from a second lie closer together once in fifty thousand times.
    let spread = longest
        .zip(shortest)
        .map(|(longest, shortest)| longest - shortest);
    assert!(
        spread > Some(LEAF / 25),
        "all alike: {:?}",
        waits.collect::<Vec<_>>()
    );
}

/// A connection that gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    /// There was none.
    Nobody,
    /// Its client waits.
    Waits,
    /// Its client has closed it.
    Left,
}

/// Passes `count` connections on to discovery and gives those after them no answer.
async fn narrow(mesh: &TestMesh, count: usize) -> (String, watch::Receiver<Unanswered>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let target = mesh.url().trim_start_matches("https://").to_owned();
    let (unanswered, seen) = watch::channel(Unanswered::Nobody);
    drop(tokio::spawn(async move {
        let mut passed = 0;
        while let Ok((mut near, _)) = listener.accept().await {
            if passed == count {
                unanswered.send_replace(Unanswered::Waits);
                // Ends when its client closes it.
                drop(tokio::io::copy(&mut near, &mut tokio::io::sink()).await);
                unanswered.send_replace(Unanswered::Left);
                continue;
            }
            passed += 1;
            let target = target.clone();
            drop(tokio::spawn(async move {
                let far = TcpStream::connect(target).await;
                // Who closes has no more to say.
                drop(copy_bidirectional(&mut near, &mut far.expect("it listens")).await);
            }));
        }
    }));
    (url, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_drains_while_a_watch_is_handed_over_leaves_at_once() {
    let mesh = TestMesh::start_with(|config| config.leaf_ttl = LEAF)
        .await
        .expect("a mesh");
    // The token, the watch and the renewal; the watch with the new certificate hangs.
    let (url, mut unanswered) = narrow(&mesh, 3).await;
    let mut config = mesh.config("shop/api").await.expect("a configuration");
    config.discovery = vec![url.parse().expect("a URL")];
    config.services = vec!["api.shop".parse().expect("a name")];
    let app = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, BoxError>(Response::new(Body::empty()))
    });
    let api = mesh.serve_with(config, app).await.expect("it serves");
    let endpoints = async || {
        let stat = mesh.admin().stat(&StatQuery::default()).await;
        let services = stat.expect("statistics").services;
        services.iter().map(|row| row.endpoints).sum::<usize>()
    };
    assert_eq!(endpoints().await, 1);
    let hangs = unanswered.wait_for(|now| *now == Unanswered::Waits).await;
    hangs.expect("the watch is handed over");
    let draining = tokio::spawn(api.drain());
    mesh.until("the endpoint has left", async || endpoints().await == 0)
        .await;
    // It did not wait until the new watch was given up.
    assert_eq!(*unanswered.borrow(), Unanswered::Waits);
    draining.await.expect("no panic");
}
