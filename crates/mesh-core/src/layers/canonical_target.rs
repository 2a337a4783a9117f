//! Gives every request the one spelling of its path before anything decides by it.
//!
//! Routes, authorization and the application must see the same path, or a second
//! spelling passes the one and reaches the other. What could be read in two ways is
//! answered 400, on the way out as on the way in.

use std::borrow::Cow;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use mesh_policy::path::{InvalidPath, canonical};
use tower_layer::Layer;
use tower_service::Service;

use super::gated::Gated;
use crate::answer::{Cause, Caused};
use crate::{Body, BoxError};

/// Rewrites paths into their one spelling, by [`canonical`]; queries stay as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct CanonicalPathLayer;

impl<S> Layer<S> for CanonicalPathLayer {
    type Service = CanonicalPath<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CanonicalPath { inner }
    }
}

/// The service [`CanonicalPathLayer`] makes.
#[derive(Clone, Debug)]
pub struct CanonicalPath<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for CanonicalPath<S>
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
        match rewrite(&mut request) {
            Ok(()) => Gated::passed(self.inner.call(request)),
            Err(refused) => Gated::refused(refused),
        }
    }
}

fn rewrite(request: &mut Request<Body>) -> Result<(), BadTarget> {
    if request.method() == Method::CONNECT {
        return Err(BadTarget::Connect);
    }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadTarget {
    /// Its path.
    #[error(transparent)]
    Path(#[from] InvalidPath),
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
        match CanonicalPathLayer.layer(inner).oneshot(request).await {
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
            let Ok(response) = CanonicalPathLayer.layer(app).oneshot(request).await else {
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
