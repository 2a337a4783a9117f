//! The service that is called.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use http::{Request, Response};
use mesh_core::{Body, BoxError, Peer, Unprocessed};
use tower::{Service, ServiceExt};

use crate::report::Tls;

/// The share of streams that are refused untouched, so that retries show.
const REFUSED: f64 = 0.01;

/// What the handlers of the api have seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests of the intruder that reached a handler; policy should leave this at 0.
    pub intrusions: AtomicU64,
    /// What a connection of `web` had agreed on.
    pub tls: OnceLock<Tls>,
}

/// One instance of the api.
#[derive(Clone)]
pub struct Api {
    /// Where all instances note what they see.
    pub seen: Arc<Seen>,
    /// The share of requests that it answers with 500.
    pub errors: f64,
}

/// An api that refuses a share of its streams untouched, as a server does that is full.
pub fn app(
    api: Api,
) -> impl Service<
    Request<Body>,
    Response = Response<axum::body::Body>,
    Error = BoxError,
    Future = impl Future<Output = Result<Response<axum::body::Body>, BoxError>> + Send,
> + Clone
+ Send {
    let router = Router::new().fallback(answer).with_state(api);
    tower::service_fn(move |request: Request<Body>| {
        let router = router.clone();
        async move {
            if fastrand::f64() < REFUSED {
                return Err(Unprocessed.into());
            }
            let Ok(answer) = router.oneshot(request).await;
            Ok(answer)
        }
    })
}

/// The api's one handler.
async fn answer(State(api): State<Api>, peer: Peer) -> (StatusCode, &'static str) {
    let caller = peer.identity().and_then(|identity| identity.workload());
    if caller == Some(("shop", "intruder")) {
        api.seen.intrusions.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(tls) = peer.tls() {
        api.seen.tls.get_or_init(|| Tls {
            version: tls.version.to_string(),
            suite: tls.suite.to_string(),
            group: tls.group.to_string(),
        });
    }
    if fastrand::f64() < api.errors {
        (StatusCode::INTERNAL_SERVER_ERROR, "the canary coughs\n")
    } else {
        (StatusCode::OK, "hello from the api\n")
    }
}
