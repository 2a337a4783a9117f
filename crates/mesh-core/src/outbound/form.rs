//! The form in which a request leaves: as its connection wants it, and with our headers.
//!
//! Hyper's HTTP/2 client wants scheme and authority in the URI, its HTTP/1.1
//! client a `Host` header and the bare path. What an application writes may have
//! either form.

use std::time::Duration;

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};
use mesh_policy::duration;
use mesh_tls::config::Alpn;

use crate::answer::{Cause, Caused};
use crate::layers::inbound_context::{GRPC_TIMEOUT, TIMEOUT};
use crate::plans::Endpoint;
use crate::{Body, BoxError, header_list};

/// Gives a request its final form; its server learns for how long we wait.
///
/// # Errors
///
/// [`Shapeless`], and [`header_list::TooLarge`] for a head that its server would not take.
pub(crate) fn shape(
    request: &mut Request<Body>,
    wait: Option<Duration>,
    endpoint: &Endpoint,
) -> Result<(), BoxError> {
    let secured = endpoint.facts().identity.is_some();
    if let Some(wait) = wait {
        limit(request.headers_mut(), wait);
    }
    match endpoint.pool().version() {
        Alpn::Http1 => origin_form(request)?,
        Alpn::Http2 => absolute_form(request, if secured { Scheme::HTTPS } else { Scheme::HTTP })?,
    }
    Ok(header_list::check_sent(request)?)
}

/// HTTP/2: everything in the URI.
fn absolute_form(request: &mut Request<Body>, scheme: Scheme) -> Result<(), Shapeless> {
    let host = request.headers_mut().remove(HOST);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if parts.authority.is_none() {
        let host = host.ok_or(Shapeless)?;
        let host = Authority::from_maybe_shared(bytes::Bytes::copy_from_slice(host.as_bytes()));
        parts.authority = Some(host.map_err(|_| Shapeless)?);
    }
    parts.scheme = Some(scheme);
    parts
        .path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Shapeless)?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}

/// HTTP/1.1: the path in the URI, the authority in `Host`.
fn origin_form(request: &mut Request<Body>) -> Result<(), Shapeless> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = None;
    if let Some(authority) = parts.authority.take() {
        // The authority is what was routed by; a `Host` beside it does not count (RFC 9112, 3.2.2).
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_| Shapeless)?;
        request.headers_mut().insert(HOST, host);
    }
    parts
        .path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Shapeless)?;
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// Tells the server how long we wait; all else it inherits was set by the context step.
fn limit(headers: &mut HeaderMap, wait: Duration) {
    let grpc = headers.contains_key(GRPC_TIMEOUT);
    insert(headers, TIMEOUT, &duration::format(wait));
    if grpc {
        insert(headers, GRPC_TIMEOUT, &duration::grpc::format(wait));
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // A duration's letters and digits always make a header value.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A request that cannot be sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's URI cannot be sent: give it an absolute one, such as http://orders.shop/")]
pub struct Shapeless;

impl Caused for Shapeless {
    fn cause(&self) -> Cause {
        Cause::InvalidRequest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, host: Option<&str>) -> Request<Body> {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn http2_has_everything_in_the_uri() {
        for (uri, host) in [
            ("http://orders.shop/a?b=1", None),
            ("http://orders.shop/a?b=1", Some("other.shop")),
            ("/a?b=1", Some("orders.shop")),
        ] {
            let mut request = request(uri, host);
            absolute_form(&mut request, Scheme::HTTPS).unwrap();
            assert_eq!(request.uri(), "https://orders.shop/a?b=1");
            assert!(!request.headers().contains_key(HOST));
        }
        let mut bare = request("http://orders.shop", None);
        absolute_form(&mut bare, Scheme::HTTP).unwrap();
        assert_eq!(bare.uri(), "http://orders.shop/");
    }

    #[test]
    fn http1_has_the_authority_in_the_host_header() {
        for (uri, host) in [
            ("http://orders.shop:80/a?b=1", None),
            ("http://orders.shop:80/a?b=1", Some("other.shop")),
            ("/a?b=1", Some("orders.shop:80")),
        ] {
            let mut request = request(uri, host);
            origin_form(&mut request).unwrap();
            assert_eq!(request.uri(), "/a?b=1");
            assert_eq!(request.headers()[HOST], "orders.shop:80");
        }
    }
}
