//! Where a caller is sent instead (Gateway API, `HTTPRequestRedirectFilter`).

use http::{HeaderValue, StatusCode};

use super::InvalidFilter;
use crate::plan::outbound::{PathEditPlan, RedirectPlan};

/// Another address for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    scheme: Option<Scheme>,
    host: Option<Box<str>>,
    port: Option<u16>,
    path: Option<PathEdit>,
    status: StatusCode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathEdit {
    Full(Box<str>),
    /// Both without a slash at their ends.
    Prefix {
        from: Box<str>,
        to: Box<str>,
    },
}

/// What a request asked for, in its parts.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The scheme; empty for a request that names none, which is `http`.
    pub scheme: &'a str,
    /// Host and port as the caller wrote them.
    pub authority: &'a str,
    /// The path.
    pub path: &'a str,
    /// The query without its `?`; empty if there is none.
    pub query: &'a str,
}

impl Scheme {
    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Redirect {
    /// Compiles a redirect.
    ///
    /// # Errors
    ///
    /// [`InvalidFilter`] for another status than 301, 302, 303, 307 and 308, and for parts
    /// that no address has.
    pub fn new(plan: &RedirectPlan) -> Result<Self, InvalidFilter> {
        let scheme = match plan.scheme.as_deref() {
            None => None,
            Some("http") => Some(Scheme::Http),
            Some("https") => Some(Scheme::Https),
            Some(other) => return Err(InvalidFilter::new("scheme", other)),
        };
        if let Some(host) = &plan.host
            && !is_host(host)
        {
            return Err(InvalidFilter::new("host", host));
        }
        let path = match &plan.path {
            None => None,
            Some(PathEditPlan::Full(path)) => Some(PathEdit::Full(checked(path)?.into())),
            Some(PathEditPlan::Prefix { from, to }) => Some(PathEdit::Prefix {
                from: checked(from)?.trim_end_matches('/').into(),
                to: checked(to)?.trim_end_matches('/').into(),
            }),
        };
        let known = matches!(plan.status, 301..=303 | 307 | 308);
        let status = StatusCode::from_u16(plan.status).ok().filter(|_| known);
        Ok(Self {
            scheme,
            host: plan.host.as_deref().map(Into::into),
            port: plan.port,
            path,
            status: status
                .ok_or_else(|| InvalidFilter::new("redirect", &plan.status.to_string()))?,
        })
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer's `Location`; `None` for an authority that no header can carry.
    #[must_use]
    pub fn location(&self, asked: &Target<'_>) -> Option<HeaderValue> {
        let scheme = self.scheme.map_or(asked.scheme, |scheme| scheme.as_str());
        let scheme = if scheme.is_empty() { "http" } else { scheme };
        let (host, written) = split(asked.authority);
        let host = self.host.as_deref().unwrap_or(host);
        // A scheme brings its own port; without one the caller's stays.
        let port = match (self.port, self.scheme) {
            (Some(port), _) => Some(port),
            (None, Some(scheme)) => Some(scheme.port()),
            (None, None) => written,
        };
        let well_known = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let mut location = format!("{scheme}://{host}");
        if let Some(port) = port.filter(|port| Some(*port) != well_known) {
            location.push_str(&format!(":{port}"));
        }
        self.push_path(asked.path, &mut location);
        if !asked.query.is_empty() {
            location.push('?');
            location.push_str(asked.query);
        }
        HeaderValue::try_from(location).ok()
    }

    fn push_path(&self, path: &str, location: &mut String) {
        match &self.path {
            None => location.push_str(path),
            Some(PathEdit::Full(full)) => location.push_str(full),
            Some(PathEdit::Prefix { from, to }) => {
                // What does not start with it was not selected by it, and stays.
                let rest = path.strip_prefix(&**from);
                let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'));
                let Some(rest) = rest else {
                    return location.push_str(path);
                };
                location.push_str(to);
                location.push_str(rest);
                if to.is_empty() && rest.is_empty() {
                    location.push('/');
                }
            }
        }
    }
}

/// Host and port of an authority; the brackets of an IPv6 address stay.
fn split(authority: &str) -> (&str, Option<u16>) {
    let end = authority.rfind(']').unwrap_or(0);
    match authority[end..].rfind(':') {
        Some(colon) => {
            let (host, port) = authority.split_at(end + colon);
            (host, port[1..].parse().ok())
        }
        None => (authority, None),
    }
}

/// Gateway API's `PreciseHostname`.
#[must_use]
pub(crate) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ends = [bytes.first(), bytes.last()];
        label.len() <= 63
            && ends.into_iter().all(|end| end.is_some_and(plain))
            && bytes.iter().all(|b| plain(b) || *b == b'-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

fn checked(path: &str) -> Result<&str, InvalidFilter> {
    if is_path(path) {
        return Ok(path);
    }
    Err(InvalidFilter::new("path", path))
}

/// An absolute path without query and fragment; two slashes could be read as a host.
pub(crate) fn is_path(path: &str) -> bool {
    let plain = path.bytes().all(|b| (0x21..0x7f).contains(&b));
    let absolute = path.starts_with('/') && !path.contains("//");
    plain && absolute && !path.contains(['?', '#', '\\'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan() -> RedirectPlan {
        RedirectPlan {
            scheme: None,
            host: None,
            port: None,
            path: None,
            status: 302,
        }
    }

    /// Where a request for `http://a.shop:8080/x/y?q=1` is sent.
    fn sent(plan: &RedirectPlan) -> String {
        let target = Target {
            scheme: "http",
            authority: "a.shop:8080",
            path: "/x/y",
            query: "q=1",
        };
        let location = Redirect::new(plan).unwrap().location(&target).unwrap();
        location.to_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_absent_stays_and_a_scheme_brings_its_port() {
        assert_eq!(sent(&plan()), "http://a.shop:8080/x/y?q=1");
        let scheme = |scheme: &str, port| RedirectPlan {
            scheme: Some(scheme.into()),
            port,
            ..plan()
        };
        assert_eq!(sent(&scheme("https", None)), "https://a.shop/x/y?q=1");
        assert_eq!(sent(&scheme("http", None)), "http://a.shop/x/y?q=1");
        assert_eq!(
            sent(&scheme("https", Some(80))),
            "https://a.shop:80/x/y?q=1"
        );
        let host = RedirectPlan {
            host: Some("b.example".into()),
            ..plan()
        };
        assert_eq!(sent(&host), "http://b.example:8080/x/y?q=1");
        let port = RedirectPlan {
            port: Some(80),
            ..plan()
        };
        assert_eq!(
            sent(&port),
            "http://a.shop/x/y?q=1",
            "a well-known port is not written"
        );
    }

    #[test]
    fn a_path_is_replaced_whole_or_from_its_start() {
        let full = RedirectPlan {
            path: Some(PathEditPlan::Full("/z".into())),
            ..plan()
        };
        assert_eq!(sent(&full), "http://a.shop:8080/z?q=1");
        // Gateway API's own table.
        for (path, from, to, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo", "/", "/xyz", "/xyz/foo"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/foobar", "/foo", "/xyz", "/foobar"),
        ] {
            let plan = RedirectPlan {
                path: Some(PathEditPlan::Prefix {
                    from: from.into(),
                    to: to.into(),
                }),
                ..plan()
            };
            let asked = Target {
                scheme: "",
                authority: "a",
                path,
                query: "",
            };
            let location = Redirect::new(&plan).unwrap().location(&asked).unwrap();
            assert_eq!(
                location,
                format!("http://a{expected}"),
                "{path} {from} {to}"
            );
        }
    }

    #[test]
    fn addresses_of_six_words_keep_their_brackets() {
        assert_eq!(split("[::1]:80"), ("[::1]", Some(80)));
        assert_eq!(split("[::1]"), ("[::1]", None));
        assert_eq!(split("a:1"), ("a", Some(1)));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let refused = |plan: &RedirectPlan| assert!(Redirect::new(plan).is_err(), "{plan:?}");
        for status in [200, 300, 304, 309, 400] {
            refused(&RedirectPlan { status, ..plan() });
        }
        let scheme = Some("ftp".into());
        refused(&RedirectPlan { scheme, ..plan() });
        for host in ["", "a b", "a:1", "A", "-a", "a/b", "*.a"] {
            let host = Some(host.into());
            refused(&RedirectPlan { host, ..plan() });
        }
        for path in ["", "a", "//evil", "/a?b", "/a#b", "/a b", "/\\evil"] {
            let path = Some(PathEditPlan::Full(path.into()));
            refused(&RedirectPlan { path, ..plan() });
        }
    }

    proptest! {
        #[test]
        fn no_request_makes_it_panic(authority in ".{0,20}", path in "/[ -~]{0,20}") {
            let asked = Target { scheme: "http", authority: &authority, path: &path, query: "" };
            drop(Redirect::new(&plan()).unwrap().location(&asked));
        }
    }
}
