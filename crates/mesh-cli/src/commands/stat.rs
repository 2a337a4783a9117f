//! `mesh stat`: how services do, as their callers report, or those who serve a backend.

use std::io::IsTerminal;
use std::time::Duration;

use mesh_discovery::wire::{CallerStat, ServiceStat, Stat, StatQuery, StatSource};
use mesh_policy::duration::{self, InvalidDuration};
use mesh_policy::manifest::Kind;
use mesh_policy::name::{Label, ServiceName};
use serde_json::{Value, json};

use super::{Done, get};
use crate::access::Access;
use crate::args::{Global, Output};
use crate::failure::Failure;
use crate::{print, render};

/// How often `--watch` asks: processes report every five seconds.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Home, and clear what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Show how services do: success rate, requests a second, latency.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to show: svc, svc/NAME or svc NAME.
    #[arg(value_name = "KIND [NAME]", num_args = 1..=2, default_value = "svc")]
    resource: Vec<String>,
    /// What these services sent to that one, instead of what they were sent.
    #[arg(long, value_name = "svc/NAME[.NS]")]
    to: Option<String>,
    /// Only what these sent: those who serve a service, a service account, or a SPIFFE ID.
    #[arg(long, value_name = "svc/NAME[.NS] | NS/SA | SPIFFE-ID")]
    from: Option<String>,
    /// How far back, at most 10m.
    #[arg(short = 't', long, value_name = "DURATION", default_value = "1m", value_parser = window)]
    time_window: Duration,
    /// Show it anew every two seconds, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

