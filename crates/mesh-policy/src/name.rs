//! What things are called: services, their ports, and the objects people wrote.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One DNS label (RFC 1123): lower-case letters, digits and inner `-`, at most 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Box<str>);

impl Label {
    /// The label as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::label(text))
        }
    }
}

impl TryFrom<String> for Label {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.into()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that clients call: `orders.shop` is service `orders` of namespace `shop`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName {
    /// The namespace it lives in.
    pub namespace: Label,
    /// Its name within the namespace.
    pub name: Label,
}

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, namespace) = text
            .split_once('.')
            .ok_or_else(|| InvalidName::service(text))?;
        Ok(Self {
            namespace: namespace.parse().map_err(|_| InvalidName::service(text))?,
            name: name.parse().map_err(|_| InvalidName::service(text))?,
        })
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(service: ServiceName) -> Self {
        service.to_string()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// A logical port of a service, written `orders.shop:8080`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServicePort {
    /// The service.
    pub service: ServiceName,
    /// The port that clients, routes and `Server`s name; sockets may be bound elsewhere.
    pub port: u16,
}

impl FromStr for ServicePort {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || InvalidName::port(text);
        let (service, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        match port.parse() {
            Ok(0) | Err(_) => Err(refuse()),
            Ok(port) => Ok(Self {
                service: service.parse()?,
                port,
            }),
        }
    }
}

impl TryFrom<String> for ServicePort {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServicePort> for String {
    fn from(port: ServicePort) -> Self {
        port.to_string()
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// What a client asks for or a process serves: a service, and a logical port if one was said.
///
/// Written `orders.shop` or `orders.shop:8080`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceAddress {
    /// The service.
    pub service: ServiceName,
    /// The port that was said; without one, 80 or the service's only port is meant.
    pub port: Option<u16>,
}

impl FromStr for ServiceAddress {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') {
            let ServicePort { service, port } = text.parse()?;
            let port = Some(port);
            return Ok(Self { service, port });
        }
        let service = text.parse()?;
        Ok(Self {
            service,
            port: None,
        })
    }
}

impl TryFrom<String> for ServiceAddress {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServiceAddress> for String {
    fn from(address: ServiceAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.service),
            None => self.service.fmt(f),
        }
    }
}

/// Which object decided something: what logs, verdicts and metric labels name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// API group; empty for core objects and built-in defaults.
    pub group: String,
    /// Kind, such as `HTTPRoute`; `default` for what nobody wrote.
    pub kind: String,
    /// Namespace; empty for built-in defaults.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// Names a built-in default, such as the policy `all-authenticated`.
    #[must_use]
    pub fn builtin(name: &str) -> Self {
        Self {
            group: String::new(),
            kind: "default".into(),
            namespace: String::new(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// A spelling that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: write {remedy}")]
pub struct InvalidName {
    text: String,
    what: &'static str,
    remedy: &'static str,
}

impl InvalidName {
    fn new(text: &str, what: &'static str, remedy: &'static str) -> Self {
        let text = text.chars().take(120).collect();
        Self { text, what, remedy }
    }

    fn label(text: &str) -> Self {
        Self::new(
            text,
            "name",
            "1 to 63 lower-case letters, digits or inner '-', such as web-1",
        )
    }

    fn service(text: &str) -> Self {
        Self::new(text, "service", "name.namespace, such as orders.shop")
    }

    fn port(text: &str) -> Self {
        Self::new(
            text,
            "service port",
            "name.namespace:port, such as orders.shop:8080",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_and_nothing_else() {
        let long = "a".repeat(64);
        for text in ["", "-a", "a-", "A", "a_b", "a.b", "ä", long.as_str()] {
            assert!(text.parse::<Label>().is_err(), "accepted {text:?}");
        }
        for text in ["a", "a-1", "1"] {
            assert_eq!(text.parse::<Label>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_service_is_a_name_and_a_namespace() {
        let service: ServiceName = "orders.shop".parse().unwrap();
        assert_eq!(service.to_string(), "orders.shop");
        for text in ["orders", "orders.shop.svc", ".shop", "orders."] {
            assert!(text.parse::<ServiceName>().is_err(), "accepted {text:?}");
        }
    }

    #[test]
    fn a_port_is_never_zero() {
        let port: ServicePort = "orders.shop:8080".parse().unwrap();
        assert_eq!(port.to_string(), "orders.shop:8080");
        for text in [
            "orders.shop",
            "orders.shop:0",
            "orders.shop:65536",
            "orders.shop:x",
        ] {
            assert!(text.parse::<ServicePort>().is_err(), "accepted {text:?}");
        }
    }
}
