//! The client against the real router over real TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::routing::{any, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::manifest::Kind;
use mesh_tls::config::ClientCertificates;
use mesh_tls::credentials::Credentials;
use mesh_tls::issuer::{Issuer, Template};
use mesh_tls::request::KeyPair;
use mesh_tls::root::Root;
use mesh_tls::{config, handshake};
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::*;
use crate::api;
use crate::caller::Caller;
use crate::objects::Objects;
use crate::store::memory::Memory;
use crate::wire::Action;

const YAML: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop}\n\
                    spec: {ports: [{port: 80}]}\n";

struct Authority {
    root: Root,
    issuer: Issuer,
}

impl Authority {
    fn new() -> Self {
        let root = Root::create(&domain(), SystemTime::now()).unwrap();
        let issuer = root.sign_issuer(SystemTime::now()).unwrap();
        Self { root, issuer }
    }

    fn credentials(&self, identity: &Identity) -> Credentials {
        let text = self.kubeconfig(identity, "https://127.0.0.1:1");
        credentials::of(&text, SystemTime::now()).unwrap()
    }

    fn kubeconfig(&self, identity: &Identity, server: &str) -> Kubeconfig {
        let key = KeyPair::generate().unwrap();
        let request = key.signing_request().unwrap();
        let now = SystemTime::now();
        let issued = self
            .issuer
            .issue(&request, identity, &Template::default(), now)
            .unwrap();
        Kubeconfig {
            server: server.to_owned(),
            anchors: self.root.bundle().to_pem(),
            chain: mesh_tls::pem::write(&issued.chain),
            key: key.to_pem(),
            namespace: "default".to_owned(),
        }
    }
}

fn domain() -> TrustDomain {
    "mesh.local".parse().unwrap()
}

fn service() -> ObjectName {
    ObjectName {
        kind: Kind::Service,
        namespace: "shop".into(),
        name: "api".into(),
    }
}

