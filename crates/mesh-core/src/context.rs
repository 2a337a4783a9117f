//! What a call inherits from the request that is being served.
//!
//! The server's stack scopes a [`Context`] around the handler and around the
//! response body it returns; the client's stack reads it when a call is made. So
//! a deadline, a trace and a criticality flow through an application that knows
//! nothing of them. A spawned task leaves the scope: [`spawn`] carries it along.

use http::HeaderValue;
use tokio::task::JoinHandle;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Context;
}

/// The inherited facts of one request. Empty outside of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The W3C `traceparent` as it came, checked for its form.
    pub traceparent: Option<HeaderValue>,
    /// How much it hurts to refuse this work.
    pub criticality: Criticality,
    /// Which attempt the caller is making: 0 for the first.
    pub attempt: u32,
}

impl Context {
    /// Whether nothing was inherited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How much it hurts to refuse work, so that overload sheds the cheapest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// Nobody waits for it: shed first.
    Sheddable,
    /// What is not said otherwise.
    #[default]
    Normal,
    /// Users see it fail: shed last.
    Critical,
}

impl Criticality {
    /// The word of the header `x-mesh-criticality`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::Normal => "normal",
            Self::Critical => "critical",
        }
    }

    /// The criticality of a word of the header; `None` for any other word.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        [Self::Sheddable, Self::Normal, Self::Critical]
            .into_iter()
            .find(|criticality| criticality.as_str().as_bytes() == word)
    }
}

/// The context of the request being served; empty outside of one.
#[must_use]
pub fn current() -> Context {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Reads the context of the request being served without cloning it.
pub fn with<R>(read: impl Fn(&Context) -> R) -> R {
    CURRENT
        .try_with(|context| read(context))
        .unwrap_or_else(|_| read(&Context::default()))
}

/// Runs a future within a context.
pub fn scope<F: Future>(context: Context, future: F) -> TaskLocalFuture<Context, F> {
    CURRENT.scope(context, future)
}

/// Runs a function within a context.
pub fn enter<R>(context: Context, function: impl FnOnce() -> R) -> R {
    CURRENT.sync_scope(context, function)
}

/// [`tokio::spawn`] that keeps the context of the request being served.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let background = mesh_core::context::spawn(async {
///     // Calls made here inherit the deadline and the trace of the request.
///     mesh_core::context::current().deadline
/// });
/// assert_eq!(background.await.expect("it does not panic"), None);
/// # }
/// ```
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(scope(current(), future))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn critical() -> Context {
        Context {
            criticality: Criticality::Critical,
            ..Context::default()
        }
    }

    #[tokio::test]
    async fn a_spawned_task_keeps_the_context_only_with_our_spawn() {
        scope(critical(), async {
            let ours = spawn(async { current() }).await.expect("no panic");
            assert_eq!(ours, critical());
            let tokios = tokio::spawn(async { current() }).await.expect("no panic");
            assert!(tokios.is_empty());
        })
        .await;
        assert!(current().is_empty());
    }

    #[test]
    fn words_of_criticality_are_exact() {
        assert_eq!(Criticality::parse(b"critical"), Some(Criticality::Critical));
        assert_eq!(Criticality::parse(b"Critical"), None);
    }
}
