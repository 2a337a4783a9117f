//! Which host a request is for: one, whatever its form says in how many places.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Request, Uri, Version};
use mesh_policy::address::InvalidAuthority;
use mesh_policy::authority::canonical;

use super::{BadTarget, Side};
use crate::{Body, Peer};

/// Leaves one host in `request`, in its one spelling: that of the target where there is one, else
/// that of the header `Host`.
pub(super) fn settle(request: &mut Request<Body>, side: Side) -> Result<(), BadTarget> {
    let Change { target, header } = Change::of(request, side)?;
    match header {
        Header::Keep => {}
        Header::Remove => drop(request.headers_mut().remove(HOST)),
        Header::Set(host) => drop(request.headers_mut().insert(HOST, host)),
    }
    if let Some(target) = target {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.authority = Some(target);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| BadTarget::TooLong)?;
    }
    Ok(())
}

/// What has to be changed so that a request names one host in one spelling.
struct Change {
    target: Option<Authority>,
    header: Header,
}

enum Header {
    Keep,
    Remove,
    Set(HeaderValue),
}

impl Change {
    fn of(request: &Request<Body>, side: Side) -> Result<Self, BadTarget> {
        let mut values = request.headers().get_all(HOST).iter();
        let header = values.next();
        if values.next().is_some() {
            return Err(BadTarget::ManyHosts);
        }
        // Also one that does not count has to be a host (RFC 9112, 3.2).
        let beside = header.map(read).transpose()?;
        let Some(written) = request.uri().authority().map(Authority::as_str) else {
            return Ok(Self {
                target: None,
                header: match beside {
                    Some(host) => Header::keep(header, &host)?,
                    None => Header::without(request, side)?,
                },
            });
        };
        let host = canonical(written)?;
        let target = match host == written {
            true => None,
            false => Some(authority(&host)?),
        };
        let header = match (side, header) {
            (Side::Inbound, None) if request.version() == Version::HTTP_11 => {
                return Err(BadTarget::NoHost);
            }
            (_, None) => Header::Keep,
            (Side::Inbound, header) => Header::keep(header, &host)?,
            (Side::Outbound, Some(_)) => Header::Remove,
        };
        Ok(Self { target, header })
    }
}

impl Header {
    /// The header that says `host`.
    fn keep(written: Option<&HeaderValue>, host: &str) -> Result<Self, BadTarget> {
        if written.is_some_and(|written| written == host) {
            return Ok(Self::Keep);
        }
        let host = HeaderValue::from_str(host).map_err(|_| InvalidAuthority::of(host))?;
        Ok(Self::Set(host))
    }

    /// The header of a request that names no host.
    fn without(request: &Request<Body>, side: Side) -> Result<Self, BadTarget> {
        if side == Side::Outbound {
            // The step that routes it knows what to say.
            return Ok(Self::Keep);
        }
        if request.version() != Version::HTTP_10 {
            return Err(BadTarget::NoHost);
        }
        let peer = request.extensions().get::<Peer>();
        let ruling = peer.and_then(Peer::ruling);
        let meant = ruling.and_then(|ruling| ruling.authority());
        Ok(meant.map_or(Self::Keep, |host| Self::Set(host.clone())))
    }
}

fn read(header: &HeaderValue) -> Result<std::borrow::Cow<'_, str>, InvalidAuthority> {
    let text = str::from_utf8(header.as_bytes());
    canonical(text.map_err(|_| InvalidAuthority::of(&String::from_utf8_lossy(header.as_bytes())))?)
}

