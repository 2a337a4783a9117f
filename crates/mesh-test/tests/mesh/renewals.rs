//! When processes that joined together ask for their next certificates.

use std::time::Duration;

use futures_util::future::join_all;
use mesh_core::Mesh;
use mesh_test::TestMesh;
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
