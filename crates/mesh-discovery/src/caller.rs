//! Who is calling, as the connection's certificate says, and who may ask for what.
//!
//! The server puts a [`Caller`] into the extensions of every request. A request
//! without one is [`Caller::Anonymous`]: what was not proved is not believed.

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::plan::enrol::Refusal;

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The connection carries no client certificate.
    Anonymous,
    /// A process of the mesh.
    Workload(Identity),
    /// Who administers discovery.
    Admin(Identity),
}

impl Caller {
    /// Classifies the identity that a connection proved. Only the admin of discovery's own
    /// `domain` is an admin here.
    #[must_use]
    pub fn new(identity: Option<Identity>, domain: &TrustDomain) -> Self {
        match identity {
            None => Self::Anonymous,
            Some(identity) if identity == Identity::admin(domain) => Self::Admin(identity),
            Some(identity) => Self::Workload(identity),
        }
    }

    /// The identity that administers discovery.
    ///
    /// # Errors
    ///
    /// [`NotPermitted`] for everybody else.
    pub fn require_admin(&self) -> Result<&Identity, NotPermitted> {
        match self {
            Self::Admin(identity) => Ok(identity),
            Self::Workload(identity) => Err(NotPermitted::NotAdmin(identity.clone())),
            Self::Anonymous => Err(NotPermitted::NoCertificate),
        }
    }

    /// The identity of a process.
    ///
    /// # Errors
    ///
    /// [`NotPermitted`] for everybody else, an admin too.
    pub fn require_workload(&self) -> Result<&Identity, NotPermitted> {
        match self {
            Self::Workload(identity) => Ok(identity),
            Self::Admin(identity) => Err(NotPermitted::NotWorkload(identity.clone())),
            Self::Anonymous => Err(NotPermitted::NoCertificate),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let caller = parts.extensions.get().cloned();
        Ok(caller.unwrap_or(Self::Anonymous))
    }
}

/// Why a caller was turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotPermitted {
    /// Nothing was proved.
    #[error(
        "no client certificate: use the credentials of admin.kubeconfig, or join with a token first"
    )]
    NoCertificate,
    /// A process asked for what is the admin's.
    #[error("{0} may not do this: use the credentials of admin.kubeconfig")]
    NotAdmin(Identity),
    /// An admin asked for what is a process's.
    #[error("{0} is no workload: join with a token to get an identity that may do this")]
    NotWorkload(Identity),
}

impl NotPermitted {
    /// 401 without a certificate, 403 with the wrong one.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoCertificate => StatusCode::UNAUTHORIZED,
            Self::NotAdmin(_) | Self::NotWorkload(_) => StatusCode::FORBIDDEN,
        }
    }

    /// The word for it in a [`Refusal`].
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoCertificate => "unauthorized",
            Self::NotAdmin(_) | Self::NotWorkload(_) => "forbidden",
        }
    }
}

/// The form of the paths under `/v1`.
impl IntoResponse for NotPermitted {
    fn into_response(self) -> Response {
        let refusal = Refusal {
            error: self.word().to_owned(),
            message: self.to_string(),
        };
        (self.status(), Json(refusal)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(identity: &str) -> Caller {
        let identity = identity.parse().unwrap();
        Caller::new(Some(identity), &"mesh.local".parse().unwrap())
    }

    #[test]
    fn only_the_admin_of_this_domain_is_admin() {
        let admin = caller("spiffe://mesh.local/ns/mesh-system/sa/admin");
        assert!(admin.require_admin().is_ok());
        for other in [
            "spiffe://other.local/ns/mesh-system/sa/admin",
            "spiffe://mesh.local/ns/mesh-system/sa/admin/x",
            "spiffe://mesh.local/ns/mesh-system/sa/discovery",
            "spiffe://mesh.local/ns/shop/sa/admin",
        ] {
            let error = caller(other).require_admin().unwrap_err();
            assert_eq!(error.status(), StatusCode::FORBIDDEN, "{other}");
        }
    }

    #[test]
    fn an_admin_is_no_workload_and_nobody_is_neither() {
        let admin = caller("spiffe://mesh.local/ns/mesh-system/sa/admin");
        let error = admin.require_workload().unwrap_err();
        assert_eq!(error.status(), StatusCode::FORBIDDEN);

        let error = Caller::Anonymous.require_workload().unwrap_err();
        assert_eq!(error.status(), StatusCode::UNAUTHORIZED);
        let error = Caller::Anonymous.require_admin().unwrap_err();
        assert_eq!(error.status(), StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn a_request_that_nobody_vouched_for_is_anonymous() {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        let Ok(caller) = Caller::from_request_parts(&mut parts, &()).await;
        assert_eq!(caller, Caller::Anonymous);
    }
}
