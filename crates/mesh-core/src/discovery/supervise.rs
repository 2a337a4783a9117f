//! Keeps the control thread's tasks going: a panic in one of them ends neither the others nor
//! this process's part in the mesh.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use crate::telemetry::control::TaskMetrics;
use crate::telemetry::{Recorder, Workload};

/// A task that has run for so long after a panic counts as up again.
const SETTLED: Duration = Duration::from_secs(5);

/// What goes on beside the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Follows plans, registers, reports.
    Watch,
    /// Renews the certificate.
    Renewal,
    /// Folds metrics and lets old series go.
    Upkeep,
    /// Serves `/metrics` and `/ready`.
    Admin,
}

impl Task {
    const ALL: [Self; 4] = [Self::Watch, Self::Renewal, Self::Upkeep, Self::Admin];

    /// The word for metrics and logs.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Renewal => "renewal",
            Self::Upkeep => "upkeep",
            Self::Admin => "admin",
        }
    }
}

/// How the tasks of a process stand. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<[Condition; Task::ALL.len()]>);

#[derive(Debug, Default)]
struct Condition {
    is_down: AtomicBool,
    /// There is none before the process has an identity: panics of that time are only logged.
    metrics: Mutex<Option<TaskMetrics>>,
}

impl Health {
    /// Shows the tasks' series from now on.
    pub(super) fn publish(&self, recorder: &Recorder, workload: &Workload) {
        for task in Task::ALL {
            let metrics = TaskMetrics::new(recorder, workload, task.as_str());
            metrics.set_up(!self.of(task).is_down.load(Ordering::Relaxed));
            *self.metrics(task) = Some(metrics);
        }
    }

    /// Why this process should get no traffic; empty when it should.
    pub(super) fn not_ready(&self) -> Vec<String> {
        let down = Task::ALL
            .into_iter()
            .filter(|task| self.of(*task).is_down.load(Ordering::Relaxed));
        down.map(|task| format!("its {} task panicked and is restarted", task.as_str()))
            .collect()
    }

    fn of(&self, task: Task) -> &Condition {
        &self.0[task as usize]
    }

    fn metrics(&self, task: Task) -> std::sync::MutexGuard<'_, Option<TaskMetrics>> {
        let metrics = self.of(task).metrics.lock();
        metrics.unwrap_or_else(PoisonError::into_inner)
    }

    fn set_up(&self, task: Task, up: bool) {
        self.of(task).is_down.store(!up, Ordering::Relaxed);
        if let Some(metrics) = &*self.metrics(task) {
            metrics.set_up(up);
        }
    }

    fn panicked(&self, task: Task, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let task_name = task.as_str();
        tracing::error!(
            task = task_name,
            panic = text.unwrap_or("no text"),
            "a task of the mesh panicked: it is restarted"
        );
        self.set_up(task, false);
        if let Some(metrics) = &*self.metrics(task) {
            metrics.restarts.increment(1);
        }
    }
}

/// Runs what `start` makes, and after each panic, and a pause, what it makes then. Ends when that
/// ends by itself.
///
/// State that outlives a panic belongs to the caller, who makes sure in `start` that it is whole.
pub(super) async fn supervise<F>(health: &Health, task: Task, mut start: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    let mut backoff = Backoff::new();
    loop {
        let begun = Instant::now();
        let run = AssertUnwindSafe(async { start().await }).catch_unwind();
        let mut run = pin!(run);
        let is_down = health.of(task).is_down.load(Ordering::Relaxed);
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = sleep(SETTLED), if is_down => {
                health.set_up(task, true);
                run.await
            }
        };
        let Err(panic) = ended else { return };
        health.panicked(task, &*panic);
        if begun.elapsed() >= SETTLED {
            backoff = Backoff::new();
        }
        backoff.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn workload() -> Workload {
        Workload {
            namespace: "shop".into(),
            deployment: "api".into(),
            pod: "api-1".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_counted_and_restarted_and_ready_knows() {
        let recorder = Recorder::new(Metrics::Own).unwrap();
        let health = Health::default();
        health.publish(&recorder, &workload());
        let mut starts = 0;
        let task = supervise(&health, Task::Renewal, || {
            starts += 1;
            let first = starts == 1;
            async move {
                sleep(Duration::from_secs(1)).await;
                assert!(!first, "the first one breaks");
                std::future::pending::<()>().await;
            }
        });
        let mut task = tokio_test::task::spawn(task);
        assert!(task.poll().is_pending());
        assert_eq!(health.not_ready(), [""; 0]);
        let shown = |line: &str| {
            let text = recorder.render();
            assert!(
                text.lines()
                    .any(|l| l.ends_with(line) && l.contains("renewal")),
                "{text}"
            );
        };
        shown(" 1");
        sleep(Duration::from_millis(1_100)).await;
        assert!(task.poll().is_pending());
        let down = "its renewal task panicked and is restarted";
        assert_eq!(health.not_ready(), [down]);
        let text = recorder.render();
        for (family, value) in [
            ("mesh_control_up", "0"),
            ("mesh_control_restarts_total", "1"),
        ] {
            let of =
                |line: &&str| line.starts_with(&format!("{family}{{")) && line.contains("renewal");
            let line = text.lines().find(of).expect("a series");
            assert!(line.ends_with(&format!(" {value}")), "{line}");
        }
        // The pause, and the time after which it counts as up.
        for _ in 0..8 {
            sleep(Duration::from_secs(1)).await;
            assert!(task.poll().is_pending());
        }
        assert_eq!(health.not_ready(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_always_panics_is_tried_with_growing_pauses() {
        let health = Health::default();
        let mut starts = 0_u32;
        let task = supervise(&health, Task::Watch, || {
            starts += 1;
            async { panic!("as ever") }
        });
        drop(tokio::time::timeout(Duration::from_secs(600), task).await);
        assert!(
            (10..=80).contains(&starts),
            "{starts} starts in ten minutes"
        );
        assert_eq!(health.not_ready().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_while_it_is_started_is_caught_too() {
        let health = Health::default();
        let mut starts = 0;
        let task = supervise(&health, Task::Upkeep, || {
            starts += 1;
            assert!(starts > 1, "the first one breaks");
            std::future::ready(())
        });
        task.await;
        assert_eq!(starts, 2);
    }
}
