//! What a process tells the mesh about itself, in code or by its environment.
//!
//! Everything the environment sets is a field here, so that several meshes can
//! live in one process; libraries read nothing else. A [`Config`] is checked
//! once, by [`Config::check`], which [`crate::Mesh::join`] calls.

mod environment;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use mesh_policy::name::ServiceAddress;
use mesh_policy::token::JoinToken;

use crate::telemetry::Metrics;
use crate::transport::Limits;

/// How many discovery URLs are tried in turn; more would only hide that none answers.
const MAX_DISCOVERY_URLS: usize = 16;
/// How many services one process may serve, and so how many leases it holds.
const MAX_SERVICES: usize = 64;
/// How many labels a process may carry.
const MAX_LABELS: usize = 64;
/// How long a name or a label may be, in bytes.
const MAX_TEXT_BYTES: usize = 253;
/// A weight beyond this only makes rounding worse.
const MAX_WEIGHT: u32 = 10_000;

/// What is kept of a request's body is memory for each request in flight.
const MAX_REPLAY_LIMIT: usize = 16 << 20;

/// What a process tells the mesh about itself.
///
/// ```
/// use mesh_core::Config;
///
/// let config = Config::from_vars([
///     ("MESH_TOKEN_FILE", "/run/secrets/mesh-token"),
///     ("MESH_SERVICE", "orders.shop"),
/// ])?;
/// let config = Config { zone: Some("a".into()), ..config };
/// assert_eq!(config.services[0].to_string(), "orders.shop");
/// # Ok::<(), mesh_core::config::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Where discovery listens, `https://host:port` each; replicas are tried in turn.
    ///
    /// Default: `https://127.0.0.1:7800`. An address that nobody answers makes
    /// [`crate::Mesh::join`] wait, and costs each attempt one connect timeout.
    pub discovery: Vec<Uri>,
    /// What proves that this process may join; a token is good for one join.
    ///
    /// Default: none, with which nothing can join.
    pub token: Option<TokenSource>,
    /// What the process serves, each as `name.namespace` or `name.namespace:port`.
    ///
    /// The port is the logical one that Services and routes name, by default the
    /// applied Service's only port, else 80. Default: none, a pure client. A name
    /// that the token does not allow is refused by discovery, and nobody calls it.
    pub services: Vec<ServiceAddress>,
    /// The workload's name, the metric label `deployment`.
    ///
    /// Default: the service account that the token names. Two workloads of one name
    /// are one line in every dashboard.
    pub workload: Option<String>,
    /// The instance's name, the metric label `pod`.
    ///
    /// Default: host name and process id. Must differ between instances, or their
    /// metrics cannot be told apart.
    pub name: Option<String>,
    /// What pod selectors select: these choose the process's own inbound policy,
    /// never what it may serve. Default: none, which only an empty selector selects.
    pub labels: BTreeMap<String, String>,
    /// What a listener does with plaintext. Default: [`Inbound::Detect`].
    pub inbound: Inbound,
    /// The zone that the process runs in. Default: none, so that no client prefers it.
    pub zone: Option<String>,
    /// The process's share among the endpoints of its services.
    ///
    /// Default: 100, the usual one. 0 takes no traffic and stays registered; at most 10,000.
    pub weight: u32,
    /// The address that others reach this process by, where a listener is bound to
    /// all of them.
    ///
    /// Default: none, which registers the address that a connection to discovery
    /// leaves from. A wrong one makes the process unreachable.
    pub advertise: Option<IpAddr>,
    /// Where `/metrics`, `/ready`, `/live` and `/plan` are shown, in plain HTTP.
    ///
    /// Default: a free port of `127.0.0.1`. `None` shows nothing. An address of the
    /// network shows them to everyone there.
    pub admin: Option<SocketAddr>,
    /// Names that the admin port answers to beside IP addresses and `localhost`.
    ///
    /// Default: none. Every name here is one that a web page could be made to call.
    pub admin_hosts: Vec<String>,
    /// Where the mesh's metrics live.
    ///
    /// Default: a recorder of its own. [`Config::from_env`] prefers the process's, so that the
    /// application's own metrics are served too. See [`Metrics`].
    pub metrics: Metrics,
    /// How much clients may ask of a listener; each field of [`Limits`] has its default.
    pub limits: Limits,
    /// Bytes of a request's body that are kept so that it can be sent again.
    ///
    /// Default: 65,536; at most 16 MiB. A body that outgrows it streams on and is sent once.
    /// 0 keeps none but those that are in memory anyhow; much of it is memory for each request
    /// in flight.
    pub replay_limit: usize,
    /// How long [`crate::Mesh::join`] waits for discovery.
    ///
    /// Default: none, for ever. Too short, and a process that starts with the whole
    /// fleet gives up while discovery still comes up.
    pub join_timeout: Option<Duration>,
    /// What begins the end. Default: [`Shutdown::Signals`].
    pub shutdown: Shutdown,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            discovery: vec![Uri::from_static("https://127.0.0.1:7800")],
            token: None,
            services: Vec::new(),
            workload: None,
            name: None,
            labels: BTreeMap::new(),
            inbound: Inbound::Detect,
            zone: None,
            weight: 100,
            advertise: None,
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            admin_hosts: Vec::new(),
            metrics: Metrics::Own,
            limits: Limits::default(),
            replay_limit: 64 << 10,
            join_timeout: None,
            shutdown: Shutdown::Signals,
        }
    }
}

