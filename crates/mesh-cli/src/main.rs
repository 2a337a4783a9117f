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
mod examples;
mod failure;
mod files;
mod manifests;
mod print;
mod render;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use crate::args::Cli;
use crate::commands::Done;
use crate::failure::{EX_USAGE, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if !error.use_stderr() {
                // Help and version are no errors.
                let text = error.render();
                let text = match std::io::stdout().is_terminal() {
                    true => text.ansi().to_string(),
                    false => text.to_string(),
                };
                return ended(Ok(Done::say(text)));
            }
            if let Some(text) = later(&error).or_else(|| without_flag(&error)) {
                print::notes(&[text]);
                return ExitCode::from(EX_USAGE);
            }
            // If the terminal is gone, nobody is there to tell.
            drop(error.print());
            return ExitCode::from(EX_USAGE);
        }
    };
    log();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)
        .and_then(|runtime| runtime.block_on(commands::run(cli)));
    ended(done)
}

/// What to say where the command comes with a later version.
fn later(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(command) => examples::not_in_this_version(command),
        _ => None,
    }
}

/// What to say where a file stands on the command line without `-f`.
fn without_flag(error: &clap::Error) -> Option<String> {
    let ContextValue::String(word) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    let command = std::env::args().nth(1)?;
    let reads = ["apply", "validate", "explain"].contains(&command.as_str());
    let unexpected = error.kind() == clap::error::ErrorKind::UnknownArgument;
    let file = reads && unexpected && !word.starts_with("--");
    file.then(|| {
        format!(
            "mesh: {word:?} is unexpected: a file is named with -f, as in mesh {command} -f {word}"
        )
    })
}

/// Says what there is to say.
fn ended(done: Result<Done, Failure>) -> ExitCode {
    let said = done.and_then(|done| {
        print::notes(&done.notes);
        print::out(&done.out)?;
        Ok(done.exit)
    });
    match said {
        Ok(exit) => ExitCode::from(exit),
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
