//! What a process counts of connections, errors and discovery, seen at its admin port's text.

use mesh_core::Mesh;
use mesh_test::TestMesh;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Handled, get, named};

/// The sum of the samples of `family` whose labels hold all of `labels`.
fn count(mesh: &Mesh, family: &str, labels: &[&str]) -> f64 {
    let text = mesh.recorder().render();
    let head = format!("{family}{{");
    let samples = text.lines().filter(|line| line.starts_with(&head));
    let samples = samples.filter(|line| labels.iter().all(|label| line.contains(label)));
    let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

const BROKEN: &str = "
apiVersion: v1
kind: Service
metadata: { name: gone, namespace: shop }
spec: { ports: [{ port: 80 }] }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_errors_and_calls_to_discovery_are_counted_in_linkerds_words() {
    let mut mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(BROKEN).await.expect("it applies");
    let handled = Handled::default();
    let api = mesh.serve("shop/api", "api.shop", named("api", &handled));
    let api = api.await.expect("it serves");
    let web = mesh.join("shop/web").await.expect("it joins");
    let client = web.client();
    assert_eq!(get(&client, "http://api.shop/").await.0, 200);

    let to_api = [r#"direction="outbound""#, r#"tls="true""#, r#"peer="dst""#];
    let from_web = [r#"direction="inbound""#, r#"tls="true""#, "/sa/web"];
    for (process, labels) in [(&web, to_api), (api.mesh(), from_web)] {
        assert!(count(process, "tcp_open_total", &labels) >= 1.0);
        assert!(count(process, "tcp_open_connections", &labels) >= 1.0);
        assert!(count(process, "tcp_read_bytes_total", &labels) > 0.0);
        assert!(count(process, "tcp_write_bytes_total", &labels) > 0.0);
    }

    let errors = |word| count(&web, "outbound_http_errors_total", &[word]);
    assert_eq!(get(&client, "http://nobody.shop/").await.0, 503);
    assert!((errors(r#"error="unexpected""#) - 1.0).abs() < 0.1);
    assert_eq!(get(&client, "http://gone.shop/").await.0, 503);
    assert!((errors(r#"error="failfast""#) - 1.0).abs() < 0.1);
    assert!(errors(r#"error="i/o""#).abs() < 0.1);

    let address = api.address();
    let mut stranger = TcpStream::connect(address).await.expect("it listens");
    stranger
        .write_all(b"\x16nonsense that is no handshake")
        .await
        .expect("it is open");
    // Cut or told off: either way the listener is done with it.
    drop(stranger.read(&mut [0; 64]).await);
    mesh.until("a failed handshake is counted", async || {
        let labels = [r#"error="unexpected""#];
        count(api.mesh(), "inbound_tcp_errors_total", &labels) >= 1.0
    })
    .await;

    let mut odd = TcpStream::connect(address).await.expect("it listens");
    odd.write_all(b"GET /%zz HTTP/1.1\r\nhost: api.shop\r\nconnection: close\r\n\r\n")
        .await
        .expect("it is open");
    let mut answer = String::new();
    odd.read_to_string(&mut answer).await.expect("text");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let labels = [r#"error="unexpected""#, r#"direction="inbound""#];
    assert!((count(api.mesh(), "inbound_http_errors_total", &labels) - 1.0).abs() < 0.1);

    let discovery = [r#"tls="true""#, r#"/ns/mesh-system/sa/discovery""#, "addr="];
    assert!(count(&web, "control_request_total", &discovery) >= 1.0);
    let good = [&discovery[..], &[r#"classification="success""#]].concat();
    assert!(count(&web, "control_response_total", &good) >= 1.0);
    assert!(count(&web, "control_response_latency_ms_count", &discovery) >= 1.0);

    // Nobody is told that the endpoint has gone.
    mesh.stop_discovery().await;
    api.kill();
    mesh.until("a connection that cannot be made is counted", async || {
        // The first may still be answered: the runtime ends the killed task in its own time.
        get(&client, "http://api.shop/").await;
        count(&web, "outbound_tcp_errors_total", &[r#"error="i/o""#]) >= 1.0
    })
    .await;
}
