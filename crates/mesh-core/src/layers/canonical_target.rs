//! Gives every request one path and one host, each in its one spelling, before anything decides by it.
//!
//! Routes, authorization and the application must see the same target, or a second
//! spelling passes the one and reaches the other. What could be read in two ways is
//! answered 400, on the way out as on the way in.

mod host;

use std::borrow::Cow;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use mesh_policy::address::InvalidAuthority;
use mesh_policy::path::{InvalidPath, canonical};
use tower_layer::Layer;
use tower_service::Service;

use super::gated::Gated;
use crate::answer::{Cause, Caused};
use crate::{Body, BoxError};

/// Rewrites paths and hosts into their one spelling, by [`canonical`] and
/// [`mesh_policy::authority::canonical`]; queries stay as they are.
#[derive(Clone, Copy, Debug)]
pub struct CanonicalTargetLayer {
    side: Side,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The wire, whose rules hold: RFC 9112 (3.2) and RFC 9113 (8.3.1).
    Inbound,
    /// The application, which gives it any form.
    Outbound,
}

impl CanonicalTargetLayer {
    /// For requests that came over the wire: each names exactly one host. One of HTTP/1.0 that
    /// names none means the first service of its listener.
    #[must_use]
    pub const fn inbound() -> Self {
        let side = Side::Inbound;
        Self { side }
    }

    /// For requests of the application: a `Host` beside the host of the URI does not count.
    #[must_use]
    pub const fn outbound() -> Self {
        let side = Side::Outbound;
        Self { side }
    }
}

impl<S> Layer<S> for CanonicalTargetLayer {
    type Service = CanonicalTarget<S>;

    fn layer(&self, inner: S) -> Self::Service {
        let side = self.side;
        CanonicalTarget { inner, side }
    }
}

/// The service [`CanonicalTargetLayer`] makes.
#[derive(Clone, Debug)]
pub struct CanonicalTarget<S> {
    inner: S,
    side: Side,
}

impl<S> Service<Request<Body>> for CanonicalTarget<S>
where
    S: Service<Request<Body>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Gated<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match rewrite(&mut request, self.side) {
            Ok(()) => Gated::passed(self.inner.call(request)),
            Err(refused) => Gated::refused(refused),
        }
    }
}

fn rewrite(request: &mut Request<Body>, side: Side) -> Result<(), BadTarget> {
    if request.method() == Method::CONNECT {
        return Err(BadTarget::Connect);
    }
    host::settle(request, side)?;
    let Cow::Owned(path) = canonical(request.uri().path())? else {
        return Ok(());
    };
    let whole = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let spelled = PathAndQuery::try_from(whole).map_err(|_| BadTarget::TooLong)?;
    parts.path_and_query = Some(spelled);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| BadTarget::TooLong)?;
    Ok(())
}

