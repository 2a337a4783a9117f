//! What a discovery server is told when it starts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use mesh_policy::identity::TrustDomain;

use crate::listen::Limits;

/// The shortest life of a leaf: below it, renewing is all that a process does.
const MIN_LEAF_TTL: Duration = Duration::from_secs(10);
/// The longest life of a leaf.
const MAX_LEAF_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Names in the server's certificate.
const MAX_ADVERTISED: usize = 64;

/// What a discovery server is told when it starts.
///
/// The default is that of the program `mesh-discovery`; in tests, port 0 takes a free one.
///
/// ```
/// use mesh_discovery::Config;
///
/// let config = Config {
///     listen: ([127, 0, 0, 1], 0).into(),
///     admin: ([127, 0, 0, 1], 0).into(),
///     data_dir: "/tmp/mesh".into(),
///     ..Config::default()
/// };
/// assert_eq!(config.trust_domain.as_str(), "mesh.local");
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the HTTPS port listens. Default `127.0.0.1:7800`. An address of the network
    /// lets other machines join; everything there asks for a certificate or a token.
    pub listen: SocketAddr,
    /// Names and addresses by which others reach this server, for its certificate.
    /// Default none. Only ordinary HTTPS clients need them: processes of the mesh check the
    /// server's identity.
    pub advertise: Vec<String>,
    /// Where `/metrics`, `/ready` and `/live` are shown in plain HTTP. Default
    /// `127.0.0.1:7801`. An address of the network shows them to everyone there.
    pub admin: SocketAddr,
    /// Where the CA, the records and `admin.kubeconfig` lie; one server at a time uses it. Default `./mesh-data`. Another directory is
    /// another CA: nobody who joined before is known there.
    pub data_dir: PathBuf,
    /// Where records are kept. Default [`StoreKind::Memory`].
    pub store: StoreKind,
    /// The realm of the identities that are issued. Default `mesh.local`. The CA is of one
    /// domain: another one needs another `data_dir`.
    pub trust_domain: TrustDomain,
    /// How long a process's certificate counts. Default 24 h, between 10 s and 30 days. A
    /// short one costs renewals, a long one lets a stolen key serve longer.
    pub leaf_ttl: Duration,
    /// How much is held for callers.
    pub limits: Limits,
}

/// Where discovery keeps its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreKind {
    /// In memory: policy, tokens and grants are forgotten when the server ends; the CA is not.
    #[default]
    Memory,
    /// In `store.redb` of the data directory, on the disk before a write is acknowledged. The
    /// default of the program.
    Redb,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 7800).into(),
            advertise: Vec::new(),
            admin: (Ipv4Addr::LOCALHOST, 7801).into(),
            data_dir: "./mesh-data".into(),
            store: StoreKind::Memory,
            trust_domain: "mesh.local".parse().expect("it is a trust domain"),
            leaf_ttl: Duration::from_secs(24 * 60 * 60),
            limits: Limits::default(),
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        if !(MIN_LEAF_TTL..=MAX_LEAF_TTL).contains(&self.leaf_ttl) {
            return Err(InvalidConfig::LeafTtl { ttl: self.leaf_ttl });
        }
        if self.advertise.len() > MAX_ADVERTISED {
            return Err(InvalidConfig::Advertise {
                names: self.advertise.len(),
            });
        }
        Ok(())
    }

    /// The DNS names of the server's certificate.
    pub(crate) fn dns_names(&self) -> Vec<String> {
        let own = ["mesh-discovery", "localhost"].map(str::to_owned);
        let given = self.advertise.iter();
        let given = given.filter(|name| name.parse::<IpAddr>().is_err());
        own.into_iter().chain(given.cloned()).collect()
    }

    /// The addresses of the server's certificate.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let mut all = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let given = self.advertise.iter().filter_map(|name| name.parse().ok());
        for address in given.chain([self.listen.ip()]) {
            if !address.is_unspecified() && !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// How an administrator on this machine reaches the server that listens on `bound`.
    pub(crate) fn url(&self, bound: SocketAddr) -> String {
        let port = bound.port();
        if !bound.ip().is_unspecified() {
            return format!("https://{bound}");
        }
        match self.advertise.first() {
            Some(name) => match name.parse() {
                Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
                Ok(IpAddr::V4(_)) | Err(_) => format!("https://{name}:{port}"),
            },
            None if bound.is_ipv4() => format!("https://{}:{port}", Ipv4Addr::LOCALHOST),
            None => format!("https://[{}]:{port}", Ipv6Addr::LOCALHOST),
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// The life of leaves is out of bounds.
    #[error("a leaf cannot live {ttl:?}: give between 10 s and 30 days, and 24 h as a rule")]
    LeafTtl {
        /// What was given.
        ttl: Duration,
    },
    /// Too many names for one certificate.
    #[error("the server cannot advertise {names} names: give at most 64")]
    Advertise {
        /// How many were given.
        names: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_names_what_is_advertised_and_the_loopback() {
        let config = Config {
            listen: "10.0.0.1:0".parse().unwrap(),
            advertise: vec!["mesh.example".into(), "192.0.2.1".into()],
            ..Config::default()
        };
        let names = ["mesh-discovery", "localhost", "mesh.example"];
        assert_eq!(config.dns_names(), names);
        let addresses = ["127.0.0.1", "::1", "192.0.2.1", "10.0.0.1"];
        assert_eq!(
            config.addresses(),
            addresses.map(|a| a.parse::<IpAddr>().unwrap())
        );
    }

    #[test]
    fn the_kubeconfig_never_names_an_address_that_nobody_can_call() {
        let url = |bound: &str, advertise: &[&str]| {
            let advertise = advertise.iter().map(ToString::to_string).collect();
            let config = Config {
                advertise,
                ..Config::default()
            };
            config.url(bound.parse().unwrap())
        };
        assert_eq!(url("127.0.0.1:7800", &["a"]), "https://127.0.0.1:7800");
        assert_eq!(url("0.0.0.0:7800", &[]), "https://127.0.0.1:7800");
        assert_eq!(url("[::]:7800", &[]), "https://[::1]:7800");
        assert_eq!(url("0.0.0.0:7800", &["a.b"]), "https://a.b:7800");
        assert_eq!(url("[::]:7800", &["fd00::1"]), "https://[fd00::1]:7800");
    }

    #[test]
    fn a_leaf_lives_neither_too_short_nor_too_long() {
        for ttl in [Duration::ZERO, Duration::from_secs(31 * 24 * 60 * 60)] {
            let config = Config {
                leaf_ttl: ttl,
                ..Config::default()
            };
            assert_eq!(config.check(), Err(InvalidConfig::LeafTtl { ttl }));
        }
        assert_eq!(Config::default().check(), Ok(()));
    }
}
