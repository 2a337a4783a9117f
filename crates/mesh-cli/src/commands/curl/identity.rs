//! Joining the mesh for the time of a few requests.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use mesh_core::config::{Shutdown, TokenSource};
use mesh_core::{Config, Mesh};
use mesh_discovery::client::ClientError;
use mesh_discovery::wire::TokenRequest;
use mesh_policy::token::JoinToken;

use crate::access::{Access, kubeconfig};
use crate::args::Global;
use crate::commands::token::Account;
use crate::failure::Failure;
use crate::files;

/// How long joining may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the token that is made for it can be used: it is used at once.
const TOKEN_TTL_SECONDS: u64 = 60;
/// Who calls where nobody is named.
const NOBODY_NAMED: &str = "mesh-curl";
/// Bytes of a token's file; a token has some 120.
const MAX_TOKEN_BYTES: usize = 4096;

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

/// Joins as `who`.
pub(super) async fn join(who: Who, global: &Global) -> Result<Mesh, Failure> {
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
            (read(&file)?, discovery)
        }
    };
    let config = Config {
        discovery: vec![discovery],
        token: Some(TokenSource::Given(token)),
        name: Some(format!("mesh-curl-{}", std::process::id())),
        admin: None,
        join_timeout: Some(JOIN_TIMEOUT),
        shutdown: Shutdown::Manual,
        ..Config::default()
    };
    Ok(Mesh::join(config).await?)
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

fn read(file: &Path) -> Result<JoinToken, Failure> {
    let refuse = |why: &str| {
        let name = file.display();
        let remedy = "name a file that holds what `mesh token create` printed";
        Failure::Input(format!("{name}: {why}: {remedy}"))
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
