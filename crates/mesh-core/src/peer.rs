//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use mesh_policy::identity::Identity;
use mesh_tls::handshake::TlsFacts;

use crate::inbound::Ruling;

/// The other end of the connection a request came on: a request extension, and
/// with the feature `axum` an extractor.
///
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer {
    facts: Arc<Facts>,
    /// Carried here, so that a request needs one extension and not two.
    ruling: Option<Arc<Ruling>>,
}

#[derive(Debug)]
struct Facts {
    address: SocketAddr,
    tls: Option<TlsFacts>,
    client_id: Option<HeaderValue>,
}

impl Peer {
    /// A peer at `address`, with what its handshake proved; `None` for plaintext.
    #[must_use]
    pub fn new(address: SocketAddr, tls: Option<TlsFacts>) -> Self {
        // An identity's alphabet is a subset of a header value's.
        let client_id = tls
            .as_ref()
            .and_then(|tls| tls.peer.as_ref())
            .and_then(|identity| HeaderValue::from_str(identity.as_str()).ok());
        Self {
            facts: Arc::new(Facts {
                address,
                tls,
                client_id,
            }),
            ruling: None,
        }
    }

    /// Who the peer proved to be; `None` for plaintext.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.tls()?.peer.as_ref()
    }

    /// The peer's socket.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.facts.address
    }

    /// What the handshake agreed on; `None` for plaintext.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.facts.tls.as_ref()
    }

    /// A peer at `address` that proved nothing.
    #[must_use]
    pub fn plaintext(address: SocketAddr) -> Self {
        Self::new(address, None)
    }

    /// How logs and refusals call the peer: its identity, else its IP address.
    #[must_use]
    pub fn name(&self) -> String {
        match self.identity() {
            Some(identity) => identity.to_string(),
            None => self.address().ip().to_string(),
        }
    }

    /// What policy means for the peer, while one of its requests is served by a listener.
    pub(crate) fn ruling(&self) -> Option<&Arc<Ruling>> {
        self.ruling.as_ref()
    }

    pub(crate) fn set_ruling(&mut self, ruling: Arc<Ruling>) {
        self.ruling = Some(ruling);
    }

    /// The identity as the value of `x-mesh-client-id`.
    pub(crate) fn client_id(&self) -> Option<&HeaderValue> {
        self.facts.client_id.as_ref()
    }
}

#[cfg(test)]
impl Peer {
    /// A peer that proved `identity`.
    pub(crate) fn for_tests(identity: &str) -> Self {
        Self::until(identity, None)
    }

    /// The same with a certificate that ends.
    pub(crate) fn until(identity: &str, peer_not_after: Option<std::time::SystemTime>) -> Self {
        let facts = TlsFacts {
            version: "TLSv1.3",
            suite: "TLS_AES_128_GCM_SHA256",
            group: "X25519MLKEM768",
            alpn: mesh_tls::config::Alpn::Http2,
            peer: Some(identity.parse().expect("an identity")),
            peer_not_after,
        };
        Self::new(SocketAddr::from(([10, 0, 0, 1], 1)), Some(facts))
    }
}

#[cfg(feature = "axum")]
mod extract {
    use axum_core::extract::FromRequestParts;
    use http::StatusCode;
    use http::request::Parts;

    use super::Peer;

    /// Fails with 500 on a server that no mesh serves: there is no peer to speak of.
    impl<S: Send + Sync> FromRequestParts<S> for Peer {
        type Rejection = (StatusCode, &'static str);

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
            parts.extensions.get::<Self>().cloned().ok_or((
                StatusCode::INTERNAL_SERVER_ERROR,
                "no peer: serve this router with Mesh::serve",
            ))
        }
    }
}

#[cfg(all(test, feature = "axum"))]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;
    use crate::Body;

    #[tokio::test]
    async fn a_handler_takes_the_peer_as_an_argument() {
        const WEB: &str = "spiffe://mesh.local/ns/shop/sa/web";
        let handler = get(|peer: Peer| async move { peer.name() });
        let router: Router = Router::new().route("/", handler);
        let mut request = http::Request::new(axum::body::Body::empty());
        let outside = router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(outside.status(), 500);
        request = http::Request::default();
        request.extensions_mut().insert(Peer::for_tests(WEB));
        let response = router.oneshot(request).await.expect("an answer");
        let body = http_body_util::BodyExt::collect(Body::new(response.into_body()));
        assert_eq!(body.await.expect("a body").to_bytes(), WEB);
    }
}
