//! `MESH_*` variables, read once into a [`Config`].
//!
//! An unknown variable is an error and not passed over: a misspelt
//! `MESH_INBOUD=strict` would otherwise leave a port open for plaintext.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::Uri;
use mesh_policy::name::ServiceAddress;
use mesh_policy::nearest::nearest;

use super::{Config, Inbound, InvalidConfig, TokenSource};
use crate::telemetry::Metrics;

/// Variables that set a field.
const HONOURED: [&str; 12] = [
    "MESH_ADMIN",
    "MESH_ADMIN_HOSTS",
    "MESH_DISCOVERY",
    "MESH_INBOUND",
    "MESH_LABELS",
    "MESH_NAME",
    "MESH_SERVICE",
    "MESH_TOKEN",
    "MESH_TOKEN_FILE",
    "MESH_WORKLOAD",
    "MESH_ZONE",
    "MESH_ACCESS_LOG",
];

/// Variables of the contract that this version cannot honour, and so refuses.
const LATER: [&str; 3] = [
    "MESH_STATE_DIR",
    "MESH_TRACE_ENDPOINT",
    "MESH_WORKLOAD_SOCKET",
];

/// Variables of the `mesh` command, which may well be set in the same shell.
const OF_OTHERS: [&str; 1] = ["MESH_KUBECONFIG"];

impl Config {
    /// Reads the process's environment; what is absent keeps its default.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for a value that cannot be read, a `MESH_*` variable that
    /// does not exist, or one that this version does not honour yet.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        let vars = std::env::vars_os().filter_map(|(key, value)| {
            let key = key.into_string().ok()?;
            // A value that is no Unicode is refused by name, and only if it is ours.
            key.starts_with("MESH_")
                .then(|| (key, value.into_string().map_err(drop)))
        });
        let mut readable = Vec::new();
        for (key, value) in vars {
            let value = value.map_err(|()| InvalidConfig::untold(&key, "write it in UTF-8"))?;
            readable.push((key, value));
        }
        Self::from_vars(readable)
    }

    /// Reads pairs of variable and value, as [`Config::from_env`] does; others than `MESH_*` are passed over.
    ///
    /// # Errors
    ///
    /// As [`Config::from_env`].
    pub fn from_vars<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Result<Self, InvalidConfig>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let vars = vars
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .filter(|(key, value): &(String, String)| key.starts_with("MESH_") && !value.is_empty())
            .collect();
        let vars = Vars(vars);
        vars.check_names()?;
        vars.read()
    }
}

/// The `MESH_*` variables that are set; one that is empty is as good as absent.
struct Vars(BTreeMap<String, String>);

/// Whether Kubernetes set this for a Service whose name begins with `mesh`, such as
/// `MESH_DISCOVERY_SERVICE_HOST` or `MESH_DISCOVERY_PORT_7800_TCP_ADDR`.
fn is_service_link(key: &str) -> bool {
    let ends = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];
    let holds = |part: &str| {
        let rest = key.split_once(part).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    ends.iter().any(|end| key.ends_with(end)) || key.contains("_SERVICE_PORT_") || holds("_PORT_")
}

impl Vars {
    fn check_names(&self) -> Result<(), InvalidConfig> {
        for (key, value) in &self.0 {
            let key = key.as_str();
            if LATER.contains(&key) {
                let remedy = "this version does not honour it yet; unset it";
                return Err(InvalidConfig::new(key, value, remedy));
            }
            if !HONOURED.contains(&key) && !OF_OTHERS.contains(&key) && !is_service_link(key) {
                return Err(InvalidConfig::unknown(key, meant(key)));
            }
        }
        match self.text("MESH_ACCESS_LOG") {
            None | Some("off") => Ok(()),
            Some(value) => {
                let remedy = "this version writes no access log yet; write off or unset it";
                Err(InvalidConfig::new("MESH_ACCESS_LOG", value, remedy))
            }
        }
    }

