//! The live table, at most 80 columns wide, drawn over its last frame.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement};

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

/// What stands on the terminal.
#[derive(Debug, Default)]
pub struct Table {
    /// Lines of the last frame.
    lines: usize,
}

impl Table {
    /// Draws a frame over the last one, or below it where there is no terminal.
    pub fn draw(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let is_terminal = out.is_terminal();
        // Without a terminal the footer stands below the first frame alone.
        let text = match is_terminal || self.lines == 0 {
            true => format!("{}\n\n{}\n", text(frame), frame.footer),
            false => format!("{}\n", text(frame)),
        };
        if is_terminal && self.lines > 0 {
            // Up to the first line of the last frame, and clear from there.
            write!(out, "\r\x1b[{}A\x1b[J", self.lines)?;
        }
        self.lines = text.lines().count();
        write!(out, "{text}")?;
        out.flush()
    }
}

/// Writes a line; a reader that has gone, as of `| head`, is no error.
pub fn line(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line for people beside the output; a terminal that has gone reads none.
pub fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

fn text(frame: &Frame<'_>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "CALLER", "TO", "SHARE", "SUCCESS", "RPS", "P50", "P95", "P99", "MTLS", "RETRIES", "DENIED",
    ]);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    // Retries are of the service: each draws its backend anew.
    let retries = frame.total.retries.sent.to_string();
    table.add_row(of_service("web", retries, "0".to_owned()));
    let backends = &frame.total.backends;
    let answered = backends.values().map(|backend| backend.answered).sum();
    for (name, recent) in frame.recent {
        let whole = &backends[name];
        table.add_row([
            "web".to_owned(),
            name.clone(),
            percent(whole.answered, answered, 1),
            percent(recent.succeeded, recent.answered, 2),
            rate(recent.answered / frame.interval.as_secs_f64()),
            milliseconds(recent, 0.5),
            milliseconds(recent, 0.95),
            milliseconds(recent, 0.99),
            percent(recent.over_mtls, recent.answered, 0),
            "-".to_owned(),
            "-".to_owned(),
        ]);
    }
    let denied = frame.denied.to_string();
    table.add_row(of_service("intruder", "-".to_owned(), denied));
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn of_service(from: &str, retries: String, denied: String) -> Vec<String> {
    let mut row = vec![from.to_owned(), "api.shop".to_owned()];
    row.extend(std::iter::repeat_n("-".to_owned(), 7));
    row.extend([retries, denied]);
    row
}

fn percent(part: f64, whole: f64, decimals: usize) -> String {
    if whole > 0.0 {
        format!("{:.decimals$}%", 100.0 * part / whole)
    } else {
        "-".to_owned()
    }
}

fn rate(rps: f64) -> String {
    let decimals = usize::from(rps < 1_000.0);
    format!("{rps:.decimals$}")
}

/// A quantile; below the end of the first bucket the histogram knows no more than the bound.
fn milliseconds(backend: &Backend, share: f64) -> String {
    match backend.quantile(share) {
        Some(quantile) if quantile.in_first_bucket => format!("<{:.0}ms", quantile.milliseconds),
        Some(quantile) => {
            let decimals = usize::from(quantile.milliseconds < 10.0);
            format!("{:.decimals$}ms", quantile.milliseconds)
        }
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Retries;

    #[test]
    fn the_table_fits_80_columns_and_does_not_invent_a_latency() {
        let fast = Backend {
            succeeded: 99_999.0,
            answered: 100_000.0,
            over_mtls: 100_000.0,
            latency: [(1, 90_000.0), (200, 100_000.0)].into(),
        };
        let backends: BTreeMap<_, _> = [("api-stable".to_owned(), fast)].into();
        let total = Numbers {
            backends: backends.clone(),
            retries: Retries {
                sent: 1_000_000,
                ..Retries::default()
            },
        };
        let text = text(&Frame {
            total: &total,
            recent: &backends,
            interval: Duration::from_secs(1),
            denied: 100_000,
            footer: "",
        });
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{text}");
        assert!(text.contains("<1ms"), "{text}");
        assert!(text.contains("200ms") || text.contains("100ms"), "{text}");
    }
}
