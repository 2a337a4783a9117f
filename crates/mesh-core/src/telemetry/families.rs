//! Every family of series that a process has, with its help text: the list that `describe` reads.
//!
//! A new family gets its line here and in the reference of metrics. A histogram
//! gets its buckets here as well.

/// The name of the latency histogram.
pub(crate) const RESPONSE_LATENCY_MS: &str = "response_latency_ms";
/// The name of the histogram of routes' latencies.
pub(crate) const ROUTE_RESPONSE_LATENCY_MS: &str = "route_response_latency_ms";
/// The name of the histogram of discovery's latencies.
pub(crate) const CONTROL_RESPONSE_LATENCY_MS: &str = "control_response_latency_ms";
/// The name of the histogram of how long connections lasted.
pub(crate) const TCP_CONNECTION_DURATION_MS: &str = "tcp_connection_duration_ms";

/// The name of the counter of series that found no room.
pub(super) const OVERFLOW: &str = "mesh_metrics_overflow_total";

/// Linkerd's buckets of times, in milliseconds.
const MILLISECONDS: [f64; 25] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0,
    1_000.0, 2_000.0, 3_000.0, 4_000.0, 5_000.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0,
];

/// Families that only grow.
pub(super) const COUNTERS: &[(&str, &str)] = &[
    ("request_total", "Requests that were sent or received."),
    (
        "response_total",
        "Responses that ended, by status and classification.",
    ),
    (
        "route_request_total",
        "Requests that the application sent, by route.",
    ),
    (
        "route_response_total",
        "Responses that the application got, by route.",
    ),
    (
        "route_actual_request_total",
        "Tries that were sent, by route.",
    ),
    (
        "route_actual_response_total",
        "Responses to tries, by route.",
    ),
    (
        "route_retryable_total",
        "Tries that would have been made but for a reason, by route.",
    ),
    (
        "control_request_total",
        "Requests that were sent to discovery.",
    ),
    (
        "control_response_total",
        "Responses of discovery, by status and classification.",
    ),
    (
        "inbound_http_errors_total",
        "Requests that a listener answered with an error of the mesh.",
    ),
    (
        "inbound_tcp_errors_total",
        "Connections that never carried a request.",
    ),
    (
        "outbound_http_errors_total",
        "Requests that the mesh answered with an error of its own.",
    ),
    (
        "outbound_tcp_errors_total",
        "Connections that could not be made.",
    ),
    (
        "mesh_outbound_connections_limited_total",
        "Requests that waited because their endpoint had as many connections as it may have.",
    ),
    ("tcp_open_total", "Connections that were opened."),
    (
        "tcp_close_total",
        "Connections that ended, by what broke them.",
    ),
    ("tcp_read_bytes_total", "Bytes read from connections."),
    ("tcp_write_bytes_total", "Bytes written to connections."),
    (
        "outbound_http_route_retry_requests_total",
        "Tries of requests that had one before.",
    ),
    (
        "outbound_http_route_retry_successes_total",
        "Requests that were tried again and then succeeded.",
    ),
    (
        "mesh_outbound_not_retried_total",
        "Failures that were not tried again, by the reason.",
    ),
    (
        "inbound_http_authz_allow_total",
        "Requests that policy let in, by the object that did.",
    ),
    (
        "inbound_http_authz_deny_total",
        "Requests that policy refused.",
    ),
    (
        "mesh_inbound_handshake_failures_total",
        "Connections that ended before they could carry a request, by reason.",
    ),
    (
        "mesh_inbound_connections_refused_total",
        "Connections beyond the limit, closed at once.",
    ),
    (
        "control_identity_cert_refreshes_total",
        "Renewals of the process's certificate, by result.",
    ),
    ("mesh_inbound_panics_total", "Handlers that panicked."),
    (
        "mesh_control_restarts_total",
        "Tasks of the control thread that panicked and were restarted.",
    ),
    (
        "mesh_inbound_connections_revoked_total",
        "Connections cut because policy turned against what went on in them.",
    ),
    (
        OVERFLOW,
        "Series that were not made because their family is full, by family.",
    ),
];

/// Families that go up and down.
pub(super) const GAUGES: &[(&str, &str)] = &[
    ("tcp_open_connections", "Connections that are open."),
    (
        "process_start_time_seconds",
        "When the process joined, in seconds since the Unix epoch.",
    ),
    (
        "mesh_control_up",
        "Whether a task of the control thread runs: 0 from a panic until it has settled again.",
    ),
    (
        "mesh_config_age_seconds",
        "Seconds since discovery last said anything, be it that nothing has changed.",
    ),
    (
        "mesh_cert_expiry_seconds",
        "Seconds until the process's certificate ends; negative after its end.",
    ),
    (
        "control_identity_cert_expiration_timestamp_seconds",
        "When the process's certificate ends, in seconds since the Unix epoch.",
    ),
    (
        "control_identity_cert_refresh_timestamp_seconds",
        "When the process last got a certificate, in seconds since the Unix epoch.",
    ),
];

/// Families of distributions, with their buckets.
pub(super) const HISTOGRAMS: &[(&str, &[f64], &str)] = &[
    (
        RESPONSE_LATENCY_MS,
        &MILLISECONDS,
        "Milliseconds from a request to the first data of its response.",
    ),
    (
        ROUTE_RESPONSE_LATENCY_MS,
        &MILLISECONDS,
        "Milliseconds from a request of the application to the first data of its response, by route.",
    ),
    (
        CONTROL_RESPONSE_LATENCY_MS,
        &MILLISECONDS,
        "Milliseconds from a request to discovery to the head of its response.",
    ),
    (
        TCP_CONNECTION_DURATION_MS,
        &MILLISECONDS,
        "Milliseconds for which connections lasted, by what broke them.",
    ),
];

/// The help text of a family; `None` for one that is not ours.
pub(super) fn help(name: &str) -> Option<&'static str> {
    let simple = COUNTERS.iter().chain(GAUGES).copied();
    let all = simple.chain(HISTOGRAMS.iter().map(|(name, _, help)| (*name, *help)));
    let mut found = all.filter(|(known, _)| *known == name);
    found.next().map(|(_, help)| help)
}

/// The buckets of a histogram; those of times in milliseconds for one that is not ours.
pub(super) fn buckets(name: &str) -> &'static [f64] {
    let mut known = HISTOGRAMS.iter();
    let known = known.find(|(known, ..)| *known == name);
    known.map_or(&MILLISECONDS, |(_, buckets, _)| buckets)
}

/// The name of one of our counters, for good.
pub(super) fn counter(name: &str) -> Option<&'static str> {
    let mut known = COUNTERS.iter().map(|(known, _)| *known);
    known.find(|known| *known == name)
}

/// The name of one of our gauges, for good.
pub(super) fn gauge(name: &str) -> Option<&'static str> {
    let mut known = GAUGES.iter().map(|(known, _)| *known);
    known.find(|known| *known == name)
}

/// The name of one of our histograms, for good.
pub(super) fn histogram(name: &str) -> Option<&'static str> {
    let mut known = HISTOGRAMS.iter().map(|(known, ..)| *known);
    known.find(|known| *known == name)
}