impl Config {
    /// Checks that the parts make sense, once, before anything is started.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the first field that does not, and the remedy.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        self.check_discovery()?;
        if self.token.is_none() {
            let remedy = "give a token from `mesh token create`, or a file that holds one";
            return Err(InvalidConfig::new("token", "", remedy));
        }
        let services = self.services.len();
        if services > MAX_SERVICES {
            let remedy = "serve at most 64 services from one process";
            return Err(InvalidConfig::new("services", services, remedy));
        }
        for (index, service) in self.services.iter().enumerate() {
            if self.services[..index].contains(service) {
                return Err(InvalidConfig::new("services", service, "name it once"));
            }
        }
        if self.weight > MAX_WEIGHT {
            let remedy = "give a share between 0 and 10000; 100 is the usual one";
            return Err(InvalidConfig::new("weight", self.weight, remedy));
        }
        if self.replay_limit > MAX_REPLAY_LIMIT {
            let remedy = "keep at most 16777216 bytes; 65536 is the usual limit";
            return Err(InvalidConfig::new(
                "replay_limit",
                self.replay_limit,
                remedy,
            ));
        }
        if self.join_timeout.is_some_and(|limit| limit.is_zero()) {
            let remedy = "give a time above zero, or none to wait for ever";
            return Err(InvalidConfig::new("join_timeout", "0", remedy));
        }
        self.check_texts()
    }

    fn check_discovery(&self) -> Result<(), InvalidConfig> {
        let refuse = |value: &dyn fmt::Display, remedy| {
            Err(InvalidConfig::new("discovery", value.to_string(), remedy))
        };
        if self.discovery.is_empty() {
            return refuse(&"", "give at least one URL, such as https://127.0.0.1:7800");
        }
        if self.discovery.len() > MAX_DISCOVERY_URLS {
            return refuse(&self.discovery.len(), "give at most 16 URLs");
        }
        for url in &self.discovery {
            let bare = url.path_and_query().is_none_or(|path| path == "/");
            if url.scheme_str() != Some("https") || url.authority().is_none() || !bare {
                let remedy = "write https://host:port, such as https://127.0.0.1:7800";
                return refuse(url, remedy);
            }
            if url.authority().is_some_and(|a| a.as_str().contains('@')) {
                return refuse(&"..@..", "leave user and password out of the URL");
            }
        }
        Ok(())
    }

    fn check_texts(&self) -> Result<(), InvalidConfig> {
        let remedy = "write 1 to 253 printable characters";
        let texts = [
            ("workload", &self.workload),
            ("name", &self.name),
            ("zone", &self.zone),
        ];
        for (field, text) in texts {
            if let Some(text) = text.as_deref().filter(|text| !is_text(text)) {
                return Err(InvalidConfig::new(field, text, remedy));
            }
        }
        if self.labels.len() > MAX_LABELS {
            let remedy = "carry at most 64 labels";
            return Err(InvalidConfig::new("labels", self.labels.len(), remedy));
        }
        for (key, value) in &self.labels {
            if !is_text(key) || !(value.is_empty() || is_text(value)) {
                let label = format!("{key}={value}");
                return Err(InvalidConfig::new("labels", label, remedy));
            }
        }
        Ok(())
    }
}

fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Where the token to join with is found.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// The token itself.
    Given(JoinToken),
    /// A file that holds it; it is read when the process joins, and only then.
    File(PathBuf),
}

/// What a listener does with a connection that does not begin with TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inbound {
    /// Tells TLS and plaintext apart: plaintext that policy does not allow is
    /// answered 403, so that a misconfigured client learns why.
    #[default]
    Detect,
    /// Expects TLS; anything else is closed without an answer.
    Strict,
}

/// What begins the end of a process's part in the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shutdown {
    /// SIGTERM or Ctrl-C drain every listener.
    #[default]
    Signals,
    /// Only [`crate::Mesh::drain`] does. Signals are left to the application; one that
    /// forgets to drain cuts requests off.
    Manual,
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidConfig {
    subject: String,
    wrong: Wrong,
    remedy: String,
}

/// What is wrong with the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wrong {
    /// It has this value.
    Value(String),
    /// It has a value that may be secret, or is no text.
    Untold,
    /// There is no such variable.
    Unknown,
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            wrong,
            remedy,
        } = self;
        match wrong {
            Wrong::Value(value) => write!(f, "{subject} cannot be {value:?}: {remedy}"),
            Wrong::Untold => write!(f, "{subject} has a value that cannot be used: {remedy}"),
            Wrong::Unknown => write!(f, "unknown variable {subject}: {remedy}"),
        }
    }
}

impl InvalidConfig {
    fn new(subject: &str, value: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        // A refused value can be of any size: keep what a person can read.
        let value = value.to_string().chars().take(120).collect();
        Self {
            subject: subject.to_owned(),
            wrong: Wrong::Value(value),
            remedy: remedy.to_string(),
        }
    }

    /// A variable whose value is not repeated.
    fn untold(subject: &str, remedy: impl fmt::Display) -> Self {
        Self {
            wrong: Wrong::Untold,
            ..Self::new(subject, "", remedy)
        }
    }

    /// A variable that does not exist.
    fn unknown(subject: &str, remedy: impl fmt::Display) -> Self {
        Self {
            wrong: Wrong::Unknown,
            ..Self::new(subject, "", remedy)
        }
    }

    /// The field or variable that was refused.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn working() -> Config {
        Config {
            token: Some(TokenSource::File("/run/token".into())),
            ..Config::default()
        }
    }

    #[test]
    fn the_default_lacks_only_a_token() {
        assert_eq!(working().check(), Ok(()));
        let error = Config::default().check().unwrap_err();
        assert_eq!(error.subject(), "token");
    }

    #[test]
    fn every_refusal_names_its_field() {
        type Break = fn(&mut Config);
        let cases: [(&str, Break); 11] = [
            ("discovery", |c| c.discovery.clear()),
            ("discovery", |c| {
                c.discovery = vec![Uri::from_static("http://a:1")];
            }),
            ("discovery", |c| {
                c.discovery = vec![Uri::from_static("https://a:1/v1")];
            }),
            ("discovery", |c| {
                c.discovery = vec![Uri::from_static("https://u:p@a:1")];
            }),
            ("services", |c| {
                c.services = vec!["a.b".parse().unwrap(), "a.b".parse().unwrap()];
            }),
            ("weight", |c| c.weight = 10_001),
            ("replay_limit", |c| c.replay_limit = usize::MAX),
            ("join_timeout", |c| c.join_timeout = Some(Duration::ZERO)),
            ("name", |c| c.name = Some("a\nb".into())),
            ("zone", |c| c.zone = Some(String::new())),
            ("labels", |c| {
                c.labels.insert(String::new(), "x".into());
            }),
        ];
        for (field, damage) in cases {
            let mut config = working();
            damage(&mut config);
            assert_eq!(config.check().unwrap_err().subject(), field);
        }
    }

    #[test]
    fn s01_a_refused_url_does_not_repeat_its_password() {
        let mut config = working();
        config.discovery = vec![Uri::from_static("https://u:hunter2@a:1")];
        let error = config.check().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
