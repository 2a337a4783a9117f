//! The whole stack of both ends: route, split, balancing over the endpoints, mutual TLS, authorization, metrics.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use mesh_core::{Body, Client, Config, Mesh};
use mesh_discovery::Server;
use mesh_discovery::client::{Client as Admin, Manifests};
use mesh_discovery::wire::TokenRequest;
use tokio::net::TcpListener;

use crate::cell::Protocol;
use crate::load::{self, Outcome};
use crate::{BoxError, ClientOptions, ServerOptions, process};

/// A service for each version of HTTP, behind a route, and open to the bench's client alone.
const POLICY: &str = include_str!("policy.yaml");

/// Which end a process is.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Sends requests.
    Client,
    /// Answers them.
    Server,
}

/// Discovery in the process that steers the bench, where its CPU is not counted.
pub struct Discovery {
    server: Server,
    admin: Admin,
    // Held for its end: it removes the folder.
    _folder: tempfile::TempDir,
}

impl Discovery {
    /// Starts discovery and applies the bench's policy.
    pub async fn start() -> Result<Self, BoxError> {
        let folder = tempfile::tempdir()?;
        let server = Server::start(mesh_discovery::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            admin: ([127, 0, 0, 1], 0).into(),
            data_dir: folder.path().to_owned(),
            ..mesh_discovery::Config::default()
        })
        .await?;
        let kubeconfig = std::fs::read_to_string(server.kubeconfig_path())?;
        let admin = Admin::from_kubeconfig(&kubeconfig)?;
        admin.apply(&Manifests::new("policy.yaml", POLICY)).await?;
        Ok(Self {
            server,
            admin,
            _folder: folder,
        })
    }

    /// Ends it.
    pub async fn stop(self) -> Result<(), BoxError> {
        self.server.shutdown().await;
        Ok(())
    }

    /// What a joining process finds in its environment.
    pub async fn environment(
        &self,
        role: Role,
        protocol: Protocol,
    ) -> Result<BTreeMap<String, String>, BoxError> {
        let account = match role {
            Role::Client => "client",
            Role::Server => "server",
        };
        let request = TokenRequest::new("bench".parse()?, account.parse()?);
        let token = self.admin.create_token(&request).await?;
        let mut environment = BTreeMap::from([
            (
                "MESH_DISCOVERY".to_owned(),
                format!("https://{}", self.server.address()),
            ),
            ("MESH_TOKEN".to_owned(), token.reveal()),
            (
                "MESH_LABELS".to_owned(),
                format!("app={}", service(protocol)),
            ),
        ]);
        if let Role::Server = role {
            let serves = format!("{}.bench:80", service(protocol));
            environment.insert("MESH_SERVICE".to_owned(), serves);
        }
        Ok(environment)
    }
}

fn service(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "http1",
        Protocol::Http2 => "http2",
    }
}

/// Serves until the parent lets go.
pub async fn serve(options: &ServerOptions) -> Result<(), BoxError> {
    let mesh = Mesh::join(Config::from_env()?).await?;
    let body = Bytes::from(vec![b'x'; options.cell.bytes]);
    let mut addresses = Vec::new();
    for _ in 0..options.endpoints {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        let body = body.clone();
        let app = tower::service_fn(move |_: Request<Body>| {
            let body = body.clone();
            async move { Ok::<_, BoxError>(Response::new(Body::from(body))) }
        });
        let mesh = mesh.clone();
        tokio::spawn(async move { mesh.serve(listener, app).await });
    }
    while !mesh.is_ready() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    process::announce(&addresses.join(","));
    process::parent_lets_go().await;
    mesh.drain().await;
    Ok(())
}

struct Caller {
    client: Client,
    uri: http::Uri,
}

impl load::Caller for Caller {
    async fn call(&mut self) -> Result<usize, BoxError> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = self.uri.clone();
        let Ok(response) = self.client.send(request).await;
        if !response.status().is_success() {
            return Err(format!("the mesh answered {}", response.status()).into());
        }
        Ok(response.into_body().collect().await?.to_bytes().len())
    }
}

/// Drives the mesh's server.
pub async fn call(options: &ClientOptions) -> Result<Outcome, BoxError> {
    let mesh = Mesh::join(Config::from_env()?).await?;
    let uri: http::Uri = format!("http://{}.bench/", service(options.cell.protocol)).parse()?;
    let callers = (0..options.cell.in_flight)
        .map(|_| Caller {
            client: mesh.client(),
            uri: uri.clone(),
        })
        .collect();
    load::run(callers, options.limit(), options.server).await
}
