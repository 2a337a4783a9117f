//! The `mesh` command.
//!
//! ```text
//!  args ─▶ commands/<name>.rs ─▶ Done    ─▶ stdout, stderr, exit code
//!              │      │     └──▶ Failure ─▶ what failed, why, what to do
//!         manifests  access
//!         (files)    (credentials, discovery)
//! ```
//!
//! A command gives what it has to say, and prints nothing itself; here it is printed.

mod access;
mod args;
mod commands;
mod failure;
mod files;
mod manifests;
mod print;
mod render;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::failure::{EX_USAGE, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors. If the terminal is gone, nobody is there to tell.
            drop(error.print());
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    log();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)
        .and_then(|runtime| runtime.block_on(commands::run(cli)));
    match ended {
        Ok(done) => {
            print::notes(&done.notes);
            print::out(&done.out);
            ExitCode::from(done.exit)
        }
        Err(failure) => {
            print::notes(&[failure::text(&failure)]);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Nothing is logged unless somebody asks with `RUST_LOG`: what matters is said as an error.
fn log() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
}
