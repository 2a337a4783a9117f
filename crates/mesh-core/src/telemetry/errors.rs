//! What went wrong, in Linkerd's words.
//!
//! Which word a cause has stands in the one table of [`crate::answer`]; here are the counters.

use std::error::Error;

use metrics::{Counter, Label};

use super::{Recorder, Workload};
use crate::answer::Cause;

/// A word of the label `error` of Linkerd's `…_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Nothing there could have served it, so that waiting made no sense.
    FailFast,
    /// More than is taken at once.
    LoadShed,
    /// The other end is not who it should be.
    IdentityRequired,
    /// A client that did not say what it speaks.
    TlsDetectionTimeout,
    /// The network, or a peer that broke off.
    Io,
    /// The time for an answer was over.
    ResponseTimeout,
    /// All else.
    Unexpected,
}

impl Word {
    const ALL: [Self; 7] = [
        Self::FailFast,
        Self::LoadShed,
        Self::IdentityRequired,
        Self::TlsDetectionTimeout,
        Self::Io,
        Self::ResponseTimeout,
        Self::Unexpected,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::FailFast => "failfast",
            Self::LoadShed => "loadshed",
            Self::IdentityRequired => "identity required",
            Self::TlsDetectionTimeout => "tls detection timeout",
            Self::Io => "i/o",
            Self::ResponseTimeout => "response timeout",
            Self::Unexpected => "unexpected",
        }
    }
}

/// A family of errors, and the words that can occur in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    name: &'static str,
    words: &'static [Word],
}

/// Requests that a listener answered with an error of the mesh.
pub(crate) const INBOUND_HTTP: Family = Family {
    name: "inbound_http_errors_total",
    words: &[
        Word::FailFast,
        Word::Io,
        Word::ResponseTimeout,
        Word::Unexpected,
    ],
};
/// Connections that never carried a request.
pub(crate) const INBOUND_TCP: Family = Family {
    name: "inbound_tcp_errors_total",
    words: &[
        Word::LoadShed,
        Word::TlsDetectionTimeout,
        Word::Io,
        Word::Unexpected,
    ],
};
/// Requests of the application that the mesh answered with an error.
pub(crate) const OUTBOUND_HTTP: Family = Family {
    name: "outbound_http_errors_total",
    words: &[
        Word::FailFast,
        Word::IdentityRequired,
        Word::Io,
        Word::ResponseTimeout,
        Word::Unexpected,
    ],
};
/// Connections that could not be made.
pub(crate) const OUTBOUND_TCP: Family = Family {
    name: "outbound_tcp_errors_total",
    words: &[Word::IdentityRequired, Word::Io, Word::Unexpected],
};

/// The counters of one family.
#[derive(Debug)]
pub(crate) struct Errors([Counter; Word::ALL.len()]);

impl Errors {
    /// Registers the series of `labels` in `family`, all at once: a rate needs a zero before the one.
    pub(crate) fn register(recorder: &Recorder, labels: &[Label], family: Family) -> Self {
        Self(Word::ALL.map(|word| {
            if !family.words.contains(&word) {
                return Counter::noop();
            }
            let mut labels = labels.to_vec();
            labels.push(Label::from_static_parts("error", word.as_str()));
            recorder.counter(family.name, labels)
        }))
    }

    /// What a process counts of all its calls.
    pub(crate) fn outbound(recorder: &Recorder, workload: &Workload, family: Family) -> Self {
        let mut labels = workload.labels();
        labels.push(Label::from_static_parts("direction", "outbound"));
        Self::register(recorder, &labels, family)
    }

    /// Counts an error, unless Linkerd counts its like elsewhere.
    pub(crate) fn count(&self, cause: Cause) {
        if let Some(word) = cause.word() {
            self.say(word).increment(1);
        }
    }

    /// The counter of a word.
    pub(crate) fn say(&self, word: Word) -> &Counter {
        &self.0[word as usize]
    }
}

/// The word for what ended a request without an answer, in `response_total`: `timeout`,
/// `h2(REASON)` for a stream that was reset, else `unclassified`.
pub(crate) fn ended_by(error: &(dyn Error + 'static)) -> &'static str {
    if Cause::of(error) == Cause::Timeout {
        return "timeout";
    }
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(reason) = error
            .downcast_ref::<h2::Error>()
            .and_then(h2::Error::reason)
        {
            return reset(reason);
        }
        link = error.source();
    }
    "unclassified"
}

/// A reason as Linkerd writes it. A peer can send any number: unknown ones share a word.
fn reset(reason: h2::Reason) -> &'static str {
    match reason {
        h2::Reason::NO_ERROR => "h2(NO_ERROR)",
        h2::Reason::PROTOCOL_ERROR => "h2(PROTOCOL_ERROR)",
        h2::Reason::INTERNAL_ERROR => "h2(INTERNAL_ERROR)",
        h2::Reason::FLOW_CONTROL_ERROR => "h2(FLOW_CONTROL_ERROR)",
        h2::Reason::SETTINGS_TIMEOUT => "h2(SETTINGS_TIMEOUT)",
        h2::Reason::STREAM_CLOSED => "h2(STREAM_CLOSED)",
        h2::Reason::FRAME_SIZE_ERROR => "h2(FRAME_SIZE_ERROR)",
        h2::Reason::REFUSED_STREAM => "h2(REFUSED_STREAM)",
        h2::Reason::CANCEL => "h2(CANCEL)",
        h2::Reason::COMPRESSION_ERROR => "h2(COMPRESSION_ERROR)",
        h2::Reason::CONNECT_ERROR => "h2(CONNECT_ERROR)",
        h2::Reason::ENHANCE_YOUR_CALM => "h2(ENHANCE_YOUR_CALM)",
        h2::Reason::INADEQUATE_SECURITY => "h2(INADEQUATE_SECURITY)",
        h2::Reason::HTTP_1_1_REQUIRED => "h2(HTTP_1_1_REQUIRED)",
        _ => "h2(UNKNOWN)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn every_word_counts_into_its_own_series() {
        for (place, word) in Word::ALL.into_iter().enumerate() {
            assert_eq!(word as usize, place, "{word:?}");
        }
        let recorder = Recorder::new(Metrics::Own).unwrap();
        let errors = Errors::register(&recorder, &[], OUTBOUND_HTTP);
        for cause in [Cause::NoEndpoints, Cause::Timeout, Cause::Timeout] {
            errors.count(cause);
        }
        errors.count(Cause::Denied);
        let text = recorder.render();
        for line in [
            r#"outbound_http_errors_total{error="failfast"} 1"#,
            r#"outbound_http_errors_total{error="response timeout"} 2"#,
            r#"outbound_http_errors_total{error="i/o"} 0"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        assert_eq!(text.matches("outbound_http_errors_total{").count(), 5);
    }

    #[test]
    fn a_reset_says_its_reason_however_deep_it_is() {
        #[derive(Debug, thiserror::Error)]
        #[error("it broke")]
        struct Broke(#[source] h2::Error);

        let refused = Broke(h2::Reason::REFUSED_STREAM.into());
        assert_eq!(ended_by(&refused), "h2(REFUSED_STREAM)");
        let made_up = Broke(h2::Reason::from(4711).into());
        assert_eq!(ended_by(&made_up), "h2(UNKNOWN)");
        assert_eq!(ended_by(&std::fmt::Error), "unclassified");
    }
}
