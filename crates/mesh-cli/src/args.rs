//! The command line: what stands before every command, and the list of commands.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use mesh_policy::name::Label;

use crate::commands::{apply, curl, delete, explain, get, stat, token, validate};
use crate::examples;

/// Operates a mesh: tokens, policy, and requests through the real client stack.
///
/// Exit codes: 0 done; 1 the answer is no (not found, denied, a request failed); 64 wrong usage;
/// 65 bad input file; 69 discovery unreachable; 74 output that cannot be written; 77 not permitted; 78 bad configuration.
#[derive(Debug, Parser)]
#[command(name = "mesh", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The administrator's credentials; without it, `MESH_KUBECONFIG`, and without that,
    /// ./mesh-data/admin.kubeconfig.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; without it, its current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The namespace; without it, the one of the context.
    #[arg(short, long, global = true, value_name = "NS")]
    pub(crate) namespace: Option<Label>,
    /// All namespaces.
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// The form of the output.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Wide,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make, list and revoke tokens with which processes join
    #[command(after_help = examples::TOKEN)]
    Token(token::Args),
    /// Apply files of policy, all or nothing
    #[command(after_help = examples::APPLY)]
    Apply(apply::Args),
    /// Show what is applied
    #[command(after_help = examples::GET)]
    Get(get::Args),
    /// Show how services do: success rate, requests a second, latency
    #[command(after_help = examples::STAT)]
    Stat(stat::Args),
    /// Delete what is applied
    #[command(after_help = examples::DELETE)]
    Delete(delete::Args),
    /// Check files of policy without a server
    #[command(after_help = examples::VALIDATE)]
    Validate(validate::Args),
    /// Explain why a request goes where it goes, and whether it may, from files alone
    #[command(after_help = examples::EXPLAIN)]
    Explain(Box<explain::Args>),
    /// Send requests through the mesh, and tell what was decided
    #[command(after_help = examples::CURL)]
    Curl(Box<curl::Args>),
    /// Print the version
    Version,
}
