//! Who may call: decided before the handler, from the identity that the handshake proved.

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use mesh_core::{Body, BoxError};
use mesh_test::TestMesh;

use crate::{Handled, get, named, raw, read};

/// A Server on `api.shop:80`, and whatever else stands in `more`.
fn server(more: &str) -> String {
    format!(
        "
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {{ name: api, namespace: shop }}
spec: {{ podSelector: {{}}, port: 80 }}
{more}"
    )
}

pub(crate) const ALLOW_WEB: &str = "
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: { name: allow, namespace: shop }
spec:
  targetRef: { group: policy.linkerd.io, kind: Server, name: api }
  requiredAuthenticationRefs:
  - { group: policy.linkerd.io, kind: MeshTLSAuthentication, name: web }
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: { name: web, namespace: shop }
spec: { identities: ['spiffe://mesh.local/ns/shop/sa/web'] }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn z01_a_server_without_an_authorization_lets_nobody_in() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let handled = Handled::default();
    let _api = mesh
        .serve("shop/api", "api.shop", named("api", &handled))
        .await
        .expect("api");
    let web = mesh.join("shop/web").await.expect("web joins");
    assert_eq!(get(&web.client(), "http://api.shop/").await.0, 200);
    assert_eq!(
        handled.count(),
        1,
        "without a Server every identity may call"
    );

    mesh.apply(&server("")).await.expect("a Server");
    mesh.until("the Server closes", async || {
        get(&web.client(), "http://api.shop/").await.0 == 403
    })
    .await;
    let before = handled.count();
    for _ in 0..20 {
        assert_eq!(get(&web.client(), "http://api.shop/").await.0, 403);
    }
    assert_eq!(handled.count(), before);

    mesh.apply(ALLOW_WEB).await.expect("an authorization");
    mesh.until("the policy opens", async || {
        get(&web.client(), "http://api.shop/").await.0 == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn z03_policy_acts_on_the_next_request_and_soon_on_open_streams() {
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(&server(ALLOW_WEB)).await.expect("policy");
    let mut config = mesh.config("shop/api").await.expect("a configuration");
    config.services = vec!["api.shop".parse().expect("a name")];
    config.limits.revoked = std::time::Duration::from_millis(500);
    // An answer that begins and never ends.
    let app = tower::service_fn(|_: Request<Body>| async {
        let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from("begun"))) });
        let endless = first.chain(futures_util::stream::pending::<Result<_, BoxError>>());
        Ok::<_, BoxError>(Response::new(Body::new(StreamBody::new(endless))))
    });
    let api = mesh.serve_with(config, app).await.expect("api");
    let web = mesh.join("shop/web").await.expect("web joins");
    let open = async || {
        let request = Request::get("http://api.shop/").body(Body::empty());
        let Ok(response) = web.client().send(request.expect("a request")).await;
        response
    };
    let mut stream = open().await;
    assert_eq!(stream.status(), 200);
    let begun = stream.body_mut().frame().await.expect("a frame");
    assert_eq!(begun.expect("no error").into_data().expect("data"), "begun");

    mesh.apply(&server("")).await.expect("a Server for nobody");
    let deny = ALLOW_WEB.replace("sa/web", "sa/other");
    mesh.apply(&deny).await.expect("an authorization");
    mesh.until("the next request is refused", async || {
        open().await.status() == 403
    })
    .await;
    let end = tokio::time::timeout(
        std::time::Duration::from_secs(10),
        stream.body_mut().frame(),
    );
    let end = end.await.expect("the stream ends").expect("not in peace");
    assert!(end.is_err(), "an answer that was cut is not whole");
    drop(api);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn z02_the_denied_get_403_or_a_grpc_status_and_the_handler_is_never_called() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let handled = Handled::default();
    mesh.apply(&server(ALLOW_WEB)).await.expect("policy");
    let _api = mesh
        .serve("shop/api", "api.shop", named("api", &handled))
        .await
        .expect("api");
    let web = mesh.join("shop/web").await.expect("web joins");
    let intruder = mesh
        .join("shop/intruder")
        .await
        .expect("the intruder joins");

    assert_eq!(get(&intruder.client(), "http://api.shop/").await.0, 403);
    let call = Request::post("http://api.shop/shop.Api/Get")
        .header("content-type", "application/grpc")
        .body(Body::from("never read"))
        .expect("a valid request");
    let Ok(response) = intruder.client().send(call).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "7");
    assert_eq!(handled.count(), 0);

    let (status, text) = get(&web.client(), "http://api.shop/").await;
    assert_eq!(
        (status, text.as_str()),
        (200, "api spiffe://mesh.local/ns/shop/sa/web")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn z11_identity_headers_of_the_wire_never_reach_the_handler() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = tower::service_fn(|request: Request<Body>| async move {
        let mut seen = Vec::new();
        for (name, value) in request.headers() {
            let name = name.as_str();
            if name.starts_with("x-mesh-")
                || name.starts_with("l5d-")
                || name.contains("client-cert")
            {
                seen.push(format!("{name}={}", value.to_str().expect("text")));
            }
        }
        seen.sort();
        Ok::<_, BoxError>(Response::new(Body::from(seen.join(","))))
    });
    let api = mesh.serve("shop/api", "api.shop", app).await.expect("api");
    let expected = "l5d-client-id=spiffe://mesh.local/ns/shop/sa/web,x-mesh-client-id=spiffe://mesh.local/ns/shop/sa/web";

    // Through the client stack, which strips what the application set.
    let web = mesh.join("shop/web").await.expect("web joins");
    let forged = |uri: &str| {
        Request::get(uri)
            .header("l5d-client-id", "spiffe://mesh.local/ns/shop/sa/admin")
            .header("x-mesh-client-id", "spiffe://mesh.local/ns/shop/sa/admin")
            .header("x-mesh-anything", "1")
            .header(
                "x-forwarded-client-cert",
                "By=spiffe://mesh.local/ns/shop/sa/admin",
            )
            .body(Body::empty())
            .expect("a valid request")
    };
    let Ok(response) = web.client().send(forged("http://api.shop/")).await;
    let (_, seen) = read(response).await;
    assert_eq!(seen, expected);

    // Past the client stack, straight to the socket with web's own certificate.
    let credentials = raw::enrol(&mesh, "shop/web")
        .await
        .expect("web's certificate");
    let bytes = "GET / HTTP/1.1\r\nhost: api.shop\r\nl5d-client-id: forged\r\nx-mesh-client-id: forged\r\n\
        x-mesh-other: 1\r\nx-forwarded-client-cert: forged\r\nconnection: close, x-mesh-client-id, l5d-client-id\r\n\r\n";
    let answer = raw::speak(
        &credentials,
        api.address(),
        "spiffe://mesh.local/ns/shop/sa/api",
        bytes,
    )
    .await
    .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with(expected), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_is_served_only_as_far_as_policy_allows_it() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let handled = Handled::default();
    let api = mesh
        .serve("shop/api", "api.shop", named("api", &handled))
        .await
        .expect("api");
    let plain = async || {
        raw::get_in_plaintext(api.address())
            .await
            .expect("an answer")
    };
    let refused = plain().await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    assert_eq!(handled.count(), 0);

    mesh.apply(&server("").replace("port: 80", "port: 80, accessPolicy: all-unauthenticated"))
        .await
        .expect("an open Server");
    mesh.until("plaintext is served", async || {
        plain().await.starts_with("HTTP/1.1 200")
    })
    .await;
    let served = plain().await;
    assert!(
        served.ends_with("api nobody"),
        "and never with an identity: {served}"
    );
}

