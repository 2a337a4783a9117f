//! `mesh token`: the rights to join.

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
use crate::render;

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
        /// The token's id, as `mesh token list` shows it, or the token itself.
        // Ids are base64, and some begin with a dash.
        #[arg(value_name = "ID", allow_hyphen_values = true)]
        id: String,
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

fn time(text: &str) -> Result<Duration, InvalidDuration> {
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
        Command::Revoke { id } => {
            // The whole token does as well: its id is what is left of it here.
            let token = id.parse::<JoinToken>();
            let id = token.map_or(id, |token| token.id().to_owned());
            client.revoke_token(&id).await?;
            Ok(Done::say(format!("token {id} revoked\n")))
        }
    }
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
