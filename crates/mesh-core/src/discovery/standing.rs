//! How the process's own certificate stands.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_tls::lifetime::Lifetime;

/// What is left of the certificate, and what keeps the next one from coming.
#[derive(Debug)]
pub(crate) struct Standing(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    lifetime: Lifetime,
    trouble: Option<String>,
}

impl Standing {
    pub(super) fn new(lifetime: Lifetime) -> Self {
        let trouble = None;
        Self(Mutex::new(Inner { lifetime, trouble }))
    }

    pub(super) fn lifetime(&self) -> Lifetime {
        self.inner().lifetime
    }

    /// There is a new certificate.
    pub(super) fn renewed(&self, lifetime: Lifetime) {
        let trouble = None;
        *self.inner() = Inner { lifetime, trouble };
    }

    /// There should be a new certificate, and is not.
    pub(super) fn failed(&self, why: &str) {
        self.inner().trouble = Some(why.to_owned());
    }

    /// Why nobody lets this process in, once its certificate has ended.
    pub(super) fn why_not_ready(&self) -> Option<String> {
        let inner = self.inner();
        let ago = inner.lifetime.ended()?.as_secs();
        let why = inner.trouble.as_deref();
        let why = why.unwrap_or("a new one is being asked for");
        Some(format!("the certificate ended {ago} s ago: {why}"))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn c01_a_process_whose_certificate_has_ended_is_not_ready_and_says_why() {
        let minute = Duration::from_secs(60);
        let standing = Standing::new(Lifetime::of(minute));
        standing.failed("discovery cannot be reached");
        assert_eq!(standing.why_not_ready(), None, "it still counts");
        tokio::time::advance(minute + Duration::from_secs(20)).await;
        let why = "the certificate ended 20 s ago: discovery cannot be reached";
        assert_eq!(standing.why_not_ready().as_deref(), Some(why));
        standing.renewed(Lifetime::of(minute));
        assert_eq!(standing.why_not_ready(), None);
    }
}
