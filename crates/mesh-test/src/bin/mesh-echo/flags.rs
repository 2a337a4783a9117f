//! What the program is told on its command line, and how that goes over the environment.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use mesh_core::Config;
use mesh_core::config::Shutdown;
use mesh_policy::duration::{self, InvalidDuration};
use mesh_policy::name::ServiceAddress;

use crate::failure::Failure;

/// A service that answers every request with what it was asked, as JSON.
///
/// It joins the mesh as the environment says (`MESH_DISCOVERY` and `MESH_TOKEN` or `MESH_TOKEN_FILE`
/// at least; flags go over it), prints `listening ADDR` and `admin ADDR`, and drains on SIGTERM.
/// A request may ask for more: `?delay=500ms`, `?status=503`, and the header
/// `X-Echo-Set-Header: name:value`, several separated by commas.
#[derive(Debug, Parser)]
#[command(name = "mesh-echo", version)]
pub(crate) struct Flags {
    /// What it serves; may be repeated. Over `MESH_SERVICE`.
    #[arg(long = "service", value_name = "NAME.NS[:PORT]")]
    pub(crate) services: Vec<ServiceAddress>,
    /// Where it listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// The instance's name, the metric label `pod`. Over `MESH_NAME`.
    #[arg(long, value_name = "POD")]
    pub(crate) name: Option<String>,
    /// A label for pod selectors; may be repeated. Beside those of `MESH_LABELS`.
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The zone it runs in. Over `MESH_ZONE`.
    #[arg(long)]
    zone: Option<String>,
    /// Where /metrics, /ready, /live and /plan are shown, or `off`. Over `MESH_ADMIN`.
    #[arg(long, value_name = "ADDR", value_parser = admin, conflicts_with = "plaintext")]
    admin: Option<Admin>,
    /// Serve plain HTTP without a mesh: no identity, no policy, no metrics.
    #[arg(long)]
    pub(crate) plaintext: bool,
    /// The share of requests that are answered 500, between 0 and 1.
    #[arg(long, value_name = "F", default_value = "0", value_parser = share)]
    pub(crate) fail_rate: f64,
    /// How long every answer takes, such as 20ms.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = time)]
    pub(crate) latency: Duration,
    /// How long to wait for discovery, such as 30s; without it, for ever.
    #[arg(long, value_name = "DURATION", value_parser = time)]
    join_timeout: Option<Duration>,
}

/// Where the admin port is.
#[derive(Clone, Copy, Debug)]
enum Admin {
    At(SocketAddr),
    Off,
}

impl Flags {
    /// The environment's configuration, with what the flags say over it.
    pub(crate) fn over(&self, mut config: Config) -> Result<Config, Failure> {
        if !self.services.is_empty() {
            config.services.clone_from(&self.services);
        }
        if config.services.is_empty() {
            return Err(Failure::NoService);
        }
        config.name = self.name.clone().or(config.name);
        config.zone = self.zone.clone().or(config.zone);
        config.labels.extend(self.labels.iter().cloned());
        match self.admin {
            Some(Admin::At(address)) => config.admin = Some(address),
            Some(Admin::Off) => config.admin = None,
            None => {}
        }
        config.join_timeout = self.join_timeout;
        // The program hears signals itself, so that one that comes while it joins ends it too.
        config.shutdown = Shutdown::Manual;
        Ok(config)
    }
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn admin(text: &str) -> Result<Admin, &'static str> {
    match text {
        "off" => Ok(Admin::Off),
        text => text
            .parse()
            .map(Admin::At)
            .map_err(|_| "write an address and a port, such as 127.0.0.1:9990, or off"),
    }
}

fn share(text: &str) -> Result<f64, &'static str> {
    let remedy = "write a share between 0 and 1, such as 0.05";
    let share: f64 = text.parse().map_err(|_| remedy)?;
    (0.0..=1.0).contains(&share).then_some(share).ok_or(remedy)
}

fn time(text: &str) -> Result<Duration, InvalidDuration> {
    duration::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(given: &[&str]) -> Flags {
        Flags::try_parse_from([&["mesh-echo"], given].concat()).unwrap()
    }

    #[test]
    fn flags_go_over_the_environment() {
        let environment = Config {
            services: vec!["old.shop".parse().unwrap()],
            name: Some("old".into()),
            zone: Some("a".into()),
            labels: [("app", "api"), ("v", "1")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            ..Config::default()
        };
        let kept = flags(&[]).over(environment.clone()).unwrap();
        assert_eq!(kept.services, environment.services);
        assert_eq!(kept.name.as_deref(), Some("old"));
        assert_eq!(kept.admin, environment.admin);

        let given = [
            "--service=a.shop:8080",
            "--service=b.shop",
            "--name=n",
            "--zone=b",
            "--label=v=2",
            "--admin=off",
        ];
        let changed = flags(&given).over(environment).unwrap();
        let services: Vec<_> = changed.services.iter().map(ToString::to_string).collect();
        assert_eq!(services, ["a.shop:8080", "b.shop"]);
        assert_eq!(changed.name.as_deref(), Some("n"));
        assert_eq!(changed.zone.as_deref(), Some("b"));
        assert_eq!(changed.labels["app"], "api");
        assert_eq!(changed.labels["v"], "2");
        assert_eq!(changed.admin, None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for wrong in [
            "--service=api",
            "--label=app",
            "--fail-rate=1.5",
            "--fail-rate=NaN",
            "--latency=20",
            "--admin=somewhere",
            "--nonsense",
        ] {
            assert!(
                Flags::try_parse_from(["mesh-echo", wrong]).is_err(),
                "{wrong}"
            );
        }
        let nothing = flags(&[]).over(Config::default());
        assert!(matches!(nothing, Err(Failure::NoService)));
    }
}
