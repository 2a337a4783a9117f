//! The terminal: the only place that writes to it.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes to standard output; whether anybody reads on.
///
/// Whoever reads may have seen enough (`| head`), which is no error.
///
/// # Errors
///
/// It cannot be written.
pub(crate) fn out(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Output(error)),
    }
}

/// Writes lines to standard error.
pub(crate) fn notes(lines: &[String]) {
    let mut err = io::stderr().lock();
    for line in lines {
        drop(writeln!(err, "{line}"));
    }
}
