//! The terminal: the only place that writes to it.

use std::io::{self, Write};

/// Writes to standard output. Whoever reads it may have seen enough (`| head`), which is no error.
pub(crate) fn out(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    drop(out.write_all(bytes).and_then(|()| out.flush()));
}

/// Writes one table of many.
///
/// # Errors
///
/// Nobody reads any more.
pub(crate) fn frame(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes lines to standard error.
pub(crate) fn notes(lines: &[String]) {
    let mut err = io::stderr().lock();
    for line in lines {
        drop(writeln!(err, "{line}"));
    }
}
