//! `POST /v1/watch` and `PUT /v1/watch/{id}`.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use http::{StatusCode, Version, header};
use mesh_policy::identity::Identity;
use mesh_policy::plan::PROTOCOL_VERSION;
use mesh_policy::plan::watch::{Subscriptions, WatchRequest};

use super::stream::Telling;
use crate::caller::Caller;
use crate::identity::routes::unknown_version;
use crate::refused::{Refused, read_json};
use crate::registry::{are_labels, check_may_serve, is_text};
use crate::server::Shared;
use crate::targets::ConnectedFrom;

/// Room for all the subscriptions there can be.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Services that one process can call. A client keeps up to 1,000 unknown names subscribed.
const MAX_SERVICES: usize = 4_000;
/// Services that one process can serve.
const MAX_INBOUND: usize = 64;

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/watch", post(open))
        .route("/v1/watch/{id}", put(subscribe))
}

/// No watch of the caller's has this id.
pub(crate) fn unknown_watch() -> Refused {
    let message = "this server holds no such watch of yours: open one with all subscriptions";
    Refused::new(StatusCode::NOT_FOUND, "unknown-watch", message)
}

async fn open(
    State(shared): State<Shared>,
    caller: Caller,
    request: Request,
) -> Result<Response, Refused> {
    let identity = caller.require_workload()?;
    if request.version() != Version::HTTP_2 {
        // HTTP/1.1 has no pings: a peer that is gone would hold its lease for long.
        let message = "a watch needs HTTP/2: offer h2 by ALPN";
        return Err(Refused::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "http2",
            message,
        ));
    }
    let from = request.extensions().get::<ConnectedFrom>().copied();
    let mut request: WatchRequest = read_json(request, MAX_REQUEST_BYTES).await?;
    if request.version != PROTOCOL_VERSION {
        return Err(unknown_version(request.version));
    }
    let texts = [&request.workload, &request.instance, &request.library];
    if !texts.into_iter().all(|text| is_text(text)) || !are_labels(&request.labels) {
        let message = "workload, instance, library and labels are 1 to 253 printable characters; 64 labels at most";
        return Err(Refused::bad_request(message));
    }
    check(&shared, identity, &request.subscriptions).await?;
    // Its metrics are not scraped then; its watch is as good as any.
    let strange = |admin: &mut String| !from.is_some_and(|from| from.may_announce(admin));
    if let Some(admin) = request.admin.take_if(strange) {
        tracing::warn!(
            %identity,
            admin = %admin.chars().take(64).collect::<String>().escape_debug(),
            "no target for Prometheus: the admin port is not at the address that the process connects from; listen there with MESH_ADMIN"
        );
    }
    let resume = request.resume.clone();
    let (instance, library) = (request.instance.clone(), request.library.clone());
    let open = shared.sessions.open(identity, request).await?;
    let watch = open.session().id().to_owned();
    tracing::info!(%identity, instance, library, watch, "a watch is open");
    let ending = shared.ending.clone();
    let telling = Telling::new(open, &shared.worlds, resume.as_ref(), ending);
    let form = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((form, Body::from_stream(telling.lines())).into_response())
}

async fn subscribe(
    State(shared): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, Refused> {
    let identity = caller.require_workload()?;
    let session = shared.sessions.find(&id, identity)?;
    let subscriptions: Subscriptions = read_json(request, MAX_REQUEST_BYTES).await?;
    check(&shared, identity, &subscriptions).await?;
    session.want(subscriptions)?;
    Ok(StatusCode::NO_CONTENT)
}

/// How much may be wanted, and by whom: outbound plans are for all callers, inbound policy
/// is for who may serve (J06).
async fn check(
    shared: &Shared,
    identity: &Identity,
    subscriptions: &Subscriptions,
) -> Result<(), Refused> {
    let (services, inbound) = (subscriptions.services.len(), subscriptions.inbound.len());
    // Any number of sets may be asked for anew: a plan can need more sets than there are services.
    if services > MAX_SERVICES || inbound > MAX_INBOUND {
        let message = format!(
            "a watch tells of at most {MAX_SERVICES} services and {MAX_INBOUND} that are served: {services} and {inbound} are asked for"
        );
        return Err(Refused::too_many(message));
    }
    for serves in &subscriptions.inbound {
        check_may_serve(shared, identity, &serves.service).await?;
    }
    Ok(())
}
