//! An issuer that ends while discovery runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use mesh_discovery::Server;
use mesh_policy::plan::enrol::EnrolResponse;
use mesh_policy::plan::watch::Change;
use mesh_tls::request::KeyPair;
use mesh_tls::root::{ISSUER_LIFETIME, Root};
use tempfile::TempDir;

use crate::harness::{Discovery, HOLDS, answer, calls, config, enrol_request, watch_request};

/// Long enough to start a server and to join it, also on a machine that is busy.
const LIFE: Duration = Duration::from_secs(8);

/// A CA in `data_dir` whose issuer was made nearly a year ago and has `LIFE` left.
fn old_ca(data_dir: &Path) -> SystemTime {
    let made = SystemTime::now() + LIFE - ISSUER_LIFETIME;
    let root = Root::create(&"mesh.local".parse().expect(HOLDS), made).expect(HOLDS);
    let issuer = root.sign_issuer(made).expect(HOLDS);
    let ca = data_dir.join("ca");
    fs::create_dir(&ca).expect(HOLDS);
    fs::set_permissions(&ca, Permissions::from_mode(0o700)).expect(HOLDS);
    for (name, text) in [
        ("trust-domain", "mesh.local"),
        ("root.crt", &root.bundle().to_pem()),
        ("issuer.crt", &issuer.chain_pem()),
        ("issuer.key", &issuer.key_pem()),
    ] {
        fs::write(ca.join(name), text).expect(HOLDS);
        fs::set_permissions(ca.join(name), Permissions::from_mode(0o600)).expect(HOLDS);
    }
    issuer.not_after()
}

fn csr() -> Vec<u8> {
    let key = KeyPair::generate().expect(HOLDS);
    key.signing_request().expect(HOLDS).der().to_vec()
}

#[tokio::test]
async fn j09_a_server_whose_issuer_has_ended_signs_nothing_says_so_and_tells_plans_all_the_same() {
    let dir: TempDir = tempfile::tempdir().expect(HOLDS);
    let end = old_ca(dir.path());
    let server = Server::start(config(&dir)).await.expect(HOLDS);
    let discovery = Discovery::of(server, dir);
    let web = discovery.join("shop/web").await;
    let mut watch = discovery
        .watch(&web, &watch_request(calls(&["api.shop"]), None))
        .await;
    // Its connection outlives the server's certificate, which ends with the issuer.
    let joining = discovery.nobody();
    let enrol = async |token: &str| {
        let sent = joining.post(discovery.url("/v1/identity"));
        answer::<EnrolResponse>(sent.body(enrol_request(token, &csr()))).await
    };
    let early = discovery.token("shop/early").await.reveal();
    let enrolled = enrol(&early).await.expect("the issuer still counts");
    let seconds = end.duration_since(SystemTime::UNIX_EPOCH).expect(HOLDS);
    assert_eq!(enrolled.not_after, seconds.as_secs(), "no leaf outlives it");
    assert_eq!(discovery.admin("ready").await.0, StatusCode::OK);

    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + Duration::from_millis(100)).await;
    let (status, said) = discovery.admin("ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.contains("the issuer has expired"), "{said}");
    let late = discovery.token("shop/late").await.reveal();
    let (status, refusal) = enrol(&late).await.expect_err("nothing is signed");
    let refused = (status, refusal.error.as_str());
    assert_eq!(refused, (StatusCode::SERVICE_UNAVAILABLE, "issuer"));

    let applied = discovery.server.apply(SERVICE).await;
    applied.expect("policy is still taken");
    loop {
        // The first plan says that there is no such service.
        if let Change::Service { service, plan } = watch.news().await.change {
            assert_eq!(service.to_string(), "api.shop");
            if plan.is_some() {
                break;
            }
        }
    }
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: { name: api, namespace: shop }
spec: { ports: [{ port: 80 }] }
";