    fn read(&self) -> Result<Config, InvalidConfig> {
        let mut config = Config {
            token: self.token()?,
            services: self.list("MESH_SERVICE", |text| {
                text.parse::<ServiceAddress>().map_err(|e| e.to_string())
            })?,
            workload: self.text("MESH_WORKLOAD").map(str::to_owned),
            name: self.text("MESH_NAME").map(str::to_owned),
            labels: self.labels()?,
            zone: self.text("MESH_ZONE").map(str::to_owned),
            inbound: self.inbound()?,
            admin_hosts: self.list("MESH_ADMIN_HOSTS", |text| Ok(text.to_owned()))?,
            metrics: Metrics::GlobalOrOwn,
            ..Config::default()
        };
        let discovery = self.list("MESH_DISCOVERY", |text| {
            let remedy = "write https://host:port, such as https://127.0.0.1:7800";
            text.parse::<Uri>().map_err(|_| remedy.to_owned())
        })?;
        if !discovery.is_empty() {
            config.discovery = discovery;
        }
        match self.text("MESH_ADMIN") {
            None => {}
            Some("off") => config.admin = None,
            Some(text) => {
                let remedy = "write an address and a port, such as 127.0.0.1:9990, or off";
                let address = text.parse();
                config.admin =
                    Some(address.map_err(|_| InvalidConfig::new("MESH_ADMIN", text, remedy))?);
            }
        }
        config.check().map_err(|error| InvalidConfig {
            subject: variable(&error.subject),
            ..error
        })?;
        Ok(config)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn token(&self) -> Result<Option<TokenSource>, InvalidConfig> {
        match (self.text("MESH_TOKEN"), self.text("MESH_TOKEN_FILE")) {
            (Some(_), Some(file)) => {
                let remedy = "set either MESH_TOKEN or MESH_TOKEN_FILE, not both";
                Err(InvalidConfig::new("MESH_TOKEN_FILE", file, remedy))
            }
            (Some(token), None) => {
                // The spelling may hold a secret, so it is not repeated.
                let token = token.parse();
                let token = token.map_err(|e| InvalidConfig::untold("MESH_TOKEN", e))?;
                Ok(Some(TokenSource::Given(token)))
            }
            (None, Some(file)) => Ok(Some(TokenSource::File(PathBuf::from(file)))),
            (None, None) => Ok(None),
        }
    }

    fn inbound(&self) -> Result<Inbound, InvalidConfig> {
        match self.text("MESH_INBOUND") {
            None | Some("detect") => Ok(Inbound::Detect),
            Some("strict") => Ok(Inbound::Strict),
            Some(text) => {
                let remedy = match nearest(text, ["detect", "strict"]) {
                    Some(known) => format!("did you mean {known}?"),
                    None => "write detect or strict".to_owned(),
                };
                Err(InvalidConfig::new("MESH_INBOUND", text, remedy))
            }
        }
    }

    fn labels(&self) -> Result<BTreeMap<String, String>, InvalidConfig> {
        let remedy = "write key=value pairs with a comma between, such as app=api,version=v1";
        let pairs = self.list("MESH_LABELS", |text| {
            let (key, value) = text.split_once('=').ok_or(remedy)?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })?;
        let mut labels = BTreeMap::new();
        for (key, value) in pairs {
            if labels.insert(key.clone(), value).is_some() {
                return Err(InvalidConfig::new("MESH_LABELS", key, "name each key once"));
            }
        }
        Ok(labels)
    }

    /// The comma-separated parts of a variable, each read by `read`.
    fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, InvalidConfig> {
        let Some(text) = self.text(name) else {
            return Ok(Vec::new());
        };
        text.split(',')
            .map(str::trim)
            .map(|part| read(part).map_err(|remedy| InvalidConfig::new(name, part, remedy)))
            .collect()
    }
}

/// The variable that sets a field.
fn variable(field: &str) -> String {
    match field {
        "services" => "MESH_SERVICE".to_owned(),
        "token" => "MESH_TOKEN or MESH_TOKEN_FILE".to_owned(),
        field => format!("MESH_{}", field.to_ascii_uppercase()),
    }
}

/// What to write instead of a variable that does not exist.
fn meant(wrong: &str) -> String {
    match nearest(wrong, HONOURED.into_iter().chain(LATER)) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("unset it; the variables are {}", HONOURED.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use mesh_policy::token::JoinToken;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, InvalidConfig> {
        let token = ("MESH_TOKEN_FILE", "/run/token");
        Config::from_vars(pairs.iter().copied().chain([token]))
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_that_name_is_passed_over() {
        for key in [
            "MESH_DISCOVERY_SERVICE_HOST",
            "MESH_DISCOVERY_SERVICE_PORT",
            "MESH_DISCOVERY_SERVICE_PORT_HTTPS",
            "MESH_DISCOVERY_PORT",
            "MESH_DISCOVERY_PORT_7800_TCP_ADDR",
        ] {
            assert!(read(&[(key, "10.0.0.1")]).is_ok(), "{key}");
        }
        assert!(read(&[("MESH_DISCOVERI", "x")]).is_err());
    }

    #[test]
    fn every_variable_sets_its_field() {
        let token = JoinToken::new([1; 9], [2; 32], [3; 32]).reveal();
        let config = Config::from_vars([
            ("MESH_DISCOVERY", "https://a:1, https://b:2"),
            ("MESH_TOKEN", token.as_str()),
            ("MESH_SERVICE", "orders.shop:8080,web.shop"),
            ("MESH_WORKLOAD", "orders"),
            ("MESH_NAME", "orders-1"),
            ("MESH_LABELS", "app=orders,version=v1"),
            ("MESH_INBOUND", "strict"),
            ("MESH_ZONE", "a"),
            ("MESH_ADMIN", "off"),
            ("MESH_ADMIN_HOSTS", "metrics.local"),
            ("MESH_ACCESS_LOG", "off"),
            ("MESH_KUBECONFIG", "/ours/not"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.discovery.len(), 2);
        assert!(matches!(config.token, Some(TokenSource::Given(_))));
        assert_eq!(config.services[0].port, Some(8080));
        assert_eq!(config.workload.as_deref(), Some("orders"));
        assert_eq!(config.name.as_deref(), Some("orders-1"));
        assert_eq!(config.labels["version"], "v1");
        assert_eq!(config.inbound, Inbound::Strict);
        assert_eq!(config.zone.as_deref(), Some("a"));
        assert_eq!(config.admin, None);
        assert_eq!(config.admin_hosts, ["metrics.local"]);
    }

    #[test]
    fn what_is_absent_or_empty_keeps_its_default() {
        let config = read(&[("MESH_ZONE", ""), ("MESH_DISCOVERY", "")]).unwrap();
        assert_eq!(config.zone, None);
        assert_eq!(config.discovery, Config::default().discovery);
    }

    #[test]
    fn a_misspelt_variable_is_told_its_nearest_spelling() {
        for (wrong, expected) in [
            (
                "MESH_INBOUD",
                "unknown variable MESH_INBOUD: did you mean MESH_INBOUND?",
            ),
            (
                "MESH_LABEL",
                "unknown variable MESH_LABEL: did you mean MESH_LABELS?",
            ),
            (
                "MESH_STATEDIR",
                "unknown variable MESH_STATEDIR: did you mean MESH_STATE_DIR?",
            ),
        ] {
            let error = read(&[(wrong, "x")]).unwrap_err().to_string();
            assert_eq!(error, expected);
        }
        let error = read(&[("MESH_COLOUR_OF_THE_BIKESHED", "x")]).unwrap_err();
        let told =
            "unknown variable MESH_COLOUR_OF_THE_BIKESHED: unset it; the variables are MESH_ADMIN,";
        assert!(error.to_string().starts_with(told), "{error}");
        let error = read(&[("MESH_INBOUND", "strickt")])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "MESH_INBOUND cannot be \"strickt\": did you mean strict?"
        );
    }

    #[test]
    fn what_is_not_honoured_yet_is_an_error_that_says_so() {
        for name in LATER.into_iter().chain(["MESH_ACCESS_LOG"]) {
            let error = read(&[(name, "json")]).unwrap_err();
            assert_eq!(error.subject(), name);
            assert!(error.to_string().contains("this version"), "{error}");
        }
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        for (name, value) in [
            ("MESH_DISCOVERY", "http://a:1"),
            ("MESH_DISCOVERY", "ha ha"),
            ("MESH_SERVICE", "orders"),
            ("MESH_SERVICE", "orders.shop,"),
            ("MESH_LABELS", "app"),
            ("MESH_LABELS", "app=a,app=b"),
            ("MESH_INBOUND", "opaque"),
            ("MESH_ADMIN", "9990"),
            ("MESH_TOKEN", "mj1.secret"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            let both = name == "MESH_TOKEN" && error.subject() == "MESH_TOKEN_FILE";
            assert!(both || error.subject() == name, "{name}={value}: {error}");
        }
    }

    #[test]
    fn s01_a_damaged_token_is_not_repeated() {
        let error = Config::from_vars([("MESH_TOKEN", "mj1.hunter2")]).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let told = "MESH_TOKEN has a value that cannot be used: ";
        assert!(error.to_string().starts_with(told), "{error}");
    }
}
