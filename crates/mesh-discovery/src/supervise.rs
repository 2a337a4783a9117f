//! The tasks of a server. None of them ends before the server does: without one, plans freeze,
//! a port is dead, or endpoints stay for ever. So the first that ends makes the server not ready,
//! and its program ends, to be started anew by what looks after it.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::StatusCode;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use crate::metrics::Metrics;
use crate::refused::Refused;
use crate::server::Shared;

/// A task that a server cannot be without has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{task} has ended ({why}): start discovery anew, and report this as a defect")]
pub struct TaskEnded {
    task: &'static str,
    why: String,
}

/// Tasks by what they do.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.set.spawn(task);
        self.names.insert(handle.id(), name);
    }
}

/// Starts the one task that holds all others, and tells `failed` of the first that ends before
/// the server does.
pub(crate) fn supervise(
    tasks: Tasks,
    failed: watch::Sender<Option<TaskEnded>>,
    shared: &Shared,
) -> JoinSet<()> {
    let metrics = Arc::clone(&shared.metrics);
    let ending = shared.ending.clone();
    let mut supervisor = JoinSet::new();
    supervisor.spawn(join(tasks, failed, metrics, ending));
    supervisor
}

async fn join(
    mut tasks: Tasks,
    failed: watch::Sender<Option<TaskEnded>>,
    metrics: Arc<Metrics>,
    ending: watch::Receiver<bool>,
) {
    while let Some(joined) = tasks.set.join_next_with_id().await {
        let (id, why) = match joined {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(panicked(error))),
        };
        if why.is_none() && *ending.borrow() {
            continue;
        }
        let ended = TaskEnded {
            task: tasks.names.get(&id).copied().unwrap_or("a task"),
            why: why.unwrap_or_else(|| "without an error".to_owned()),
        };
        tracing::error!(error = %ended, "discovery cannot go on");
        metrics.tasks_ended.increment(1);
        failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(ended);
            first
        });
    }
}

fn panicked(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => message(&*panic),
        Err(error) => error.to_string(),
    }
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a text"))
}

/// Answers 500 where a handler panics, so that nothing else of its connection ends with it.
pub(crate) async fn catch(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            metrics.panics.increment(1);
            let why = message(&*panic);
            tracing::error!(path, why, "a request met a defect of discovery");
            let message = "discovery has a defect here: see its log";
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn supervised(task: impl Future<Output = ()> + Send + 'static) -> (String, String) {
        let mut tasks = Tasks::default();
        let (_end, ending) = watch::channel(false);
        tasks.spawn("the reader", std::future::pending());
        tasks.spawn("the writer", task);
        let (sender, mut failed) = watch::channel(None);
        let metrics = Arc::new(Metrics::new());
        drop(tokio::spawn(join(
            tasks,
            sender,
            Arc::clone(&metrics),
            ending,
        )));
        let failed = failed.wait_for(Option::is_some).await.unwrap().clone();
        (failed.unwrap().to_string(), metrics.render())
    }

    #[tokio::test]
    async fn a_task_that_ends_too_soon_is_told_and_counted() {
        let (said, metrics) = supervised(async { panic!("no way on") }).await;
        assert!(
            said.contains("the writer") && said.contains("no way on"),
            "{said}"
        );
        let counted = "mesh_discovery_tasks_ended_total 1\n";
        assert!(metrics.contains(counted), "{metrics}");
        let (said, _) = supervised(async {}).await;
        assert!(said.contains("the writer"), "{said}");
    }

    #[tokio::test]
    async fn tasks_end_with_their_server_without_a_word() {
        let mut tasks = Tasks::default();
        tasks.spawn("the reader", async {});
        let (_end, ending) = watch::channel(true);
        let (sender, failed) = watch::channel(None);
        join(tasks, sender, Arc::new(Metrics::new()), ending).await;
        assert_eq!(*failed.borrow(), None);
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_and_counted() {
        async fn broken() {
            panic!("no answer");
        }
        let metrics = Arc::new(Metrics::new());
        let router = Router::new()
            .route("/", get(broken))
            .layer(middleware::from_fn_with_state(Arc::clone(&metrics), catch));
        let answer = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let counted = "mesh_discovery_panics_total 1\n";
        assert!(metrics.render().contains(counted));
    }
}
