//! Annotations about retries, timeouts and the retry budget, on a Service or a route.
//!
//! Linkerd's (`retry.linkerd.io/…`, `timeout.linkerd.io/…`) mean what they mean
//! there, but for a limit of 0, which here is none (Linkerd takes it for unset).
//! Ours (`mesh.rs/retry-…`) say what Linkerd has no word for.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fields::{At, cut};
use super::kind::Kind;
use super::node::Value;
use crate::duration;
use crate::nearest::nearest;
use crate::plan::outbound::{BudgetPlan, RetryMethods, StatusRange};

/// What annotations say; those of a route replace those of its Service, each group as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resilience {
    /// `retry.linkerd.io/…`; `None` if none of them is there.
    pub retry: Option<AnnotatedRetry>,
    /// `timeout.linkerd.io/…`; `None` if none of them is there.
    pub timeouts: Option<AnnotatedTimeouts>,
    /// `mesh.rs/retry-methods`.
    pub methods: Option<RetryMethods>,
    /// `mesh.rs/retry-budget-…`, on a Service alone; `None` if none of them is there.
    pub budget: Option<BudgetPlan>,
}

/// What `retry.linkerd.io/…` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnotatedRetry {
    /// `http`: statuses that are worth another try.
    pub codes: Vec<StatusRange>,
    /// `grpc`: statuses that are worth another try, in ascending order.
    pub grpc: Vec<u16>,
    /// `limit`: how many tries may follow the first.
    pub limit: Option<u16>,
    /// `timeout`: one try, until its response headers; zero is no limit.
    pub timeout: Option<Duration>,
}

/// What `timeout.linkerd.io/…` says; zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnotatedTimeouts {
    /// `request`: from the call to the end of the response, retries included.
    pub request: Option<Duration>,
    /// `response`: one try, from its request fully sent to its response fully received.
    pub response: Option<Duration>,
    /// `idle`: how long no frame may come or go.
    pub idle: Option<Duration>,
}

const HTTP: &str = "retry.linkerd.io/http";
const GRPC: &str = "retry.linkerd.io/grpc";
const LIMIT: &str = "retry.linkerd.io/limit";
const TRY: &str = "retry.linkerd.io/timeout";
const REQUEST: &str = "timeout.linkerd.io/request";
const RESPONSE: &str = "timeout.linkerd.io/response";
const IDLE: &str = "timeout.linkerd.io/idle";
const METHODS: &str = "mesh.rs/retry-methods";
const RATIO: &str = "mesh.rs/retry-budget-ratio";
const FLOOR: &str = "mesh.rs/retry-budget-min-per-second";
const WINDOW: &str = "mesh.rs/retry-budget-window";

/// All of them.
pub(super) const ANNOTATIONS: &[&str] = &[
    HTTP, GRPC, LIMIT, TRY, REQUEST, RESPONSE, IDLE, METHODS, RATIO, FLOOR, WINDOW,
];

/// The annotations that have an effect on a kind.
pub(super) const fn supported(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Service => ANNOTATIONS,
        Kind::HttpRoute => &[HTTP, GRPC, LIMIT, TRY, REQUEST, RESPONSE, IDLE, METHODS],
        _ => &[],
    }
}

/// gRPC's statuses that Linkerd retries.
const GRPC_CODES: [(&str, u16); 5] = [
    ("cancelled", 1),
    ("deadline-exceeded", 4),
    ("internal", 13),
    ("resource-exhausted", 8),
    ("unavailable", 14),
];
const HTTP_STATUSES: RangeInclusive<u16> = 100..=599;
/// A status each: more items than statuses say nothing new.
const MOST_ITEMS: usize = 500;
const MOST_RATIO_PER_MILLE: u32 = 10_000;
const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// Reads them out of an object's metadata; which of them a kind may carry is checked with its head.
pub(super) fn read(metadata: &At<'_>) -> Resilience {
    let grpc = take(metadata, GRPC, |at| items(at, grpc_status));
    let mut retry = AnnotatedRetry {
        codes: take(metadata, HTTP, |at| items(at, statuses)).unwrap_or_default(),
        grpc: grpc.unwrap_or_default(),
        limit: take(metadata, LIMIT, whole),
        timeout: take(metadata, TRY, time),
    };
    retry.grpc.sort_unstable();
    retry.grpc.dedup();
    let timeouts = AnnotatedTimeouts {
        request: take(metadata, REQUEST, time),
        response: take(metadata, RESPONSE, time),
        idle: take(metadata, IDLE, time),
    };
    Resilience {
        retry: Some(retry).filter(|retry| *retry != AnnotatedRetry::default()),
        timeouts: Some(timeouts).filter(|timeouts| *timeouts != AnnotatedTimeouts::default()),
        methods: take(metadata, METHODS, |at| {
            at.one_of(&[
                ("idempotent", RetryMethods::Idempotent),
                ("all", RetryMethods::All),
            ])
        }),
        budget: budget(metadata),
    }
}

