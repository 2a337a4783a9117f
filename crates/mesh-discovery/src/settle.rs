//! Answers to writes wait until the plans hold what was written, so that a client that is told
//! "done" and then asks is told the new.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::worlds::Worlds;

/// On an answer: the revision of the caller's own write. Without it an answer waits for nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrittenAt(u64);

/// Marks an answer whose request wrote `revision`.
pub(crate) const fn written_at(revision: u64) -> Extension<WrittenAt> {
    Extension(WrittenAt(revision))
}

pub(crate) async fn settle(
    State(worlds): State<Arc<Worlds>>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    if let Some(WrittenAt(revision)) = response.extensions().get() {
        worlds.caught_up(*revision).await;
    }
    response
}
