//! Joining the mesh for the time of a few requests.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use mesh_core::config::{Shutdown, TokenSource};
use mesh_core::mesh::JoinError;
use mesh_core::{Config, Mesh};
use mesh_discovery::client::ClientError;
use mesh_discovery::wire::TokenRequest;
use mesh_policy::token::JoinToken;

use crate::access::{Access, kubeconfig};
use crate::args::Global;
use crate::commands::token::{self as tokens, Account};
use crate::failure::Failure;

/// How long the token that is made for it can be used: it is used at once.
const TOKEN_TTL_SECONDS: u64 = 60;
/// Who calls where nobody is named.
const NOBODY_NAMED: &str = "mesh-curl";

/// Who calls.
pub(super) enum Who {
    /// A service account, by a token that an administrator makes; none means `mesh-curl`.
    Account(Option<Account>),
    /// Whoever the token in this file is for.
    Token {
        file: PathBuf,
        discovery: Option<Uri>,
    },
}

/// Joins as `who`, within `limit`.
pub(super) async fn join(who: Who, limit: Duration, global: &Global) -> Result<Mesh, Failure> {
    let (token, discovery) = match who {
        Who::Account(account) => {
            let access = Access::new(global)?;
            let token = token(&access, account).await?;
            (token, address(access.client.server())?)
        }
        Who::Token { file, discovery } => {
            let discovery = match discovery {
                Some(discovery) => discovery,
                None => address(&kubeconfig(global)?.server)?,
            };
            (tokens::read(&file)?, discovery)
        }
    };
    let config = Config {
        discovery: vec![discovery.clone()],
        token: Some(TokenSource::Given(token)),
        name: Some(format!("mesh-curl-{}", std::process::id())),
        admin: None,
        join_timeout: Some(limit),
        shutdown: Shutdown::Manual,
        ..Config::default()
    };
    Mesh::join(config).await.map_err(|error| match error {
        JoinError::TimedOut { .. } => Failure::NotJoined {
            discovery: discovery.to_string(),
            source: Box::new(error),
        },
        error => error.into(),
    })
}

async fn token(access: &Access, account: Option<Account>) -> Result<JoinToken, Failure> {
    let account = account.unwrap_or_else(|| Account {
        namespace: access.namespace.clone(),
        name: NOBODY_NAMED.parse().expect("it is a DNS label"),
    });
    let request = TokenRequest {
        ttl_seconds: TOKEN_TTL_SECONDS,
        ..TokenRequest::new(account.namespace, account.name)
    };
    let token = access.client.create_token(&request).await;
    token.map_err(|error| match error {
        ClientError::Refused { message, .. } => Failure::Usage(message),
        error => error.into(),
    })
}

fn address(server: &str) -> Result<Uri, Failure> {
    let address = server.parse();
    address.map_err(|_| {
        let server = server.to_owned();
        ClientError::Address { server }.into()
    })
}
