//! What an authority names: a service of the mesh, or something outside.
//!
//! `name`, `name.namespace` and `name.namespace.svc.cluster.local` are services;
//! every other name and every address is external. Hosts know no case and may end
//! in a dot (RFC 9110, RFC 3986), so those are folded; nothing else is.

use std::net::IpAddr;

use crate::name::{Label, ServiceAddress, ServiceName};

const CLUSTER_SUFFIX: &str = ".svc.cluster.local";
/// The logical port that a URL without one means, where the service has it.
const DEFAULT_PORT: u16 = 80;

/// Where a request wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A service of the mesh, known or not.
    Service(ServiceAddress),
    /// A name or address outside the mesh, as it was written.
    External(String),
}

/// Reads the authority of a request.
///
/// # Errors
///
/// [`InvalidAuthority`] when it is empty or its port is no port.
pub fn resolve(authority: &str, own_namespace: &Label) -> Result<Destination, InvalidAuthority> {
    let refuse = || InvalidAuthority::of(authority);
    let (host, port) = match authority.rsplit_once(':') {
        // Colons inside brackets belong to an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => {
            (host, Some(parse_port(port).ok_or_else(refuse)?))
        }
        _ => (authority, None),
    };
    if host.is_empty() || host.contains('@') {
        return Err(refuse());
    }
    let external = || Ok(Destination::External(authority.to_owned()));
    if host.parse::<IpAddr>().is_ok() {
        return external();
    }
    let folded = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let short = folded.strip_suffix(CLUSTER_SUFFIX).unwrap_or(&folded);
    let service = match short.split_once('.') {
        None if short.len() == folded.len() => short.parse().map(|name| ServiceName {
            name,
            namespace: own_namespace.clone(),
        }),
        _ => short.parse(),
    };
    match service {
        Ok(service) => Ok(Destination::Service(ServiceAddress { service, port })),
        Err(_) => external(),
    }
}

/// Digits alone: Rust's own parser would take `+80`.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// The logical port that a request means: the one it names, else 80, else the only one.
///
/// # Errors
///
/// [`UnknownPort`] when the service lacks it, or there are several and none is 80.
pub fn select_port(ports: &[u16], wanted: Option<u16>) -> Result<u16, UnknownPort> {
    let found = match (wanted, ports) {
        (Some(wanted), _) => ports.contains(&wanted).then_some(wanted),
        (None, _) if ports.contains(&DEFAULT_PORT) => Some(DEFAULT_PORT),
        (None, [only]) => Some(*only),
        (None, _) => None,
    };
    found.ok_or_else(|| UnknownPort {
        wanted,
        ports: ports.to_vec(),
    })
}

/// An authority that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{authority:?} names no host: write name.namespace, or name.namespace:port")]
pub struct InvalidAuthority {
    authority: String,
}

impl InvalidAuthority {
    /// Keeps the beginning of `authority`, which may be long.
    #[must_use]
    pub fn of(authority: &str) -> Self {
        Self {
            authority: authority.chars().take(120).collect(),
        }
    }
}

/// A service lacks the port that was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct UnknownPort {
    wanted: Option<u16>,
    ports: Vec<u16>,
}

impl UnknownPort {
    fn text(&self) -> String {
        let ports: Vec<_> = self.ports.iter().map(ToString::to_string).collect();
        let ports = match ports.is_empty() {
            true => "it has none".to_owned(),
            false => format!("name one of {}", ports.join(", ")),
        };
        match self.wanted {
            Some(wanted) => format!("the service has no port {wanted}: {ports}"),
            None => format!("the service has several ports and none is 80: {ports}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn four_spellings_mean_one_service_and_all_others_are_external() {
        let own: Label = "shop".parse().unwrap();
        let services = [
            ("api", "api.shop"),
            ("api.shop", "api.shop"),
            ("API.Shop.", "api.shop"),
            ("api.shop:8080", "api.shop:8080"),
            ("api.shop.svc.cluster.local:8080", "api.shop:8080"),
            ("api.bank.svc.cluster.local.", "api.bank"),
        ];
        for (authority, expected) in services {
            let found = resolve(authority, &own).unwrap();
            assert_eq!(
                found,
                Destination::Service(expected.parse().unwrap()),
                "{authority}"
            );
        }
        for authority in [
            "example.com.org",
            "10.0.0.1",
            "10.0.0.1:80",
            "[::1]:80",
            "[::1]",
            "api.svc.cluster.local",
            "a_b.shop",
            "xn--.shop.svc.local",
        ] {
            let found = resolve(authority, &own).unwrap();
            assert_eq!(found, Destination::External(authority.into()));
        }
        for authority in [
            "",
            ":80",
            "api.shop:0",
            "api.shop:x",
            "api.shop:65536",
            "api.shop:+80",
            "api.shop:-1",
            "u@api.shop",
            "api.shop:",
        ] {
            assert!(resolve(authority, &own).is_err(), "accepted {authority:?}");
        }
    }

    proptest! {
        #[test]
        fn case_and_a_last_dot_never_change_what_is_named(
            name in "[a-z][a-z0-9]{0,5}(\\.[a-z][a-z0-9]{0,5}){0,3}(\\.svc\\.cluster\\.local)?",
            port in proptest::option::of(1u16..),
        ) {
            let own: Label = "shop".parse().unwrap();
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let plain = resolve(&format!("{name}{port}"), &own);
            let other = resolve(&format!("{}.{port}", name.to_uppercase()), &own);
            match plain {
                Ok(Destination::Service(_)) => prop_assert_eq!(other, plain),
                _ => prop_assert!(matches!(other, Ok(Destination::External(_)))),
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,24}") {
            drop(resolve(&text, &"shop".parse().unwrap()));
        }
    }

    #[test]
    fn a_port_is_the_named_one_or_80_or_the_only_one() {
        assert_eq!(select_port(&[80, 8080], None), Ok(80));
        assert_eq!(select_port(&[8080], None), Ok(8080));
        assert_eq!(select_port(&[80, 8080], Some(8080)), Ok(8080));
        assert!(select_port(&[8080, 9090], None).is_err());
        assert!(select_port(&[], None).is_err());
        let error = select_port(&[8080, 9090], Some(1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the service has no port 1: name one of 8080, 9090"
        );
    }
}
