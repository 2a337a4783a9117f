//! Discovery and everyone who joins it.

use std::path::PathBuf;
use std::time::Duration;

use http::{Request, Response};
use mesh_core::config::{Shutdown, TokenSource};
use mesh_core::{Body, BoxError, Config, Mesh};
use mesh_discovery::Server;
use mesh_discovery::client::{Client, Manifests};
use mesh_discovery::wire::TokenRequest;
use mesh_policy::token::JoinToken;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use crate::served::Served;

/// How long anything here is waited for before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A mesh that lives as long as this value.
#[derive(Debug)]
pub struct TestMesh {
    discovery: Option<Server>,
    config: mesh_discovery::Config,
    url: String,
    admin_url: String,
    admin: Client,
    folder: tempfile::TempDir,
}

impl TestMesh {
    /// Starts discovery with a CA of its own, on free ports of loopback.
    ///
    /// # Errors
    ///
    /// No port, no folder for temporary files, or no usable CA.
    pub async fn start() -> Result<Self, BoxError> {
        Self::start_with(|_| {}).await
    }

    /// The same with discovery configured as a test needs.
    ///
    /// # Errors
    ///
    /// Those of [`TestMesh::start`], and a configuration that cannot work.
    pub async fn start_with(
        configure: impl FnOnce(&mut mesh_discovery::Config),
    ) -> Result<Self, BoxError> {
        let folder = tempfile::tempdir()?;
        let mut config = mesh_discovery::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            admin: ([127, 0, 0, 1], 0).into(),
            data_dir: folder.path().join("data"),
            ..mesh_discovery::Config::default()
        };
        configure(&mut config);
        let discovery = Server::start(config.clone()).await?;
        config.listen = discovery.address();
        config.admin = discovery.admin_address();
        let kubeconfig = std::fs::read_to_string(discovery.kubeconfig_path())?;
        Ok(Self {
            url: format!("https://{}", discovery.address()),
            admin_url: format!("http://{}", discovery.admin_address()),
            admin: Client::from_kubeconfig(&kubeconfig)?,
            discovery: Some(discovery),
            config,
            folder,
        })
    }

    /// Discovery's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Discovery's admin port, in plain HTTP.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// The administrator's client.
    #[must_use]
    pub const fn admin(&self) -> &Client {
        &self.admin
    }

    /// The folder of the CA, with `root.crt`, `issuer.crt` and their keys.
    #[must_use]
    pub fn ca_folder(&self) -> PathBuf {
        self.folder.path().join("data").join("ca")
    }

    /// Applies YAML of any number of objects, all or nothing.
    ///
    /// # Errors
    ///
    /// Every problem of the text.
    pub async fn apply(&self, yaml: &str) -> Result<(), BoxError> {
        self.admin.apply(&Manifests::new("test.yaml", yaml)).await?;
        Ok(())
    }

    /// A token with which one process joins as `identity`, written `namespace/account`.
    ///
    /// # Errors
    ///
    /// An `identity` of another form, or a discovery that is gone.
    pub async fn token(&self, identity: &str) -> Result<JoinToken, BoxError> {
        let (namespace, account) = identity
            .split_once('/')
            .ok_or("write an identity as namespace/account")?;
        let request = TokenRequest::new(namespace.parse()?, account.parse()?);
        Ok(self.admin.create_token(&request).await?)
    }

    /// A configuration that joins as `identity`, to be changed as a test needs.
    ///
    /// # Errors
    ///
    /// Those of [`TestMesh::token`].
    pub async fn config(&self, identity: &str) -> Result<Config, BoxError> {
        Ok(Config {
            discovery: vec![self.url.parse()?],
            token: Some(TokenSource::Given(self.token(identity).await?)),
            join_timeout: Some(PATIENCE),
            shutdown: Shutdown::Manual,
            ..Config::default()
        })
    }

    /// Joins as `identity`, serving nothing.
    ///
    /// # Errors
    ///
    /// Those of [`TestMesh::token`] and [`Mesh::join`].
    pub async fn join(&self, identity: &str) -> Result<Mesh, BoxError> {
        Ok(Mesh::join(self.config(identity).await?).await?)
    }

    /// Joins as `identity` and serves `app` as `service`, until the value that returns is dropped.
    ///
    /// Once this returns, discovery tells callers of it.
    ///
    /// # Errors
    ///
    /// Those of [`TestMesh::join`], and a listener that is not ready in time.
    pub async fn serve<S, B>(
        &self,
        identity: &str,
        service: &str,
        app: S,
    ) -> Result<Served, BoxError>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut config = self.config(identity).await?;
        config.services = vec![service.parse()?];
        self.serve_with(config, app).await
    }

    /// The same with a configuration of the test's own.
    ///
    /// # Errors
    ///
    /// Those of [`TestMesh::serve`].
    pub async fn serve_with<S, B>(&self, config: Config, app: S) -> Result<Served, BoxError>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mesh = Mesh::join(config).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = mesh.clone();
        let task = tokio::spawn(async move { serving.serve(listener, app).await });
        let served = Served::new(mesh, address, task);
        let ready = async {
            while !served.mesh().is_ready() {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, ready)
            .await
            .map_err(|_| format!("not ready: {}", served.mesh().not_ready().join(", ")))?;
        Ok(served)
    }

    /// Waits until `condition` holds; `what` is what a test that waited in vain says.
    ///
    /// # Panics
    ///
    /// When it does not hold within 20 seconds.
    pub async fn until<F: Future<Output = bool>>(
        &self,
        what: &str,
        mut condition: impl FnMut() -> F,
    ) {
        let end = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < end, "waited in vain until {what}");
            sleep(LOOK).await;
        }
    }

    /// Ends discovery; everyone else goes on.
    pub async fn stop_discovery(&mut self) {
        if let Some(discovery) = self.discovery.take() {
            discovery.shutdown().await;
        }
    }

    /// Starts discovery again where it was, with what its store kept.
    ///
    /// # Errors
    ///
    /// Its ports are taken meanwhile, or its directory is of no use.
    pub async fn start_discovery(&mut self) -> Result<(), BoxError> {
        self.stop_discovery().await;
        self.discovery = Some(Server::start(self.config.clone()).await?);
        let kubeconfig = self.folder.path().join("data").join("admin.kubeconfig");
        self.admin = Client::from_kubeconfig(&std::fs::read_to_string(kubeconfig)?)?;
        Ok(())
    }
}