fn window(text: &str) -> Result<Duration, InvalidDuration> {
    duration::parse(text)
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<Done, Failure> {
    let name = subject(&args.resource)?;
    let access = Access::new(global)?;
    let to = args.to.as_deref();
    let from = args.from.as_deref();
    let query = StatQuery {
        namespace: (!global.all_namespaces).then(|| access.namespace.clone()),
        name,
        from: from
            .map(|from| source(from, &access.namespace))
            .transpose()?,
        to: to.map(|to| called(to, &access.namespace)).transpose()?,
        window_seconds: args.time_window.as_secs(),
    };
    if !args.watch {
        return Ok(show(&access.client.stat(&query).await?, global));
    }
    // Where it is no terminal, whoever reads wants every table.
    let clear = std::io::stdout().is_terminal();
    loop {
        let done = show(&access.client.stat(&query).await?, global);
        let mut frame = if clear { CLEAR.into() } else { Vec::new() };
        frame.extend(done.out);
        frame.extend(done.notes.join("\n").into_bytes());
        if !print::out(&frame)? {
            return Ok(Done::default());
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// The name that is meant; `None` for all services.
fn subject(words: &[String]) -> Result<Option<Label>, Failure> {
    let only_services = || {
        let words = words.join(" ");
        let message = format!(
            "stat shows services alone in this version: write svc or svc/NAME instead of {words}"
        );
        Failure::Usage(message)
    };
    let kind = words
        .first()
        .map(|word| word.split('/').next().unwrap_or(word));
    if !kind.is_some_and(is_service) {
        return Err(only_services());
    }
    let (_, name) = get::subject(words)?;
    let parse = |name: String| name.parse().map_err(|error| usage(&name, &error));
    name.map(parse).transpose()
}

/// Whether `word` is a word for the kind `Service`.
fn is_service(word: &str) -> bool {
    Kind::named(word).is_ok_and(|kind| kind == Kind::Service)
}

/// Who `text` names: `svc/api`, `api`, `shop/web`, `spiffe://mesh.local/ns/shop/sa/web`.
fn source(text: &str, namespace: &Label) -> Result<StatSource, Failure> {
    let is_kind = |word: &str| {
        let to_come = [
            "deploy",
            "deployment",
            "deployments",
            "identity",
            "route",
            "rollout",
        ];
        Kind::named(word).is_ok() || to_come.contains(&word)
    };
    match text.split_once('/') {
        Some((kind, _)) if is_kind(kind) && !is_service(kind) => Err(Failure::Usage(format!(
            "{text}: only services and identities have sent anything: write svc/NAME, NS/SA or a SPIFFE ID"
        ))),
        Some((word, _)) if !is_service(word) => text.parse().map_err(|error| usage(text, &error)),
        _ => called(text, namespace).map(StatSource::Service),
    }
}

/// The service that `text` names: `api`, `api.shop`, `svc/api`.
fn called(text: &str, namespace: &Label) -> Result<ServiceName, Failure> {
    let name = match text.split_once('/') {
        Some((kind, name)) if is_service(kind) => name,
        Some(_) => {
            let message = format!("{text}: only services can be named here: write svc/NAME");
            return Err(Failure::Usage(message));
        }
        None => text,
    };
    if name.contains('.') {
        return name.parse().map_err(|error| usage(text, &error));
    }
    Ok(ServiceName {
        namespace: namespace.clone(),
        name: name.parse().map_err(|error| usage(text, &error))?,
    })
}

fn usage(text: &str, error: &dyn std::error::Error) -> Failure {
    Failure::Usage(format!("{text}: {error}"))
}

fn show(stat: &Stat, global: &Global) -> Done {
    match global.output {
        Output::Json | Output::Yaml => {
            let rows = stat.services.iter().map(|row| object(row, stat));
            Done::say(render::value(&Value::from_iter(rows), global.output))
        }
        Output::Table | Output::Wide if stat.services.is_empty() => Done {
            notes: vec!["No traffic found.".to_owned()],
            ..Done::default()
        },
        Output::Table | Output::Wide => Done {
            notes: doubts(stat),
            ..Done::say(table(stat, global))
        },
    }
}

/// Callers that say more than the called side counted.
fn doubts(stat: &Stat) -> Vec<String> {
    let of_row = |row: &ServiceStat| {
        let doubtful: Vec<_> = row.callers.iter().filter(|c| c.is_doubtful()).collect();
        let line = |caller: &CallerStat| {
            format!(
                "Warning: {} reports {} successful calls of {}.{}, whose servers counted {} of it",
                caller.identity,
                caller.success,
                row.name,
                row.namespace,
                caller.received.unwrap_or_default()
            )
        };
        doubtful.into_iter().map(line).collect::<Vec<_>>()
    };
    stat.services.iter().flat_map(of_row).collect()
}

fn table(stat: &Stat, global: &Global) -> String {
    let mut head = vec![
        "NAME",
        "MESHED",
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P95",
        "LATENCY_P99",
        "TCP_CONN",
    ];
    if global.all_namespaces {
        head.insert(0, "NAMESPACE");
    }
    let row = |row: &ServiceStat| {
        let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let latency = |us: Option<u64>| cell(us.map(shown));
        let mut cells = Vec::new();
        if global.all_namespaces {
            cells.push(row.namespace.to_string());
        }
        cells.extend([
            row.name.to_string(),
            meshed(row),
            cell(success(row).map(|share| format!("{:.2}%", share * 100.0))),
            cell(success(row).map(|_| format!("{:.1}rps", rate(row, stat)))),
            latency(row.latency_us_p50),
            latency(row.latency_us_p95),
            latency(row.latency_us_p99),
            // A service has no connections: its endpoints have.
            cell(None),
        ]);
        cells
    };
    let rows: Vec<_> = stat.services.iter().map(row).collect();
    render::table(&head, &rows)
}

/// A row with Linkerd's names.
fn object(row: &ServiceStat, stat: &Stat) -> Value {
    json!({
        "namespace": row.namespace,
        "kind": "service",
        "name": row.name,
        "meshed": meshed(row),
        "success": success(row),
        "rps": success(row).map(|_| rate(row, stat)),
        "latency_ms_p50": row.latency_us_p50.map(millis),
        "latency_ms_p95": row.latency_us_p95.map(millis),
        "latency_ms_p99": row.latency_us_p99.map(millis),
        "tcp_open_connections": null,
        "counted_by": row.counted_by,
        "callers": row.callers,
    })
}

fn meshed(row: &ServiceStat) -> String {
    format!("{}/{}", row.meshed, row.endpoints)
}

/// The share that succeeded; `None` without a request.
fn success(row: &ServiceStat) -> Option<f64> {
    let all = row.success.saturating_add(row.failure);
    (all > 0).then(|| float(row.success) / float(all))
}

fn rate(row: &ServiceStat, stat: &Stat) -> f64 {
    float(row.success.saturating_add(row.failure)) / float(stat.window_seconds.max(1))
}

/// A latency of a table: what is faster than a millisecond is not told apart.
fn shown(micros: u64) -> String {
    if micros < 1_000 {
        return "<1ms".to_owned();
    }
    format!("{}ms", millis(micros))
}

/// Whole milliseconds, as Linkerd writes them, rounded up: nothing takes no time.
const fn millis(micros: u64) -> u64 {
    micros.div_ceil(1_000)
}

fn float(count: u64) -> f64 {
    // Counts of ten minutes are far below 2^32.
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_in_many_ways() {
        let shop: Label = "shop".parse().unwrap();
        let name = |text: &str| called(text, &shop).map(|name| name.to_string());
        for text in ["api", "api.shop", "svc/api", "service/api.shop"] {
            assert_eq!(name(text).unwrap(), "api.shop", "{text}");
        }
        for text in ["deploy/api", "", "svc/", "a.b.c"] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_sender_is_a_service_an_account_or_an_identity() {
        let shop: Label = "shop".parse().unwrap();
        let sender = |text: &str| source(text, &shop).map(|sender| sender.to_string());
        let web = "spiffe://mesh.local/ns/shop/sa/web";
        for (text, meant) in [
            ("api", "api.shop"),
            ("svc/api.other", "api.other"),
            ("other/web", "other/web"),
            (web, web),
        ] {
            assert_eq!(sender(text).unwrap(), meant);
        }
        for text in ["deploy/api", "server/api", "spiffe://", "a/b/c", "shop/"] {
            assert!(sender(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_faster_than_a_millisecond_is_not_told_apart() {
        let all = [0, 200, 999, 1_000, 1_001, 25_400].map(shown);
        assert_eq!(all, ["<1ms", "<1ms", "<1ms", "1ms", "2ms", "26ms"]);
    }
}