fn authority(host: &str) -> Result<Authority, InvalidAuthority> {
    Authority::try_from(host).map_err(|_| InvalidAuthority::of(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hosts that URI and header name afterwards.
    fn settled(
        side: Side,
        version: Version,
        uri: &str,
        hosts: &[&str],
    ) -> Result<(Option<String>, Option<String>), BadTarget> {
        let mut request = Request::new(Body::empty());
        *request.version_mut() = version;
        *request.uri_mut() = uri.parse().unwrap();
        for host in hosts {
            let host = HeaderValue::from_bytes(host.as_bytes()).unwrap();
            request.headers_mut().append(HOST, host);
        }
        settle(&mut request, side)?;
        let header = request.headers().get(HOST);
        Ok((
            request.uri().authority().map(ToString::to_string),
            header.map(|host| host.to_str().unwrap().to_owned()),
        ))
    }

    #[test]
    fn z08_one_host_is_left_whatever_the_form() {
        let one = |host: &str| Some(host.to_owned());
        for (version, uri, hosts, expected) in [
            (
                Version::HTTP_11,
                "/",
                &["API.shop.:80"] as &[_],
                (None, one("api.shop:80")),
            ),
            (
                Version::HTTP_11,
                "http://B.shop/",
                &["evil.shop"],
                (one("b.shop"), one("b.shop")),
            ),
            (
                Version::HTTP_11,
                "http://b.shop/",
                &["b.shop"],
                (one("b.shop"), one("b.shop")),
            ),
            (
                Version::HTTP_2,
                "http://b.shop/",
                &["evil.shop"],
                (one("b.shop"), one("b.shop")),
            ),
            (
                Version::HTTP_2,
                "http://b.shop:80/",
                &[],
                (one("b.shop:80"), None),
            ),
            (Version::HTTP_2, "/", &["b.shop"], (None, one("b.shop"))),
            (Version::HTTP_10, "/", &["b.shop"], (None, one("b.shop"))),
            (Version::HTTP_10, "/", &[], (None, None)),
        ] {
            let left = settled(Side::Inbound, version, uri, hosts);
            assert_eq!(left, Ok(expected), "{version:?} {uri} {hosts:?}");
        }
        let outbound = |uri, hosts| settled(Side::Outbound, Version::HTTP_11, uri, hosts);
        let (b, none) = (one("b.shop"), None);
        assert_eq!(
            outbound("http://B.shop/", &["evil.shop"]),
            Ok((b.clone(), none))
        );
        assert_eq!(outbound("/", &["B.shop"]), Ok((None, b)));
        assert_eq!(outbound("/", &[]), Ok((None, None)));
    }

    #[test]
    fn z08_no_host_two_hosts_and_what_is_none_are_refused() {
        let http11 = |uri, hosts| settled(Side::Inbound, Version::HTTP_11, uri, hosts);
        assert_eq!(http11("/", &[]), Err(BadTarget::NoHost));
        assert_eq!(http11("http://b.shop/", &[]), Err(BadTarget::NoHost));
        assert_eq!(
            http11("/", &["a.shop", "a.shop"]),
            Err(BadTarget::ManyHosts)
        );
        let http2 = |uri, hosts| settled(Side::Inbound, Version::HTTP_2, uri, hosts);
        assert_eq!(http2("/", &[]), Err(BadTarget::NoHost));
        for side in [Side::Inbound, Side::Outbound] {
            for host in [
                "",
                "a b",
                "a, b",
                "a.shop@evil",
                "a/b",
                "a\tb",
                "\u{e4}",
                "a.shop:",
            ] {
                let refused = settled(side, Version::HTTP_11, "/", &[host]);
                assert!(matches!(refused, Err(BadTarget::Host(_))), "{host:?}");
                let refused = settled(side, Version::HTTP_11, "http://b.shop/", &[host]);
                assert!(matches!(refused, Err(BadTarget::Host(_))), "{host:?}");
            }
            let refused = settled(side, Version::HTTP_2, "http://u@b.shop/", &[]);
            assert!(matches!(refused, Err(BadTarget::Host(_))), "{refused:?}");
            let refused = settled(
                side,
                Version::HTTP_2,
                "http://b.shop/",
                &["b.shop", "b.shop"],
            );
            assert_eq!(refused, Err(BadTarget::ManyHosts));
        }
    }
}