fn budget(metadata: &At<'_>) -> Option<BudgetPlan> {
    let ratio = take(metadata, RATIO, ratio);
    let floor = take(metadata, FLOOR, whole);
    let window = take(metadata, WINDOW, window);
    if ratio.is_none() && floor.is_none() && window.is_none() {
        return None;
    }
    let default = BudgetPlan::default();
    Some(BudgetPlan {
        ratio_per_mille: ratio.unwrap_or(default.ratio_per_mille),
        min_per_second: floor.map_or(default.min_per_second, u32::from),
        window_ms: window.unwrap_or(default.window_ms),
    })
}

/// The value of an annotation that is there; one that is no text was refused with the head.
fn take<'a, T>(
    metadata: &At<'a>,
    name: &str,
    read: impl FnOnce(&At<'a>) -> Option<T>,
) -> Option<T> {
    let node = metadata.node.get("annotations")?.get(name)?;
    if !matches!(node.value, Value::Text(_)) {
        return None;
    }
    read(&At {
        node,
        path: format!("{}.annotations[{name:?}]", metadata.path),
        sink: metadata.sink,
    })
}

fn items<T>(at: &At<'_>, read: fn(&At<'_>, &str) -> Option<T>) -> Option<Vec<T>> {
    let texts: Vec<_> = at.text()?.split(',').map(str::trim).collect();
    if texts.len() > MOST_ITEMS {
        return at.refuse(
            format!("has {} items", texts.len()),
            format!("write at most {MOST_ITEMS}"),
        );
    }
    texts.into_iter().map(|text| read(at, text)).collect()
}

fn statuses(at: &At<'_>, text: &str) -> Option<StatusRange> {
    let named = [
        ("5xx", StatusRange { from: 500, to: 599 }),
        ("gateway-error", StatusRange { from: 502, to: 504 }),
    ];
    if let Some((_, range)) = named.iter().find(|(name, _)| *name == text) {
        return Some(*range);
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let range = status(from).zip(status(to));
    if let Some((from, to)) = range.filter(|(from, to)| from <= to) {
        return Some(StatusRange { from, to });
    }
    let remedy = match nearest(text, named.map(|(name, _)| name)) {
        Some(name) => format!("write {name}"),
        None => "write 5xx, gateway-error, a status such as 503, or a range such as 500-504, from 100 to 599".to_owned(),
    };
    at.refuse(format!("{:?} names no statuses", cut(text)), remedy)
}

fn status(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    let status = digits.then(|| text.parse().ok()).flatten();
    status.filter(|status| HTTP_STATUSES.contains(status))
}

fn grpc_status(at: &At<'_>, text: &str) -> Option<u16> {
    if let Some((_, code)) = GRPC_CODES.iter().find(|(name, _)| *name == text) {
        return Some(*code);
    }
    let names = GRPC_CODES.map(|(name, _)| name);
    let remedy = match nearest(text, names) {
        Some(name) => format!("write {name}"),
        None => format!("write one of {}", names.join(", ")),
    };
    at.refuse(format!("{:?} is not known", cut(text)), remedy)
}

fn whole(at: &At<'_>) -> Option<u16> {
    let text = at.text()?;
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Some(number),
        _ => at.refuse(
            format!("{:?} is out of range or no number", cut(text)),
            "write a whole number from 0 to 65535, in quotes",
        ),
    }
}

fn time(at: &At<'_>) -> Option<Duration> {
    match duration::linkerd::parse(at.text()?) {
        Ok(time) => Some(time),
        Err(error) => at.refuse(error, ""),
    }
}

/// A decimal of at most three places, such as `0.2`, in thousandths.
fn ratio(at: &At<'_>) -> Option<u32> {
    let text = at.text()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let read = || {
        let whole: u32 = whole.parse().ok()?;
        let part: u32 = format!("{part:0<3}").parse().ok()?;
        whole.checked_mul(1_000)?.checked_add(part)
    };
    let plain = digits(whole) && digits(part) && part.len() <= 3;
    match plain.then(read).flatten() {
        Some(ratio) if ratio <= MOST_RATIO_PER_MILLE => Some(ratio),
        _ => at.refuse(
            format!("{:?} is no ratio", cut(text)),
            "write a number from 0 to 10 with at most three decimals, such as 0.2",
        ),
    }
}

fn window(at: &At<'_>) -> Option<u64> {
    match duration::parse(at.text()?) {
        Ok(window) if WINDOWS.contains(&window) => u64::try_from(window.as_millis()).ok(),
        Ok(_) => at.refuse("is too short or too long", "write 1s to 60s"),
        Err(error) => at.refuse(error, ""),
    }
}