/// Serves `router` as `identity`, telling it who calls.
async fn serve(authority: &Authority, identity: &Identity, router: Router) -> SocketAddr {
    let credentials = authority.credentials(identity);
    let tls = config::server(&credentials, ClientCertificates::Optional);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, router) = (Arc::clone(&tls), router.clone());
            tokio::spawn(async move {
                let Ok((stream, facts)) = handshake::accept(tcp, tls).await else {
                    return;
                };
                let caller = Caller::new(facts.peer, &domain());
                let service = router.map_request(move |request: http::Request<_>| {
                    let mut request = request;
                    request.extensions_mut().insert(caller.clone());
                    request
                });
                let service = TowerToHyperService::new(service);
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // A client that goes away is the end of every one of these tests.
                let _ended = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// Discovery with the resource API, and a stand-in for the tokens.
async fn discovery(authority: &Authority) -> String {
    let objects = Objects::new(Arc::new(Memory::new()), domain());
    let token = JoinToken::new([1; 9], [2; 32], [3; 32]).reveal();
    let created = TokenCreated { token, expires: 7 };
    let router = api::router(objects, None)
        .route(
            "/v1/tokens",
            post(|| async { Json(created) }).get(|| async { Json(TokenList::default()) }),
        )
        .route("/v1/tokens/{id}", any(|| async { StatusCode::OK }));
    let identity = Identity::discovery(&domain());
    let address = serve(authority, &identity, router).await;
    format!("https://{address}")
}

async fn admin() -> Client {
    let authority = Authority::new();
    let server = discovery(&authority).await;
    let kubeconfig = authority.kubeconfig(&Identity::admin(&domain()), &server);
    Client::from_kubeconfig(&kubeconfig.to_yaml()).unwrap()
}

#[tokio::test]
async fn an_admin_applies_reads_and_deletes() {
    let client = admin().await;
    let manifests = Manifests::new("mesh.yaml", YAML);
    let dry = client.apply(&manifests.dry_run()).await.unwrap();
    assert!(client.list(Kind::Service, None).await.unwrap().is_empty());

    let applied = client.apply(&manifests).await.unwrap();
    assert_eq!(applied.results, dry.results);
    assert_eq!(applied.results[0].action, Action::Created);
    let listed = client.list(Kind::Service, Some("shop")).await.unwrap();
    assert_eq!(listed, [client.get(&service()).await.unwrap()]);

    client.delete(&service()).await.unwrap();
    let error = client.get(&service()).await.unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    let error = client.delete(&service()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn an_admin_makes_lists_and_revokes_tokens() {
    let client = admin().await;
    let request = TokenRequest::new("shop".parse().unwrap(), "web".parse().unwrap());
    let token = client.create_token(&request).await.unwrap();
    assert!(client.list_tokens().await.unwrap().is_empty());
    client.revoke_token(token.id()).await.unwrap();
    for id in ["", "..", "../apply", "a/b", "a?b", "a%2fb"] {
        let error = client.revoke_token(id).await.unwrap_err();
        assert!(
            matches!(error, ClientError::NotFound { .. }),
            "{id}: {error}"
        );
        assert!(
            error.to_string().contains("nothing is called"),
            "{id}: {error}"
        );
    }
}

#[tokio::test]
async fn a_bad_file_is_told_with_its_name_and_lines() {
    let client = admin().await;
    let yaml = format!(
        "{YAML}---\n{}",
        YAML.replace("80", "70000").replace("name: api", "name: b")
    );
    let error = client.apply(&Manifests::new("mesh.yaml", &yaml)).await;
    let error = error.unwrap_err();
    assert_eq!(error.exit_code(), 65, "{error}");
    let text = error.to_string();
    assert!(text.contains("\nmesh.yaml:"), "{text}");
    assert!(text.contains("spec.ports[0].port"), "{text}");
}

#[tokio::test]
async fn who_is_no_admin_is_not_permitted() {
    let authority = Authority::new();
    let server = discovery(&authority).await;
    let web = "spiffe://mesh.local/ns/shop/sa/web".parse().unwrap();
    let client = Client::new(&server, &authority.credentials(&web)).unwrap();
    let error = client.get(&service()).await.unwrap_err();
    assert_eq!(error.exit_code(), 77, "{error}");

    // A certificate of another authority does not even come through the handshake.
    let mut stranger = Authority::new().kubeconfig(&Identity::admin(&domain()), &server);
    let text = stranger.to_yaml();
    let error = Client::from_kubeconfig(&text)
        .unwrap()
        .get(&service())
        .await;
    assert_eq!(
        error.unwrap_err().exit_code(),
        69,
        "it does not believe discovery"
    );
    stranger.anchors = authority.root.bundle().to_pem();
    let error = Client::from_kubeconfig(&stranger.to_yaml()).unwrap_err();
    assert_eq!(error.exit_code(), 78, "{error}");
}

#[tokio::test]
async fn what_is_not_discovery_is_never_asked() {
    let authority = Authority::new();
    let impostor = "spiffe://mesh.local/ns/shop/sa/discovery".parse().unwrap();
    let router = Router::new().fallback(any(|| async { "asked" }));
    let address = serve(&authority, &impostor, router).await;
    let admin = authority.credentials(&Identity::admin(&domain()));
    let client = Client::new(&format!("https://{address}"), &admin).unwrap();
    let error = client.get(&service()).await.unwrap_err();
    assert_eq!(error.exit_code(), 69, "{error}");

    // The same server as discovery itself is asked, and answers nonsense.
    let router = Router::new().fallback(any(|| async { "asked" }));
    let address = serve(&authority, &Identity::discovery(&domain()), router).await;
    let client = Client::new(&format!("https://{address}"), &admin).unwrap();
    let error = client.get(&service()).await.unwrap_err();
    assert_eq!(error.exit_code(), 69, "{error}");
    assert!(error.to_string().contains("expected value"), "{error}");
}

#[tokio::test]
async fn an_absent_discovery_is_unreachable_and_a_wrong_address_is_said() {
    let authority = Authority::new();
    let admin = authority.credentials(&Identity::admin(&domain()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(&format!("https://{address}/"), &admin).unwrap();
    let error = client.list(Kind::Service, None).await.unwrap_err();
    assert_eq!(error.exit_code(), 69, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");

    for server in ["", "127.0.0.1:7800", "http://127.0.0.1:7800", "https://h/x"] {
        let error = Client::new(server, &admin).unwrap_err();
        assert_eq!(error.exit_code(), 78, "{server}");
    }
}
