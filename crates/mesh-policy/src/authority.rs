//! One spelling of an authority, for routes and for the application.
//!
//! A request says in up to three places which host it is for: in its target, in
//! `:authority`, in `Host`. Whoever routes by one of them and serves by another can
//! be talked past (CVE-2021-39155, CVE-2022-29228). So each is read by one rule, and
//! what two readers could read in two ways is refused.
//!
//! By RFC 3986: hosts know no case, an address in brackets is one of IPv6. Beyond it:
//! a last dot goes, since the name is the same without, and userinfo, escapes and
//! the characters of `sub-delims` are refused, since no host has them.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::address::{InvalidAuthority, parse_port};

/// As long as a name of the DNS may be.
const MAX_HOST: usize = 253;

/// The one spelling of `authority`; borrowed where it is that already.
///
/// # Errors
///
/// [`InvalidAuthority`] for all but `host` and `host:port`.
///
/// ```
/// use mesh_policy::authority::canonical;
///
/// assert_eq!(canonical("API.shop.:0080"), Ok("api.shop:80".into()));
/// assert!(canonical("api.shop@evil.example").is_err());
/// ```
pub fn canonical(authority: &str) -> Result<Cow<'_, str>, InvalidAuthority> {
    let refuse = || InvalidAuthority::of(authority);
    let (host, port) = split(authority).ok_or_else(refuse)?;
    let host = match host.strip_prefix('[') {
        Some(address) => {
            let address: Ipv6Addr = address.parse().map_err(|_| refuse())?;
            let spelled = format!("[{address}]");
            let same = authority.strip_prefix(&spelled);
            match same.is_some_and(|rest| rest.starts_with(':') || rest.is_empty()) {
                true => Cow::Borrowed(&authority[..spelled.len()]),
                false => Cow::Owned(spelled),
            }
        }
        None => name(host).ok_or_else(refuse)?,
    };
    let Some(port) = port else {
        // Nothing but a last dot can follow.
        return Ok(host);
    };
    let number = parse_port(port).ok_or_else(refuse)?;
    let is_spelled = host.len() + 1 + port.len() == authority.len() && !port.starts_with('0');
    Ok(match host {
        Cow::Borrowed(_) if is_spelled => Cow::Borrowed(authority),
        host => Cow::Owned(format!("{host}:{number}")),
    })
}

/// Host and port, the host of an address in brackets without the closing one.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    if !authority.starts_with('[') {
        return Some(match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        });
    }
    let (host, rest) = authority.split_once(']')?;
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port))),
        None => rest.is_empty().then_some((host, None)),
    }
}

/// A name or an IPv4 address in lower case and without a last dot.
fn name(host: &str) -> Option<Cow<'_, str>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut has_capitals = false;
    let mut last = b'.';
    for byte in host.bytes() {
        match byte {
            b'.' if last == b'.' => return None,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {}
            b'A'..=b'Z' => has_capitals = true,
            _ => return None,
        }
        last = byte;
    }
    // Also true of an empty name.
    if last == b'.' || host.len() > MAX_HOST {
        return None;
    }
    Some(match has_capitals {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn z08_one_spelling_is_left_of_many() {
        for (authority, expected) in [
            ("api.shop", "api.shop"),
            ("API.Shop", "api.shop"),
            ("api.shop.", "api.shop"),
            ("api.shop:8080", "api.shop:8080"),
            ("api.shop.:8080", "api.shop:8080"),
            ("api.shop:08080", "api.shop:8080"),
            ("a_b.shop:1", "a_b.shop:1"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]:80"),
            ("[0:0::1]:80", "[::1]:80"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
        ] {
            let spelled = canonical(authority).expect(authority);
            assert_eq!(spelled, expected, "{authority}");
            let borrowed = matches!(spelled, Cow::Borrowed(_));
            assert_eq!(borrowed, authority.starts_with(expected), "{authority}");
        }
    }

    #[test]
    fn z08_what_could_be_two_hosts_or_none_is_refused() {
        let long = "a".repeat(MAX_HOST + 1);
        for authority in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            "a, b",
            "a,b",
            "a/b",
            "a\tb",
            "a\\b",
            "u@a",
            "u:p@a",
            "a:b:1",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:-1",
            "a:x",
            ":80",
            "a%2eb",
            "a;b",
            "a?b",
            "a#b",
            "ä",
            "[::1",
            "::1",
            "[::1]x",
            "[::1%25eth0]",
            "[1.2.3.4]",
            "[]",
            "[a]",
            "http://a",
            long.as_str(),
        ] {
            assert!(canonical(authority).is_err(), "accepted {authority:?}");
        }
    }

    proptest! {
        #[test]
        fn z08_a_canonical_authority_is_its_own_canonical_authority(text in "[aA0.:\\-\\[\\]@]{0,12}") {
            if let Ok(once) = canonical(&text) {
                let twice = canonical(&once).expect("it is valid");
                prop_assert_eq!(&twice, &once);
                prop_assert!(matches!(twice, Cow::Borrowed(_)));
            }
        }
    }
}
