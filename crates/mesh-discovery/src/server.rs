//! All of discovery, put together: what the binary runs and tests embed.

mod background;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::middleware;
use mesh_policy::identity::TrustDomain;
use mesh_policy::token::{JoinToken, RootHash};
use mesh_tls::anchors::{InvalidAnchor, root_hash};
use mesh_tls::issuer::Issuer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, InvalidConfig, StoreKind};
use crate::identity::certificate::{self, OwnCertificateError};
use crate::identity::custody::{self, CustodyError};
use crate::identity::enrol::Enroller;
use crate::identity::token::{TokenError, Tokens};
use crate::listen::{self, Listener};
use crate::metrics::Metrics;
use crate::objects::{ApplyError, Mode, Objects};
use crate::rate::{self, Rates};
use crate::statistics::Statistics;
use crate::store::lock::{DirectoryLock, NotLocked};
use crate::store::redb::{OpenError, Redb};
use crate::store::{SharedStore, Unavailable, memory::Memory};
use crate::supervise::{self, TaskEnded, Tasks};
use crate::watch::{self as watches, Sessions};
use crate::wire::{Applied, TokenRequest};
use crate::worlds::{Reader, Worlds};
use crate::{access, admin, api, identity, records, registry, report, settle, stat, targets};

/// What the handlers of all paths share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: SharedStore,
    pub(crate) domain: TrustDomain,
    pub(crate) issuer: Arc<Issuer>,
    /// How the server's own certificate stands.
    pub(crate) certificate: watch::Receiver<certificate::Standing>,
    pub(crate) enroller: Enroller,
    pub(crate) tokens: Tokens,
    pub(crate) objects: Objects,
    pub(crate) worlds: Arc<Worlds>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) statistics: Statistics,
    pub(crate) rates: Arc<Rates>,
    /// What ended that the server cannot be without.
    pub(crate) failed: watch::Receiver<Option<TaskEnded>>,
    /// True once the server is to end.
    pub(crate) ending: watch::Receiver<bool>,
}

pub(crate) type Shared = Arc<State>;

/// A running discovery server.
///
/// It runs on the runtime that started it. Dropping it cuts everything off; [`Server::shutdown`]
/// lets requests finish.
///
/// ```no_run
/// use mesh_discovery::wire::TokenRequest;
/// use mesh_discovery::{Config, Server};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::start(Config::default()).await?;
/// let request = TokenRequest::new("shop".parse()?, "web".parse()?);
/// let token = server.create_token(&request).await?;
/// println!("MESH_DISCOVERY=https://{} MESH_TOKEN={}", server.address(), token.reveal());
/// server.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    admin_address: SocketAddr,
    root_hash: RootHash,
    domain: TrustDomain,
    kubeconfig: PathBuf,
    shared: Shared,
    ending: watch::Sender<bool>,
    /// One task, which holds all others; dropping it ends them.
    supervisor: JoinSet<()>,
    /// Held as long as anything here answers, whatever becomes of the store.
    _lock: DirectoryLock,
}

impl Server {
    /// Starts a server; once this returns, it answers.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the configuration, the CA's files or the ports cannot be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let now = SystemTime::now();
        // Before anything of the directory is read or written: it may be another server's.
        let lock = DirectoryLock::take(&config.data_dir).await?;
        let store = open_store(&config, &lock).await?;
        let issuer = custody::load_or_create(&config.data_dir, &config.trust_domain, now)?;
        let issuer = Arc::new(issuer);
        let root_hash = root_hash(&issuer.bundle().certificates()[0])?;
        let tcp = bind(config.listen).await?;
        let admin_tcp = bind(config.admin).await?;
        let address = local(&tcp, config.listen)?;
        let admin_address = local(&admin_tcp, config.admin)?;
        let kubeconfig = config.data_dir.join("admin.kubeconfig");
        identity::admin::keep(&kubeconfig, &issuer, &config.url(address), now)?;
        let certificate = certificate::Own::issue(Arc::clone(&issuer), &config, now)?;

