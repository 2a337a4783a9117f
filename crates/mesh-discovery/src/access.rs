//! Who may use which path: one table, closed by default.
//!
//! Each handler checks its caller as well. This comes first, so that a path which
//! somebody forgets to list here is nobody's, and so that what exists is told only
//! to those who have proved who they are.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Uri;

use crate::api;
use crate::caller::{Caller, NotPermitted};
use crate::refused::Refused;

/// Who may use a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    Anyone,
    Workloads,
    Admins,
}

/// The callers of each path, which stands for what lies below it too.
const PATHS: [(&str, Audience); 11] = [
    ("/v1/identity", Audience::Anyone),
    ("/v1/watch", Audience::Workloads),
    ("/v1/endpoints", Audience::Workloads),
    ("/v1/reports", Audience::Workloads),
    ("/v1/apply", Audience::Admins),
    ("/v1/tokens", Audience::Admins),
    ("/v1/stat", Audience::Admins),
    ("/v1/unreadable", Audience::Admins),
    ("/v1/prometheus-targets", Audience::Admins),
    ("/api", Audience::Admins),
    ("/apis", Audience::Admins),
];

/// The paths under `/v1` that read a query. Elsewhere one is refused: what it asks for would not
/// be done, and the request would be.
const WITH_QUERY: [&str; 4] = [
    "/v1/apply",
    "/v1/prometheus-targets",
    "/v1/stat",
    "/v1/unreadable",
];

fn audience(path: &str) -> Option<Audience> {
    let covers = |listed: &str| {
        path.strip_prefix(listed)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let found = PATHS.iter().find(|(listed, _)| covers(listed));
    found.map(|(_, audience)| *audience)
}

/// Why a request does not reach a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Closed {
    NotPermitted(NotPermitted),
    Nothing,
    Query,
}

/// Decides for one path and one caller.
fn admit(path: &str, caller: &Caller) -> Result<(), Closed> {
    let permitted = match audience(path) {
        Some(Audience::Anyone) => return Ok(()),
        Some(Audience::Workloads) => caller.require_workload(),
        Some(Audience::Admins) => caller.require_admin(),
        None if *caller == Caller::Anonymous => Err(NotPermitted::NoCertificate),
        None => return Err(Closed::Nothing),
    };
    permitted.map(|_| ()).map_err(Closed::NotPermitted)
}

/// The answer, in the form that clients of the path read.
fn answer(path: &str, closed: Closed) -> Response {
    match closed {
        Closed::NotPermitted(error) if path.starts_with("/api") => api::denied(error),
        Closed::NotPermitted(error) => Refused::from(error).into_response(),
        Closed::Nothing => Refused::not_found(path).into_response(),
        Closed::Query => {
            Refused::bad_request("this path takes no query: leave it out").into_response()
        }
    }
}

/// Lets a request through to its handler, or answers 401, 403 or 404.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    let caller = request.extensions().get().unwrap_or(&Caller::Anonymous);
    let path = request.uri().path();
    match admit(path, caller).and_then(|()| check_query(request.uri())) {
        Ok(()) => next.run(request).await,
        Err(closed) => answer(path, closed),
    }
}

fn check_query(uri: &Uri) -> Result<(), Closed> {
    let asks = uri.query().is_some_and(|query| !query.is_empty());
    let reads = !uri.path().starts_with("/v1/") || WITH_QUERY.contains(&uri.path());
    if asks && !reads {
        return Err(Closed::Query);
    }
    Ok(())
}

/// The answer to a listed prefix under which nothing lies.
pub(crate) async fn nothing(request: Request) -> Refused {
    Refused::not_found(request.uri().path())
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn j06_every_path_has_its_callers_and_all_others_have_none() {
        let domain = "mesh.local".parse().unwrap();
        let caller = |account: &str| {
            let identity = format!("spiffe://mesh.local/ns/{account}").parse().unwrap();
            Caller::new(Some(identity), &domain)
        };
        let callers = [
            Caller::Anonymous,
            caller("shop/sa/web"),
            caller("mesh-system/sa/admin"),
        ];
        let (ok, none, wrong, absent) = (200, 401, 403, 404);
        let table = [
            ("/v1/identity", [ok, ok, ok]),
            ("/v1/watch", [none, ok, wrong]),
            ("/v1/watch/x", [none, ok, wrong]),
            ("/v1/endpoints/x", [none, ok, wrong]),
            ("/v1/reports", [none, ok, wrong]),
            ("/v1/apply", [none, wrong, ok]),
            ("/v1/tokens", [none, wrong, ok]),
            ("/v1/tokens/x", [none, wrong, ok]),
            ("/v1/stat", [none, wrong, ok]),
            ("/v1/unreadable", [none, wrong, ok]),
            ("/v1/prometheus-targets", [none, wrong, ok]),
            ("/api", [none, wrong, ok]),
            ("/api/v1/services", [none, wrong, ok]),
            ("/apis", [none, wrong, ok]),
            ("/apis/x", [none, wrong, ok]),
            ("/", [none, absent, absent]),
            ("/v1", [none, absent, absent]),
            ("/v1/tokensx", [none, absent, absent]),
            ("//v1/identity", [none, absent, absent]),
            ("/v1/Identity", [none, absent, absent]),
            ("/v1/%69dentity", [none, absent, absent]),
            ("/metrics", [none, absent, absent]),
        ];
        for (path, expected) in table {
            for (caller, expected) in callers.iter().zip(expected) {
                let status = match admit(path, caller) {
                    Ok(()) => StatusCode::OK,
                    Err(closed) => answer(path, closed).status(),
                };
                assert_eq!(status, expected, "{path} for {caller:?}");
            }
        }
    }

    #[test]
    fn a_query_that_nobody_reads_is_refused() {
        for (uri, fits) in [
            ("/v1/tokens?dryRun=All", false),
            ("/v1/endpoints/x?dryRun=All", false),
            ("/v1/identity?x", false),
            ("/v1/tokens?", true),
            ("/v1/tokens", true),
            ("/v1/stat?name=api", true),
            ("/v1/apply?dryRun=All", true),
            ("/api/v1/services?limit=1", true),
        ] {
            assert_eq!(check_query(&uri.parse().unwrap()).is_ok(), fits, "{uri}");
        }
    }
}
