//! Who there is: discovery, `web`, the api's four instances, and an intruder.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::config::{Shutdown, TokenSource};
use mesh_core::{BoxError, Client, Config, Mesh};
use mesh_discovery::Server;
use mesh_discovery::client::{Client as Admin, Manifests};
use mesh_discovery::wire::TokenRequest;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::api::{Api, Seen, app};
use crate::policy::{self, Split, Weights};

/// How many endpoints stand behind `api-stable`.
const STABLE_ENDPOINTS: usize = 3;
/// How long the demo waits for its own parts to be ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Everything that runs.
pub struct World {
    discovery: Server,
    folder: tempfile::TempDir,
    web: Mesh,
    intruder: Mesh,
    apis: Vec<Mesh>,
    serving: Vec<JoinHandle<Result<(), BoxError>>>,
    seen: Arc<Seen>,
}

impl World {
    /// Starts discovery, applies policy, and lets everyone join.
    pub async fn start(split: Split, weights: Weights, errors: f64) -> Result<Self, BoxError> {
        let folder = tempfile::Builder::new()
            .prefix("mesh-quickstart-")
            .tempdir()?;
        let discovery = Server::start(mesh_discovery::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            admin: ([127, 0, 0, 1], 0).into(),
            data_dir: folder.path().to_owned(),
            ..mesh_discovery::Config::default()
        })
        .await?;
        let kubeconfig = std::fs::read_to_string(discovery.kubeconfig_path())?;
        let admin = Admin::from_kubeconfig(&kubeconfig)?;
        let policy = policy::documents(split, weights);
        admin.apply(&Manifests::new("policy.yaml", &policy)).await?;

        let mut world = Self {
            web: join(&discovery, &admin, "shop/web", None).await?,
            intruder: join(&discovery, &admin, "shop/intruder", None).await?,
            apis: Vec::new(),
            serving: Vec::new(),
            seen: Arc::default(),
            discovery,
            folder,
        };
        for instance in 1..=STABLE_ENDPOINTS {
            world.serve(&admin, "api-stable", instance, 0.0).await?;
        }
        world.serve(&admin, "api-canary", 1, errors).await?;
        world.wait_until_ready().await?;
        Ok(world)
    }

    async fn serve(
        &mut self,
        admin: &Admin,
        service: &str,
        instance: usize,
        errors: f64,
    ) -> Result<(), BoxError> {
        let mesh = join(
            &self.discovery,
            admin,
            "shop/api",
            Some((service, instance)),
        )
        .await?;
        let app = app(Api {
            seen: self.seen.clone(),
            errors,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let serving = mesh.clone();
        self.serving.push(tokio::spawn(async move {
            Ok(serving.serve(listener, app).await?)
        }));
        self.apis.push(mesh);
        Ok(())
    }

    async fn wait_until_ready(&self) -> Result<(), BoxError> {
        let ready = async {
            while !self.apis.iter().all(Mesh::is_ready) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(READY_WITHIN, ready)
            .await
            .map_err(|_| "the api's listeners were not ready in time".into())
    }

    /// A client of `web`.
    pub fn web_client(&self) -> Client {
        self.web.client()
    }

    /// A client of the intruder.
    pub fn intruder_client(&self) -> Client {
        self.intruder.client()
    }

    /// Where `web` shows its metrics.
    pub fn web_metrics(&self) -> SocketAddr {
        self.web
            .admin_address()
            .expect("an admin port is on by default")
    }

    /// The metrics of everyone, `web` first.
    pub fn metrics(&self) -> Vec<SocketAddr> {
        [&self.web, &self.intruder]
            .into_iter()
            .chain(&self.apis)
            .filter_map(Mesh::admin_address)
            .collect()
    }

    /// Discovery's URL.
    pub fn discovery(&self) -> String {
        format!("https://{}", self.discovery.address())
    }

    /// What the handlers have seen.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Addresses, and three commands to try in another terminal.
    pub fn footer(&self) -> String {
        let web = self.web_metrics();
        let discovery = self.discovery.address();
        let kubeconfig = self.discovery.kubeconfig_path().display();
        format!(
            "discovery  https://{discovery}\nmetrics    http://{web}/metrics (web)\n\n\
             In another terminal, in this folder:\n  \
             export MESH_KUBECONFIG={kubeconfig}\n  \
             cargo run -qrp mesh-cli -- stat svc -n shop\n  \
             cargo run -qrp mesh-cli -- get httproute -n shop\n  \
             cargo run -qrp mesh-cli -- curl --as shop/intruder http://api.shop/"
        )
    }

    /// Drains everyone at once, then discovery, and removes the folder.
    pub async fn stop(self) -> Result<(), BoxError> {
        let everyone = self.apis.iter().chain([&self.web, &self.intruder]);
        futures_util::future::join_all(everyone.map(Mesh::drain)).await;
        for serving in self.serving {
            serving.await??;
        }
        self.discovery.shutdown().await;
        self.folder.close()?;
        Ok(())
    }
}

async fn join(
    discovery: &Server,
    admin: &Admin,
    identity: &str,
    serves: Option<(&str, usize)>,
) -> Result<Mesh, BoxError> {
    let (namespace, account) = identity.split_once('/').ok_or("an identity is ns/sa")?;
    let request = TokenRequest::new(namespace.parse()?, account.parse()?);
    let token = admin.create_token(&request).await?;
    let (workload, name) = match serves {
        Some((service, instance)) => (service, format!("{service}-{instance}")),
        None => (account, format!("{account}-1")),
    };
    let config = Config {
        discovery: vec![format!("https://{}", discovery.address()).parse()?],
        token: Some(TokenSource::Given(token)),
        services: match serves {
            Some((service, _)) => vec![format!("{service}.shop:8080").parse()?],
            None => Vec::new(),
        },
        workload: Some(workload.to_owned()),
        name: Some(name),
        labels: [("app".to_owned(), account.to_owned())].into(),
        shutdown: Shutdown::Manual,
        ..Config::default()
    };
    Ok(Mesh::join(config).await?)
}