/// A request whose target could be read in two ways.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadTarget {
    /// Its path.
    #[error(transparent)]
    Path(#[from] InvalidPath),
    /// Its host.
    #[error(transparent)]
    Host(#[from] InvalidAuthority),
    /// It names none.
    #[error("the request names no host: send exactly one Host header")]
    NoHost,
    /// It names several.
    #[error("the request has several Host headers: send exactly one")]
    ManyHosts,
    /// It asks for a tunnel.
    #[error("CONNECT does not pass the mesh's HTTP: send the request itself")]
    Connect,
    /// With its escapes the path is longer than a URI may be.
    #[error("the path is longer than 65,534 bytes once it is escaped: shorten it")]
    TooLong,
}

impl Caused for BadTarget {
    fn cause(&self) -> Cause {
        Cause::InvalidRequest
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use tower::{ServiceExt, service_fn};

    use super::*;

    /// The URI that the inner service sees.
    async fn seen(method: Method, uri: &str) -> Result<String, BadTarget> {
        let inner = service_fn(|request: Request<Body>| async move {
            Ok::<_, BoxError>(Response::new(request.uri().to_string()))
        });
        let request = Request::builder().method(method).uri(uri);
        let request = request.body(Body::empty()).expect("a request");
        let layer = CanonicalTargetLayer::outbound();
        match layer.layer(inner).oneshot(request).await {
            Ok(response) => Ok(response.into_body()),
            Err(error) => Err(*error.downcast().expect("the layer's own")),
        }
    }

    #[tokio::test]
    async fn z04_everything_below_sees_the_one_spelling() {
        for (uri, expected) in [
            ("/%61//b?c=%61//d", "/a/b?c=%61//d"),
            ("http://api.shop/%61", "http://api.shop/a"),
            ("http://api.shop", "http://api.shop/"),
            ("http://api.shop?x", "http://api.shop/?x"),
        ] {
            assert_eq!(
                seen(Method::GET, uri).await.as_deref(),
                Ok(expected),
                "{uri}"
            );
        }
        let dots = seen(Method::GET, "http://api.shop/a/%2e%2e/b").await;
        assert_eq!(dots, Err(BadTarget::Path(InvalidPath::Dots)));
    }

    #[tokio::test]
    async fn z05_what_has_no_path_is_refused() {
        let star = seen(Method::OPTIONS, "*").await;
        assert_eq!(star, Err(BadTarget::Path(InvalidPath::Form)));
        let tunnel = seen(Method::CONNECT, "api.shop:80").await;
        assert_eq!(tunnel, Err(BadTarget::Connect));
        let long = format!("/{}", "{".repeat(30_000));
        assert_eq!(seen(Method::GET, &long).await, Err(BadTarget::TooLong));
    }

    /// The paths of the corpus that reach the handler of `/admin`, by axum's own router.
    #[tokio::test]
    async fn z04_no_path_reaches_a_handler_that_a_rule_on_its_path_does_not_see() {
        let mut reached = 0;
        for path in corpus() {
            let Ok(uri) = Uri::try_from(path.as_str()) else {
                continue;
            };
            let ruled = canonical(uri.path()).is_ok_and(|path| path == "/admin");
            let handler = axum::routing::get(|| async { "admin" });
            let app = axum::Router::new().route("/admin", handler);
            let app = app.fallback(|| async { "other" });
            let app = app.map_request(|request: Request<Body>| request);
            let app = app.map_err(|never: Infallible| -> BoxError { match never {} });
            let request = Request::builder().uri(uri).body(Body::empty());
            let request = request.expect("a request");
            let layer = CanonicalTargetLayer::outbound();
            let Ok(response) = layer.layer(app).oneshot(request).await else {
                assert!(!ruled, "{path}");
                continue;
            };
            let body = axum::body::to_bytes(response.into_body(), 1024).await;
            let admin = body.expect("a body") == "admin";
            assert_eq!(admin, ruled, "{path}");
            reached += usize::from(admin);
        }
        assert!(reached > 5, "several spellings lead there: {reached}");
    }

    /// Spellings of `/admin`, and of what some servers take for it.
    fn corpus() -> Vec<String> {
        let letters = [
            "admin",
            "%61dmin",
            "adm%69n",
            "%61%64%6d%69%6E",
            "ADMIN",
            "%2561dmin",
        ];
        let before = [
            "/",
            "//",
            "/./",
            "/%2e/",
            "/x/../",
            "/x/%2e%2e/",
            "/x/..;/",
            "/%2f",
            "/\\",
            "/%5c",
        ];
        let after = [
            "",
            "/",
            "//",
            "/.",
            "/..",
            ";x",
            "%00",
            "%20",
            "?x",
            "%3fx",
            "#x",
            "%23x",
            "/%2e%2e/admin",
        ];
        let all = letters.iter().flat_map(|letters| {
            let ends = before
                .iter()
                .flat_map(|before| after.iter().map(move |after| (before, after)));
            ends.map(move |(before, after)| format!("{before}{letters}{after}"))
        });
        all.collect()
    }
}
