//! The future of a step that lets a request pass or refuses it.
//!
//! A refusal is an error and no response, so that this is no larger than the future of
//! whoever stands behind the gate: futures are moved into one another, step by step.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::BoxError;

pin_project! {
    /// The future of a step that lets a request pass or refuses it.
    #[derive(Debug)]
    pub struct Gated<F> {
        #[pin]
        gate: Gate<F>,
    }
}

pin_project! {
    #[project = Step]
    #[derive(Debug)]
    enum Gate<F> {
        Passed { #[pin] response: F },
        Refused { error: Option<BoxError> },
    }
}

impl<F> Gated<F> {
    /// The request went on to whoever answers with `response`.
    pub(crate) const fn passed(response: F) -> Self {
        let gate = Gate::Passed { response };
        Self { gate }
    }

    /// The request went no further.
    pub(crate) fn refused(error: impl Into<BoxError>) -> Self {
        let error = Some(error.into());
        let gate = Gate::Refused { error };
        Self { gate }
    }
}

impl<F, T> Future for Gated<F>
where
    F: Future<Output = Result<T, BoxError>>,
{
    type Output = Result<T, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().gate.project() {
            Step::Passed { response } => response.poll(cx),
            Step::Refused { error } => {
                let error = error.take();
                Poll::Ready(Err(error.expect("a future is not polled after its end")))
            }
        }
    }
}
