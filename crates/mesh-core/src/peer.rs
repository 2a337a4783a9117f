//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use mesh_policy::identity::Identity;

/// The other end of the connection a request came on: a request extension, and
/// with the feature `axum` an extractor.
///
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    address: SocketAddr,
    identity: Option<Identity>,
    client_id: Option<HeaderValue>,
}

impl Peer {
    /// A peer at `address`, with what its handshake proved; `None` for plaintext.
    #[must_use]
    pub fn new(address: SocketAddr, identity: Option<Identity>) -> Self {
        // An identity's alphabet is a subset of a header value's.
        let client_id = identity
            .as_ref()
            .and_then(|identity| HeaderValue::from_str(identity.as_str()).ok());
        Self(Arc::new(Facts {
            address,
            identity,
            client_id,
        }))
    }

    /// Who the peer proved to be; `None` for plaintext.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.0.identity.as_ref()
    }

    /// The peer's socket.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The identity as the value of `x-mesh-client-id`.
    pub(crate) fn client_id(&self) -> Option<&HeaderValue> {
        self.0.client_id.as_ref()
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
