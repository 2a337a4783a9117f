//! Whether a response was a success, as metrics and balancing count it.

/// What a response counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Classification {
    /// The service did what it should, a refusal of the client's fault included.
    Success,
    /// The service failed.
    Failure,
}

impl Classification {
    /// The value of the metric label `classification`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// Classifies by Linkerd's sets: HTTP 5xx fail, whatever a gRPC status says beside them,
/// and so do gRPC UNKNOWN, `DEADLINE_EXCEEDED`, `PERMISSION_DENIED`, INTERNAL, UNAVAILABLE and `DATA_LOSS`.
#[must_use]
pub const fn classify(http_status: u16, grpc_status: Option<u16>) -> Classification {
    let failed =
        matches!(http_status, 500..=599) || matches!(grpc_status, Some(2 | 4 | 7 | 13 | 14 | 15));
    if failed {
        Classification::Failure
    } else {
        Classification::Success
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_faults_are_failures_and_clients_faults_are_not() {
        for status in [200, 204, 301, 400, 403, 404, 429, 499, 600] {
            assert_eq!(classify(status, None), Classification::Success, "{status}");
        }
        for status in [500, 503, 504, 599] {
            assert_eq!(classify(status, None), Classification::Failure, "{status}");
        }
        for code in 0..=16 {
            let failed = [2, 4, 7, 13, 14, 15].contains(&code);
            let found = classify(200, Some(code)) == Classification::Failure;
            assert_eq!(found, failed, "grpc-status {code}");
        }
        assert_eq!(classify(503, Some(0)), Classification::Failure);
    }
}
