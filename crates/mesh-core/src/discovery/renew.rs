//! Renews the process's certificate, for as long as it lives.
//!
//! Each time with a new key, which never leaves memory. New connections take the
//! new certificate from one slot; those that are open go on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::Uri;
use mesh_policy::draw::Draw;
use mesh_policy::plan::enrol::EnrolResponse;
use mesh_policy::renewal;
use mesh_tls::config::ClientCertificates;
use mesh_tls::credentials::Credentials;
use mesh_tls::lifetime::Lifetime;
use mesh_tls::request::KeyPair;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::enrol::{EnrolFailed, assemble, enrol, renew, renewed, token};
use super::link::Link;
use super::standing::Standing;
use crate::BoxError;
use crate::causes::chain;
use crate::config::Config;
use crate::telemetry::control::ControlMetrics;
use crate::telemetry::identity::IdentityMetrics;
use crate::transport::connect::CurrentCredentials;

/// What the process proves itself with, in the forms that both directions take it.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// For connections that go out.
    pub(crate) credentials: CurrentCredentials,
    /// For connections that come in.
    pub(crate) server: Arc<ArcSwap<ServerConfig>>,
}

impl Proof {
    pub(super) fn new(credentials: Credentials) -> Self {
        let server = mesh_tls::config::server(&credentials, ClientCertificates::Required);
        Self {
            credentials: Arc::new(arc_swap::ArcSwapOption::new(Some(Arc::new(credentials)))),
            server: Arc::new(ArcSwap::new(server)),
        }
    }

    fn replace(&self, credentials: Credentials) {
        let server = mesh_tls::config::server(&credentials, ClientCertificates::Required);
        self.credentials.store(Some(Arc::new(credentials)));
        self.server.store(server);
    }

    pub(super) fn current(&self) -> Arc<Credentials> {
        let current = self.credentials.load_full();
        current.expect("a process has credentials once it is identified")
    }
}

/// What is left of a certificate that has just come: discovery's clock says when it ends, and
/// what it is now.
pub(super) fn lifetime(answer: &EnrolResponse) -> Lifetime {
    Lifetime::of(Duration::from_secs(
        answer.not_after.saturating_sub(answer.now),
    ))
}

/// Renews, again and again.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) config: Arc<Config>,
    pub(super) proof: Proof,
    pub(super) standing: Arc<Standing>,
    pub(super) metrics: IdentityMetrics,
    pub(super) control: ControlMetrics,
    /// Counts what was renewed, for whoever must begin anew with it.
    pub(super) generation: watch::Sender<u64>,
}

impl Renewal {
    /// Goes on for ever.
    pub(super) async fn run(&self) {
        loop {
            let lifetime = self.standing.lifetime();
            lifetime
                .reach(renewal::wait(lifetime.length(), draw()))
                .await;
            self.renew().await;
        }
    }

    /// Tries until there is a new certificate, also after the old one has ended.
    async fn renew(&self) {
        let mut failures = 0;
        loop {
            match self.ask().await {
                Ok((credentials, lifetime)) => {
                    let (serial, left) = (credentials.serial().to_owned(), lifetime.length());
                    self.metrics.refreshed(credentials.not_after());
                    self.proof.replace(credentials);
                    self.standing.renewed(lifetime);
                    self.generation.send_modify(|generation| *generation += 1);
                    tracing::info!(serial, ?left, "the certificate was renewed");
                    return;
                }
                Err(error) => {
                    failures += 1;
                    self.metrics.failed();
                    let (left, error) = (self.standing.lifetime().left(), chain(&*error));
                    self.standing.failed(&error);
                    if left.is_zero() {
                        tracing::error!(
                            error,
                            "the certificate has ended: peers refuse this process until discovery renews it"
                        );
                    } else {
                        tracing::warn!(error, ?left, "the certificate is not renewed yet");
                    }
                    tokio::time::sleep(renewal::retry(left, failures, draw())).await;
                }
            }
        }
    }

    /// Asks every discovery server in turn.
    async fn ask(&self) -> Result<(Credentials, Lifetime), BoxError> {
        let mut last: BoxError = "no discovery server is configured".into();
        for url in &self.config.discovery {
            match self.ask_one(url).await {
                Ok(renewed) => return Ok(renewed),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// By the certificate; where that does not count any more, by the token once more.
    async fn ask_one(&self, url: &Uri) -> Result<(Credentials, Lifetime), BoxError> {
        let key = KeyPair::generate()?;
        let current = self.proof.current();
        if SystemTime::now() <= current.not_after() {
            let link = Link::new(url, mesh_tls::config::to_discovery(&current));
            let link = link.counted(self.control.of(url));
            match renew(&link, &key).await {
                Ok(answer) => {
                    let lifetime = lifetime(&answer);
                    return Ok((renewed(key, &answer, current.identity())?, lifetime));
                }
                Err(EnrolFailed::Link(error)) if error.is_final() => {
                    tracing::warn!(
                        error = chain(&error),
                        "discovery does not renew by certificate"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        let source = self.config.token.as_ref();
        let token = token(source.expect("a checked configuration has a token"))?;
        let link = Link::new(url, mesh_tls::config::joining(*token.root()));
        let link = link.counted(self.control.of(url));
        let answer = enrol(&link, &token, &key).await?;
        let lifetime = lifetime(&answer);
        let credentials = assemble(key, &answer, &token)?;
        if credentials.identity() != current.identity() {
            return Err(OtherIdentity.into());
        }
        Ok((credentials, lifetime))
    }
}

fn draw() -> Draw {
    Draw(fastrand::u64(..))
}

/// Discovery gave a certificate of somebody else.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "discovery's certificate is for another identity than this process has: see whose token it was given"
)]
pub(super) struct OtherIdentity;