        let domain = config.trust_domain.clone();
        let reader = Reader::open(store, domain.clone()).await?;
        let (ending, is_ending) = watch::channel(false);
        let (failed, has_failed) = watch::channel(None);
        let ends = (has_failed, is_ending.clone());
        let shared = share(&config, (issuer, certificate.standing()), &reader, ends)?;
        let listener = Listener {
            limits: config.limits,
            domain: domain.clone(),
            tls: certificate.follow(),
            router: router(&shared),
            metrics: Arc::clone(&shared.metrics),
            ending: is_ending.clone(),
        };
        let mut tasks = Tasks::default();
        tasks.spawn("the port", listen::run(tcp, listener));
        let ending_too = is_ending.clone();
        tasks.spawn(
            "the admin port",
            admin::run(admin_tcp, Arc::clone(&shared), ending_too),
        );
        let renewed = certificate.keep_fresh(is_ending);
        tasks.spawn("the renewal of discovery's certificate", renewed);
        background::spawn(&mut tasks, &shared, reader);
        let supervisor = supervise::supervise(tasks, failed, &shared);
        Ok(Self {
            address,
            admin_address,
            root_hash,
            domain,
            kubeconfig,
            shared,
            ending,
            supervisor,
            _lock: lock,
        })
    }

    /// Where the HTTPS port listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin port listens.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What join tokens pin: SHA-256 of the root's public key.
    #[must_use]
    pub fn root_hash(&self) -> &RootHash {
        &self.root_hash
    }

    /// The realm of the identities that it issues.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The administrator's credentials; `kubectl`, `mesh` and [`crate::client`] read them.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// Makes a join token, without the detour over HTTPS.
    ///
    /// # Errors
    ///
    /// [`TokenError`] when the request is out of bounds or the store does not take it.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<JoinToken, TokenError> {
        let (token, _) = self
            .shared
            .tokens
            .create(request, SystemTime::now())
            .await?;
        Ok(token)
    }

    /// Applies the YAML of many objects, all of them or none, without the detour over HTTPS.
    ///
    /// # Errors
    ///
    /// [`ApplyError`] with everything that is wrong with the file, or why it was not written.
    pub async fn apply(&self, yaml: &str) -> Result<Applied, ApplyError> {
        self.shared.objects.apply_yaml(yaml, Mode::Write).await
    }

    /// Waits until the server cannot go on: a task that it needs has ended. It is not ready from
    /// then on, and its program should end.
    pub async fn failed(&self) -> TaskEnded {
        let mut failed = self.shared.failed.clone();
        loop {
            if let Some(ended) = failed.borrow_and_update().clone() {
                return ended;
            }
            if failed.changed().await.is_err() {
                // The supervisor has ended, as it does with the server alone.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends the server: watches end, requests may finish for some seconds, then everything is closed.
    pub async fn shutdown(mut self) {
        self.ending.send_replace(true);
        while self.supervisor.join_next().await.is_some() {}
        self.shared.store.close().await;
    }
}

async fn open_store(config: &Config, lock: &DirectoryLock) -> Result<SharedStore, StartError> {
    match config.store {
        StoreKind::Memory => Ok(Arc::new(Memory::new())),
        StoreKind::Redb => {
            let (directory, lock) = (config.data_dir.clone(), lock.clone());
            let open = move || Redb::open(&directory, Some(lock));
            let opened = tokio::task::spawn_blocking(open).await;
            Ok(Arc::new(opened.expect("opening a store does not panic")?))
        }
    }
}

fn share(
    config: &Config,
    (issuer, certificate): (Arc<Issuer>, watch::Receiver<certificate::Standing>),
    reader: &Reader,
    (failed, ending): (watch::Receiver<Option<TaskEnded>>, watch::Receiver<bool>),
) -> Result<Shared, StartError> {
    let store = reader.store();
    let domain = config.trust_domain.clone();
    let root = root_hash(&issuer.bundle().certificates()[0])?;
    let metrics = Arc::new(Metrics::new());
    Ok(Arc::new(State {
        enroller: Enroller::new(
            Arc::clone(&store),
            Arc::clone(&issuer),
            root,
            config.leaf_ttl,
        ),
        tokens: Tokens::new(Arc::clone(&store), domain.clone(), root),
        objects: Objects::new(Arc::clone(&store), domain.clone()),
        worlds: Arc::new(Worlds::new(reader.world())),
        sessions: Arc::new(Sessions::new(Arc::clone(&store), Arc::clone(&metrics))),
        statistics: Statistics::new(metrics.traffic_bytes.clone()),
        metrics,
        rates: Arc::default(),
        issuer,
        certificate,
        store,
        domain,
        failed,
        ending,
    }))
}

fn router(shared: &Shared) -> Router {
    let worlds = Arc::clone(&shared.worlds);
    let statuses = api::Statuses::new(move || worlds.latest());
    Router::new()
        .merge(identity::routes::routes())
        .merge(watches::routes())
        .merge(registry::routes())
        .merge(report::routes())
        .merge(stat::routes())
        .merge(targets::routes())
        .merge(records::routes())
        .fallback(access::nothing)
        .with_state(Arc::clone(shared))
        .merge(api::router(shared.objects.clone(), Some(statuses)))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared.worlds),
            settle::settle,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(shared),
            rate::limit,
        ))
        .layer(middleware::from_fn(access::check))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shared.metrics),
            supervise::catch,
        ))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| StartError::Bind { address, source })
}

fn local(tcp: &TcpListener, address: SocketAddr) -> Result<SocketAddr, StartError> {
    tcp.local_addr()
        .map_err(|source| StartError::Bind { address, source })
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The CA's files cannot be used.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The root cannot be read.
    #[error("the root certificate is refused")]
    Root(#[from] InvalidAnchor),
    /// The server's own certificate or the administrator's could not be issued.
    #[error("discovery cannot issue its own certificates")]
    Certificate(#[from] OwnCertificateError),
    /// The data directory cannot be had.
    #[error(transparent)]
    Lock(#[from] NotLocked),
    /// The store's file cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] Unavailable),
    /// A port cannot be had.
    #[error(
        "cannot listen on {address}: another program may hold it; choose another, or 0 for any free one"
    )]
    Bind {
        /// What was asked.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
