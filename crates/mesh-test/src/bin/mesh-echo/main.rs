//! `mesh-echo`: the workload of examples and tests; it answers with what it was asked.
#![expect(clippy::print_stderr, reason = "a program talks on its terminal")]

mod echo;
mod failure;
mod flags;
mod program;

use std::process::ExitCode;

use clap::Parser;

use crate::failure::{EX_USAGE, Failure};
use crate::flags::Flags;

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // Help and version are no errors. If the terminal is gone, nobody is there to tell.
            drop(error.print());
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)
        .and_then(|runtime| runtime.block_on(program::run(&flags)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("mesh-echo: {}", failure::chain(&failure));
            ExitCode::from(failure.exit_code())
        }
    }
}
