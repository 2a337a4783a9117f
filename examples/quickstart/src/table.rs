//! The live table.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::numbers::{Backend, Numbers};

/// One frame of the table.
pub struct Frame<'a> {
    /// Since the start, by backend.
    pub total: &'a Numbers,
    /// In the last interval, by backend.
    pub recent: &'a BTreeMap<String, Backend>,
    /// How long the interval was.
    pub interval: Duration,
    /// Refused calls of the intruder.
    pub denied: u64,
    /// What stands below the table.
    pub footer: &'a str,
}

/// Draws a frame over the last one, or below it where there is no terminal.
pub fn draw(frame: &Frame<'_>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        write!(out, "\x1b[H\x1b[J")?;
    }
    writeln!(out, "{}\n\n{}", text(frame), frame.footer)?;
    out.flush()
}

fn text(frame: &Frame<'_>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "FROM", "SERVICE", "BACKEND", "SHARE", "SUCCESS", "RPS", "P50", "P95", "P99", "MTLS",
        "RETRIES", "DENIED",
    ]);
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let backends = &frame.total.backends;
    let answered: f64 = backends.values().map(|backend| backend.answered).sum();
    for (name, recent) in frame.recent {
        let whole = &backends[name];
        table.add_row([
            "web".to_owned(),
            "api.shop".to_owned(),
            name.clone(),
            percent(whole.answered, answered),
            percent(recent.succeeded, recent.answered),
            format!("{:.1}", recent.answered / frame.interval.as_secs_f64()),
            milliseconds(recent, 0.5),
            milliseconds(recent, 0.95),
            milliseconds(recent, 0.99),
            percent(recent.over_mtls, recent.answered),
            "-".to_owned(),
            "0".to_owned(),
        ]);
    }
    // Retries are of the service: each draws its backend anew.
    let retries = frame.total.retries.sent.to_string();
    table.add_row(of_service("web", retries, "0".to_owned()));
    let denied = frame.denied.to_string();
    table.add_row(of_service("intruder", "-".to_owned(), denied));
    table
}

fn of_service(from: &str, retries: String, denied: String) -> Vec<String> {
    let mut row = vec![from.to_owned(), "api.shop".to_owned()];
    row.extend(std::iter::repeat_n("-".to_owned(), 8));
    row.extend([retries, denied]);
    row
}

fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 {
        format!("{:.2}%", 100.0 * part / whole)
    } else {
        "-".to_owned()
    }
}

fn milliseconds(backend: &Backend, share: f64) -> String {
    if backend.answered > 0.0 {
        format!("{:.1}ms", backend.quantile(share))
    } else {
        "-".to_owned()
    }
}
