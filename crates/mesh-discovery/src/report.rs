//! How processes stand: `POST /v1/reports`.

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::post;
use http::StatusCode;
use mesh_policy::identity::Identity;
use mesh_policy::report::traffic::{Direction, FlowKey, Traffic};
use mesh_policy::report::{Rejection, Report};

use crate::caller::Caller;
use crate::compile::Admission;
use crate::refused::{Refused, read_json};
use crate::registry::is_text;
use crate::server::Shared;
use crate::watch::Session;

const MAX_REPORT_BYTES: usize = 1024 * 1024;
const MAX_REJECTIONS: usize = 1_000;
/// Of each of a rejection's two texts no more is kept.
const MAX_REJECTION_CHARS: usize = 1_000;
/// Rejections of one report that are logged; the others are counted.
const MAX_LOGGED: usize = 20;
const MAX_FLOWS: usize = 1_000;
/// A process's own name for itself.
const MAX_SOURCE_BYTES: usize = 64;

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/v1/reports", post(report))
}

/// Keeps the latest report of each watch; what a process could not honour is logged once.
async fn report(
    State(shared): State<Shared>,
    caller: Caller,
    request: Request,
) -> Result<StatusCode, Refused> {
    let identity = caller.require_workload()?;
    let mut report: Report = read_json(request, MAX_REPORT_BYTES).await?;
    if report.rejections.len() > MAX_REJECTIONS {
        let message = format!("a report tells at most {MAX_REJECTIONS} rejections");
        return Err(Refused::bad_request(message));
    }
    if !is_text(&report.library) {
        let message = "the library's version is 1 to 253 printable characters";
        return Err(Refused::bad_request(message));
    }
    report.rejections.iter_mut().for_each(shorten);
    let session = shared.sessions.find_kept(&report.watch, identity)?;
    if let Some(traffic) = report.traffic.take() {
        count(&shared, (&session, identity), traffic)?;
    }
    let library = &report.library;
    let new = session.reject(&report.rejections)?;
    if let Some(more) = new.len().checked_sub(MAX_LOGGED + 1) {
        let more = more + 1;
        tracing::warn!(%identity, more, "a process could not honour more than is logged here");
    }
    for rejection in new.iter().take(MAX_LOGGED) {
        let (subject, why) = (&rejection.subject, &rejection.why);
        tracing::warn!(%identity, %library, subject, why, "a process could not honour a plan");
    }
    shared.metrics.rejections.increment(new.len() as u64);
    Ok(StatusCode::NO_CONTENT)
}

/// Cuts the texts of a rejection: a process writes them, and they stand in our log.
fn shorten(rejection: &mut Rejection) {
    for text in [&mut rejection.subject, &mut rejection.why] {
        if let Some((end, _)) = text.char_indices().nth(MAX_REJECTION_CHARS) {
            text.truncate(end);
        }
    }
}

/// Keeps the traffic that a process reports, as far as it is its own.
fn count(
    shared: &Shared,
    (session, identity): (&Session, &Identity),
    mut traffic: Traffic,
) -> Result<(), Refused> {
    if traffic.flows.len() > MAX_FLOWS || traffic.source.len() > MAX_SOURCE_BYTES {
        let message = format!("a report tells at most {MAX_FLOWS} flows, of a short source");
        return Err(Refused::bad_request(message));
    }
    let told = traffic.flows.len();
    traffic
        .flows
        .retain_mut(|flow| is_own(shared, (session, identity), &mut flow.key));
    let foreign = told - traffic.flows.len();
    let processes = shared.sessions.processes(identity);
    let dropped = foreign + shared.statistics.add(identity, traffic, processes);
    shared.metrics.flows_dropped.increment(dropped as u64);
    Ok(())
}

/// Whether a flow is the process's own to report: received for what it serves, or sent to a name
/// that it asks for and by whose policy it is let in.
fn is_own(shared: &Shared, (session, identity): (&Session, &Identity), key: &mut FlowKey) -> bool {
    if !session.knows(key.direction, &key.service.service) {
        return false;
    }
    match key.direction {
        Direction::Inbound => {
            key.backend = None;
            true
        }
        Direction::Outbound => {
            let world = shared.worlds.latest();
            match world.admits_call((&key.service, key.backend.as_ref()), identity) {
                Admission::Admitted => true,
                Admission::Refused => false,
                // The last failures come when nobody serves any more: of those that were let in.
                Admission::Unserved => shared.statistics.has_reported(identity, key),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_rejects_is_kept_in_short() {
        let mut rejection = Rejection {
            subject: "ä".repeat(MAX_REJECTION_CHARS + 1),
            why: "short".to_owned(),
        };
        shorten(&mut rejection);
        assert_eq!(rejection.subject, "ä".repeat(MAX_REJECTION_CHARS));
        assert_eq!(rejection.why, "short");
    }
}
