//! `mesh token`: the rights to join.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mesh_discovery::client::ClientError;
use mesh_discovery::wire::{TokenRequest, TokenSummary};
use mesh_policy::duration::{self, InvalidDuration};
use mesh_policy::name::{Label, ServiceName};
use mesh_policy::token::JoinToken;
use serde_json::json;

use super::Done;
use crate::access::Access;
use crate::args::{Global, Output};
use crate::failure::Failure;
use crate::{files, render};

/// Bytes of a token's file; a token has some 120.
const MAX_TOKEN_BYTES: usize = 4096;
/// Characters of an id: nine bytes as base64.
const ID_LENGTH: usize = 12;
const NO_ID: &str = "what is to be revoked is no id of a token: write one that `mesh token list` \
    shows, or name a file that holds the whole token with --token-file";

/// Make, list and revoke tokens with which processes join.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token and print it, alone, on standard output
    Create(Create),
    /// List the tokens that can still be used
    List,
    /// Make a token useless; who has joined with it stays
    Revoke {
        /// The token's id, as `mesh token list` shows it.
        // Ids are base64, and some begin with a dash.
        #[arg(
            value_name = "ID",
            allow_hyphen_values = true,
            required_unless_present = "token_file",
            conflicts_with = "token_file"
        )]
        id: Option<String>,
        /// A file that holds the token itself, or - for standard input: on a command line, others
        /// would see it.
        #[arg(long, value_name = "FILE|-")]
        token_file: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Who joins with it: namespace and service account.
    #[arg(long, value_name = "NS/SA")]
    identity: Account,
    /// How long it can be used, at most 24h.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = time)]
    ttl: Duration,
    /// How many processes can join with it, at most 1000.
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// A service that its holder may serve; may be repeated. Without any: all of its namespace.
    #[arg(long = "serves", value_name = "NAME.NS")]
    serves: Vec<ServiceName>,
}

/// A service account, written `namespace/name`.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) namespace: Label,
    pub(crate) name: Label,
}

impl std::str::FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = text
            .split_once('/')
            .ok_or("write namespace/account, such as shop/web")?;
        let label = |text: &str| text.parse().map_err(|error| format!("{error}"));
        Ok(Self {
            namespace: label(namespace)?,
            name: label(name)?,
        })
    }
}

pub(crate) fn time(text: &str) -> Result<Duration, InvalidDuration> {
    duration::parse(text)
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<Done, Failure> {
    let client = Access::new(global)?.client;
    match args.command {
        Command::Create(create) => {
            let request = TokenRequest {
                ttl_seconds: create.ttl.as_secs(),
                uses: create.uses,
                serves: create.serves,
                ..TokenRequest::new(create.identity.namespace, create.identity.name)
            };
            let token = client.create_token(&request).await.map_err(usage)?;
            Ok(Done::say(format!("{}\n", token.reveal())))
        }
        Command::List => {
            let tokens = client.list_tokens().await?;
            Ok(Done::say(match global.output {
                Output::Table | Output::Wide => table(&tokens, SystemTime::now()),
                Output::Json | Output::Yaml => {
                    render::value(&json!({"tokens": tokens}), global.output)
                }
            }))
        }
        Command::Revoke { id, token_file } => {
            let id = match (id, token_file) {
                (Some(id), _) if is_id(&id) => id,
                (None, Some(file)) => read(&file)?.id().to_owned(),
                // It may be a secret, so it is not repeated.
                _ => return Err(Failure::Usage(NO_ID.to_owned())),
            };
            client.revoke_token(&id).await?;
            Ok(Done::say(format!("token {id} revoked\n")))
        }
    }
}

fn is_id(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    text.len() == ID_LENGTH && text.chars().all(known)
}

/// The token in a file, or with `-` on standard input.
pub(super) fn read(file: &Path) -> Result<JoinToken, Failure> {
    let refuse = |why: &str| {
        let name = file.display();
        let remedy = "name a file that holds what `mesh token create` printed";
        Failure::File(format!("{name}: {why}: {remedy}"))
    };
    let bytes = match file.as_os_str() == "-" {
        true => files::take(io::stdin().lock(), MAX_TOKEN_BYTES),
        false => File::open(file).and_then(|file| files::take(file, MAX_TOKEN_BYTES)),
    };
    let bytes = bytes.map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    // What is no token may still be a secret, so it is not repeated.
    let token = text.and_then(|text| text.trim().parse().ok());
    token.ok_or_else(|| refuse("holds no token"))
}

/// What discovery has against a token was asked for on the command line.
fn usage(error: ClientError) -> Failure {
    match error {
        ClientError::Refused { message, .. } => Failure::Usage(message),
        error => error.into(),
    }
}

fn table(tokens: &[TokenSummary], now: SystemTime) -> String {
    let now = now.duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let rows: Vec<_> = tokens
        .iter()
        .map(|token| {
            let serves: Vec<_> = token.serves.iter().map(ToString::to_string).collect();
            let serves = match serves.is_empty() {
                true => "(its namespace)".to_owned(),
                false => serves.join(","),
            };
            let left = Duration::from_secs(token.expires.saturating_sub(now));
            vec![
                token.id.clone(),
                token.identity.to_string(),
                serves,
                token.uses_left.to_string(),
                super::get::age(left),
            ]
        })
        .collect();
    render::table(
        &["ID", "IDENTITY", "SERVES", "USES-LEFT", "EXPIRES-IN"],
        &rows,
    )
}
