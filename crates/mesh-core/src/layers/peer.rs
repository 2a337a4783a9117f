//! Tells the application who is calling, and lets nobody else say it.
//!
//! Applications, and proxies behind them, trust these headers. A name that came over
//! the wire is a claim; only what the handshake proved is passed on (CVE-2023-27487,
//! CVE-2024-45806), and a `Connection` header cannot name it away (CVE-2024-45410).

use std::task::{Context, Poll};

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tower_layer::Layer;
use tower_service::Service;

use super::inbound_context::{ATTEMPT, CRITICALITY, TIMEOUT};
use crate::peer::Peer;

/// The peer's identity, for applications that read headers.
pub const CLIENT_ID: HeaderName = HeaderName::from_static("x-mesh-client-id");
/// The peer's identity, under the name that applications behind Linkerd read.
pub const LINKERD_CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");

const FORWARDED_CLIENT_CERT: &str = "x-forwarded-client-cert";
const PREFIXES: [&str; 2] = ["x-mesh-", "l5d-"];

/// Whether only a mesh may set this header. `name` is in lower case.
fn is_reserved(name: &str) -> bool {
    // Most names are told apart by their first letter.
    matches!(name.as_bytes().first(), Some(b'x' | b'l'))
        && (PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name == FORWARDED_CLIENT_CERT)
}

/// Whether this header says who a client is. `name` is in lower case.
fn names_client(name: &str) -> bool {
    is_reserved(name)
        && (name == CLIENT_ID || name == LINKERD_CLIENT_ID || name == FORWARDED_CLIENT_CERT)
}

/// Whether this header tells the application who calls: the wire's own are removed before.
pub(crate) fn is_announced(name: &HeaderName) -> bool {
    *name == CLIENT_ID || *name == LINKERD_CLIENT_ID
}

/// Removes every header that only a mesh may set, and takes their names out of `Connection`.
pub(crate) fn strip(headers: &mut HeaderMap) {
    remove_all(headers, is_reserved);
    // Most requests have a few headers: a look at each costs less than a look into the map.
    if headers.keys().any(|name| *name == CONNECTION) {
        strip_connection(headers);
    }
}

/// Removes the headers of such names.
fn remove_all(headers: &mut HeaderMap, such: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| such(name.as_str())) {
        let name = ours(name).unwrap_or_else(|| name.clone());
        headers.remove(name);
    }
}

/// A name that callers of the mesh send, without the allocation that a copy of `name` takes.
fn ours(name: &HeaderName) -> Option<HeaderName> {
    const OURS: [HeaderName; 3] = [TIMEOUT, ATTEMPT, CRITICALITY];
    OURS.into_iter().find(|ours| ours == name)
}

fn strip_connection(headers: &mut HeaderMap) {
    let reserved = |token: &[u8]| {
        let token = token.trim_ascii().to_ascii_lowercase();
        std::str::from_utf8(&token).is_ok_and(is_reserved)
    };
    let named = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').any(reserved);
    if !headers.get_all(CONNECTION).iter().any(named) {
        return;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        let tokens = value.as_bytes().split(|byte| *byte == b',');
        kept.extend(
            tokens
                .filter(|token| !reserved(token))
                .map(<[u8]>::trim_ascii),
        );
    }
    // Tokens of a valid value, joined, are a valid value.
    let kept = HeaderValue::from_bytes(&kept.join(&b", "[..])).ok();
    headers.remove(CONNECTION);
    if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
        headers.insert(CONNECTION, kept);
    }
}

/// Gives every request the same [`Peer`], and removes headers that say who a client is: made for
/// one connection. The step after it, [`super::inbound_context`], names the peer in headers again.
#[derive(Clone, Debug)]
pub struct PeerLayer {
    peer: Peer,
}

impl PeerLayer {
    /// For the requests of `peer`.
    #[must_use]
    pub const fn new(peer: Peer) -> Self {
        Self { peer }
    }
}

impl<S> Layer<S> for PeerLayer {
    type Service = SetPeer<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SetPeer {
            inner,
            peer: self.peer.clone(),
        }
    }
}

/// The service [`PeerLayer`] makes.
#[derive(Clone, Debug)]
pub struct SetPeer<S> {
    inner: S,
    peer: Peer,
}

impl<S, B> Service<Request<B>> for SetPeer<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> S::Future {
        remove_all(request.headers_mut(), names_client);
        request.extensions_mut().insert(self.peer.clone());
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt, service_fn};

    use super::*;

    fn forged() -> Request<()> {
        Request::builder()
            .header("x-mesh-client-id", "spiffe://mesh.local/ns/shop/sa/admin")
            .header("X-Mesh-Client-Id", "spiffe://mesh.local/ns/shop/sa/root")
            .header("l5d-client-id", "admin")
            .header("x-forwarded-client-cert", "URI=admin")
            .header("x-other", "kept")
            .body(())
            .expect("a request")
    }

    async fn seen(peer: Peer) -> Request<()> {
        let echo = service_fn(|request: Request<()>| async { Ok::<_, Infallible>(request) });
        let served = PeerLayer::new(peer).layer(echo).oneshot(forged()).await;
        served.expect("it echoes")
    }

    #[tokio::test]
    async fn z11_the_wire_names_nobody() {
        let address = "10.0.0.1:1".parse().expect("an address");
        let request = seen(Peer::plaintext(address)).await;
        let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-other"]);
        let peer = request.extensions().get::<Peer>().expect("a peer");
        assert_eq!((peer.identity(), peer.address()), (None, address));
    }

    #[test]
    fn z11_every_reserved_header_goes_and_others_stay() {
        let mut request = forged();
        let headers = request.headers_mut();
        headers.insert("x-mesh-anything", HeaderValue::from_static("1"));
        headers.insert("l5d-dst-override", HeaderValue::from_static("1"));
        strip(headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["x-other"]);
    }

    #[test]
    fn z11_a_connection_header_cannot_name_our_headers_away() {
        let mut headers = HeaderMap::new();
        headers.append(
            CONNECTION,
            HeaderValue::from_static("keep-alive, X-Mesh-Client-Id"),
        );
        headers.append(CONNECTION, HeaderValue::from_static("l5d-client-id,close"));
        strip(&mut headers);
        assert_eq!(headers[CONNECTION], "keep-alive, close");
        assert_eq!(headers.get_all(CONNECTION).iter().count(), 1);
        headers.insert(CONNECTION, HeaderValue::from_static("x-mesh-client-id"));
        strip(&mut headers);
        assert!(headers.is_empty());
    }
}
