//! Discovery's own certificate, renewed by itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_policy::identity::Identity;
use mesh_tls::config::{self, ClientCertificates};
use mesh_tls::credentials::{Credentials, UnfitCredentials};
use mesh_tls::issuer::{Issuer, IssuingRefused, Template};
use mesh_tls::lifetime::Lifetime;
use mesh_tls::request::{InvalidKey, InvalidRequest, KeyPair};
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::config::Config;

/// How soon a failed renewal is tried again, and the shortest time between two.
const RETRY: Duration = Duration::from_secs(10);

/// The server's own certificate.
#[derive(Debug)]
pub(crate) struct Own {
    issuer: Arc<Issuer>,
    template: Template,
    tls: watch::Sender<Arc<ServerConfig>>,
    standing: watch::Sender<Standing>,
}

/// How the server's own certificate stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    lifetime: Lifetime,
    /// Why it was not renewed, since when that fails.
    trouble: Option<String>,
}

impl Standing {
    fn renewed(credentials: &Credentials) -> Self {
        Self {
            lifetime: Lifetime::until(credentials.not_after()),
            trouble: None,
        }
    }

    /// The seconds that it still counts; below 0 since it has ended.
    pub(crate) fn seconds_left(&self) -> f64 {
        match self.lifetime.ended() {
            None => self.lifetime.left().as_secs_f64(),
            Some(ago) => -ago.as_secs_f64(),
        }
    }

    /// Why nobody can connect, once the certificate has ended.
    pub(crate) fn why_not_ready(&self) -> Option<String> {
        let ago = self.lifetime.ended()?.as_secs();
        let why = self.trouble.as_deref();
        let why = why.unwrap_or("the clock has leapt, and it is renewed within seconds");
        Some(format!(
            "discovery's own certificate ended {ago} s ago: {why}"
        ))
    }
}

impl Own {
    pub(crate) fn issue(
        issuer: Arc<Issuer>,
        config: &Config,
        now: SystemTime,
    ) -> Result<Self, OwnCertificateError> {
        let template = Template {
            ttl: config.leaf_ttl,
            dns_names: config.dns_names(),
            addresses: config.addresses(),
        };
        let credentials = credentials(&issuer, &template, now)?;
        let tls = config::server(&credentials, ClientCertificates::Optional);
        Ok(Self {
            issuer,
            template,
            tls: watch::Sender::new(tls),
            standing: watch::Sender::new(Standing::renewed(&credentials)),
        })
    }

    /// How it stands, for `/ready`.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// What the next handshake runs.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.tls.subscribe()
    }

    /// Issues a new one, with a new key, at half the life of the last.
    pub(crate) async fn keep_fresh(self, mut ending: watch::Receiver<bool>) {
        let shortest = RETRY.min(self.template.ttl / 2);
        loop {
            let lifetime = self.standing.borrow().lifetime;
            let due = async {
                // After a failure half has passed, and this is the pause.
                tokio::time::sleep(shortest).await;
                lifetime.reach(lifetime.length() / 2).await;
            };
            tokio::select! {
                _ = ending.wait_for(|ending| *ending) => return,
                () = due => self.renew(),
            }
        }
    }

    fn renew(&self) {
        match credentials(&self.issuer, &self.template, SystemTime::now()) {
            Ok(credentials) => {
                self.tls
                    .send_replace(config::server(&credentials, ClientCertificates::Optional));
                self.standing.send_replace(Standing::renewed(&credentials));
            }
            Err(error) => {
                let trouble = error.to_string();
                self.standing
                    .send_modify(|standing| standing.trouble = Some(trouble));
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "discovery cannot renew its own certificate");
            }
        }
    }
}

fn credentials(
    issuer: &Issuer,
    template: &Template,
    now: SystemTime,
) -> Result<Credentials, OwnCertificateError> {
    let identity = Identity::discovery(issuer.domain());
    let key = KeyPair::generate()?;
    let issued = issuer.issue(&key.signing_request()?, &identity, template, now)?;
    let mut chain = issued.chain;
    // Who joins looks for the root whose hash its token carries.
    chain.extend(issuer.bundle().certificates().first().cloned());
    Ok(Credentials::new(
        key,
        chain,
        issuer.bundle().clone().into(),
        now,
    )?)
}

/// Why discovery cannot have a certificate of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnCertificateError {
    /// No key.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// No request.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// The issuer refuses.
    #[error(transparent)]
    Issuer(#[from] IssuingRefused),
    /// Nobody would believe it.
    #[error(transparent)]
    Unfit(#[from] UnfitCredentials),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::custody;

    #[tokio::test(start_paused = true)]
    async fn discovery_renews_its_own_certificate_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::default();
        let now = SystemTime::now();
        let issuer = custody::load_or_create(dir.path(), &config.trust_domain, now).unwrap();
        let own = Own::issue(Arc::new(issuer), &config, now).unwrap();
        let mut tls = own.follow();
        let (_ending, is_ending) = watch::channel(false);
        let started = tokio::time::Instant::now();
        drop(tokio::spawn(own.keep_fresh(is_ending)));
        tls.changed().await.unwrap();
        let waited = started.elapsed();
        assert!(waited <= config.leaf_ttl / 2 + RETRY, "{waited:?}");
        assert!(waited >= config.leaf_ttl / 3, "{waited:?}");
    }

    #[test]
    fn j09_an_own_certificate_that_has_ended_is_a_reason_not_to_be_ready() {
        let ended = SystemTime::now() - Duration::from_secs(80);
        let mut standing = Standing {
            lifetime: Lifetime::until(SystemTime::now() + Duration::from_secs(80)),
            trouble: Some("the issuer has ended".to_owned()),
        };
        assert_eq!(standing.why_not_ready(), None, "it still counts");
        standing.lifetime = Lifetime::until(ended);
        let why = standing.why_not_ready().unwrap();
        assert!(why.contains("s ago: the issuer has ended"), "{why}");
    }
}