/// The very file that people of Linkerd, SMI and Gateway API would bring.
const EVERYDAY: &str = include_str!("../../../mesh-policy/tests/data/everyday.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_write_every_day_works_as_it_stands() {
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(EVERYDAY).await.expect("it is taken whole");
    let (stable, canary) = (Handled::default(), Handled::default());
    let mut served = Vec::new();
    for (name, handled) in [("api-stable", &stable), ("api-canary", &canary)] {
        let mut config = mesh.config("myapp/api").await.expect("a token");
        config.services = vec![format!("{name}.myapp:8080").parse().expect("a service")];
        config.labels = [("app".to_owned(), "api".to_owned())].into();
        let app = named("api", handled);
        served.push(mesh.serve_with(config, app).await.expect(name));
    }
    let web = mesh.join("myapp/web").await.expect("web joins");
    let ops = mesh.join("myapp/ops").await.expect("ops joins");
    let other = mesh.join("myapp/other").await.expect("another joins");
    for _ in 0..200 {
        assert_eq!(get(&web.client(), "http://api.myapp:8080/").await.0, 200);
    }
    assert!(stable.count() > 160 && canary.count() < 40, "95 to 5");
    assert_eq!(get(&ops.client(), "http://api.myapp/").await.0, 200);
    assert_eq!(get(&other.client(), "http://api.myapp/").await.0, 403);
    assert_eq!(stable.count() + canary.count(), 201);
}
