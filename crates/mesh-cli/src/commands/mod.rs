//! The commands, one a module: `Args` as clap reads them, and `run`.

pub(crate) mod apply;
pub(crate) mod curl;
pub(crate) mod delete;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod stat;
pub(crate) mod token;
mod unreadable;
pub(crate) mod validate;
mod version;

use crate::args::{Cli, Command};
use crate::failure::Failure;

/// What a command has to say when it did what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// For standard output.
    pub(crate) out: Vec<u8>,
    /// Lines for standard error.
    pub(crate) notes: Vec<String>,
    /// 0, or 1 where the answer is no.
    pub(crate) exit: u8,
}

impl Done {
    /// All went well, and this is to be said.
    pub(crate) fn say(out: impl Into<Vec<u8>>) -> Self {
        Self {
            out: out.into(),
            ..Self::default()
        }
    }
}

/// Runs a command.
pub(crate) async fn run(cli: Cli) -> Result<Done, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Token(args) => token::run(args, global).await,
        Command::Apply(args) => apply::run(args, global).await,
        Command::Get(args) => get::run(args, global).await,
        Command::Stat(args) => stat::run(args, global).await,
        Command::Delete(args) => delete::run(args, global).await,
        Command::Validate(args) => validate::run(&args, global),
        Command::Explain(args) => explain::run(*args, global),
        Command::Curl(args) => Box::pin(curl::run(*args, global)).await,
        Command::Version => Ok(version::run(global)),
    }
}
