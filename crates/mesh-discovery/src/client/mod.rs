//! Discovery's Rust client for administrators: what the `mesh` command and tests speak with.
//!
//! ```no_run
//! use mesh_discovery::client::{Client, Manifests};
//! use mesh_discovery::wire::TokenRequest;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let text = std::fs::read_to_string("mesh-data/admin.kubeconfig")?;
//! let client = Client::from_kubeconfig(&text)?;
//! let yaml = std::fs::read_to_string("mesh.yaml")?;
//! client.apply(&Manifests::new("mesh.yaml", &yaml)).await?;
//! let request = TokenRequest::new("shop".parse()?, "web".parse()?);
//! let token = client.create_token(&request).await?;
//! # Ok(())
//! # }
//! ```

mod credentials;
mod error;
pub mod kubeconfig;
mod paths;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode, header};
use mesh_policy::identity::{InvalidIdentity, TrustDomain};
use mesh_policy::manifest::Kind;
use mesh_policy::token::{InvalidToken, JoinToken};
use mesh_tls::config;
use mesh_tls::credentials::Credentials;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use self::credentials::of as read_credentials;
pub use self::error::ClientError;
use self::error::{Said, innermost};
use self::kubeconfig::Kubeconfig;
use self::paths::{collection_path, object_path, segment};
use crate::objects::{Mode, ObjectName};
use crate::wire::{
    Applied, Stat, StatQuery, TokenCreated, TokenList, TokenRequest, TokenSummary, UnreadableList,
    UnreadableRecord,
};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes: 64 MiB, a list of very many objects.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// YAML of objects, and what to call it in problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifests<'a> {
    file: &'a str,
    yaml: &'a str,
    mode: Mode,
}

impl<'a> Manifests<'a> {
    /// The text of `file`, to be applied.
    #[must_use]
    pub const fn new(file: &'a str, yaml: &'a str) -> Self {
        Self {
            file,
            yaml,
            mode: Mode::Write,
        }
    }

    /// Checks alone: nothing is written.
    #[must_use]
    pub const fn dry_run(self) -> Self {
        Self {
            mode: Mode::DryRun,
            ..self
        }
    }
}

/// A connection to discovery with an administrator's credentials. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    server: String,
    domain: TrustDomain,
}

impl Client {
    /// Uses the current context of a kubeconfig's text.
    ///
    /// # Errors
    ///
    /// [`ClientError::Kubeconfig`], [`ClientError::Credentials`], [`ClientError::Address`].
    pub fn from_kubeconfig(text: &str) -> Result<Self, ClientError> {
        Self::from_context(&Kubeconfig::parse(text, None)?)
    }

    /// Uses one context of a kubeconfig.
    ///
    /// # Errors
    ///
    /// [`ClientError::Credentials`], [`ClientError::Address`].
    pub fn from_context(kubeconfig: &Kubeconfig) -> Result<Self, ClientError> {
        let credentials =
            credentials::of(kubeconfig, SystemTime::now()).map_err(ClientError::Credentials)?;
        Self::new(&kubeconfig.server, &credentials)
    }

    /// The trust domain of the credentials, and so of the discovery that is believed.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Discovery's address.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Talks to discovery at `server`, such as `https://127.0.0.1:7800`, as `credentials` say.
    ///
    /// The server must prove to be discovery of the credentials' own trust domain; its
    /// host name does not matter.
    ///
    /// # Errors
    ///
    /// [`ClientError::Address`], [`ClientError::Credentials`].
    pub fn new(server: &str, credentials: &Credentials) -> Result<Self, ClientError> {
        let server = server.trim_end_matches('/').to_owned();
        let is_address = reqwest::Url::parse(&server)
            .is_ok_and(|url| url.scheme() == "https" && url.has_host() && url.path() == "/");
        if !is_address {
            return Err(ClientError::Address { server });
        }
        let tls = config::to_discovery(credentials);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| ClientError::Credentials(error.into()))?;
        let domain = credentials.identity().trust_domain().parse();
        let domain =
            domain.map_err(|error: InvalidIdentity| ClientError::Credentials(error.into()))?;
        Ok(Self {
            http,
            server,
            domain,
        })
    }

    /// Applies all of `manifests` at once, or nothing.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] with every problem of the file; the others as they come.
    pub async fn apply(&self, manifests: &Manifests<'_>) -> Result<Applied, ClientError> {
        let path = match manifests.mode {
            Mode::Write => "/v1/apply",
            Mode::DryRun => "/v1/apply?dryRun=All",
        };
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/yaml")
            .body(manifests.yaml.to_owned());
        let applied: Result<Applied, _> = self.json(request).await;
        let mut applied = applied.map_err(|error| match error {
            ClientError::Refused {
                message, problems, ..
            } => ClientError::Refused {
                message,
                file: manifests.file.to_owned(),
                problems,
            },
            error => error,
        })?;
        for warning in &mut applied.warnings {
            *warning = format!("{}:{warning}", manifests.file);
        }
        Ok(applied)
    }

    /// One object, in the newest version of its kind.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`]; the others as they come.
    pub async fn get(&self, name: &ObjectName) -> Result<Value, ClientError> {
        self.json(self.request(Method::GET, &object_path(name)?))
            .await
    }

    /// All objects of a kind, in one namespace or in all.
    ///
    /// # Errors
    ///
    /// As they come.
    pub async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
    ) -> Result<Vec<Value>, ClientError> {
        #[derive(serde::Deserialize)]
        struct List {
            items: Vec<Value>,
        }
        let path = collection_path(kind, namespace)?;
        let list: List = self.json(self.request(Method::GET, &path)).await?;
        Ok(list.items)
    }

    /// Removes one object.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`]; the others as they come.
    pub async fn delete(&self, name: &ObjectName) -> Result<(), ClientError> {
        self.answer(self.request(Method::DELETE, &object_path(name)?))
            .await?;
        Ok(())
    }

    /// Makes a join token.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] for an identity that no token may name; the others as they come.
    pub async fn create_token(&self, token: &TokenRequest) -> Result<JoinToken, ClientError> {
        let request = self
            .request(Method::POST, "/v1/tokens")
            .header(header::CONTENT_TYPE, "application/json")
            .body(serde_json::json!(token).to_string());
        let created: TokenCreated = self.json(request).await?;
        let token = created.token.parse();
        token.map_err(|error: InvalidToken| self.strange(&error))
    }

    /// The tokens that can still be used.
    ///
    /// # Errors
    ///
    /// As they come.
    pub async fn list_tokens(&self) -> Result<Vec<TokenSummary>, ClientError> {
        let list: TokenList = self.json(self.request(Method::GET, "/v1/tokens")).await?;
        Ok(list.tokens)
    }

    /// Makes a token useless; who has joined with it stays.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`]; the others as they come.
    pub async fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/v1/tokens/{}", segment(id)?);
        self.answer(self.request(Method::DELETE, &path)).await?;
        Ok(())
    }

    /// How services do, as their callers reported.
    ///
    /// # Errors
    ///
    /// As they come.
    pub async fn stat(&self, query: &StatQuery) -> Result<Stat, ClientError> {
        self.json(self.request(Method::GET, "/v1/stat").query(query))
            .await
    }

    /// What is stored and cannot be read by this version of discovery, of every kind.
    ///
    /// # Errors
    ///
    /// As they come.
    pub async fn unreadable(&self) -> Result<Vec<UnreadableRecord>, ClientError> {
        let list: UnreadableList = self
            .json(self.request(Method::GET, "/v1/unreadable"))
            .await?;
        Ok(list.records)
    }

    /// Removes such a record, as it was seen.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`]; [`ClientError::Conflict`] when it has changed or can be read;
    /// the others as they come.
    pub async fn remove_unreadable(&self, record: &UnreadableRecord) -> Result<(), ClientError> {
        let revision = record.revision.to_string();
        let request = self
            .request(Method::DELETE, "/v1/unreadable")
            .query(&[("key", &record.key), ("revision", &revision)]);
        self.answer(request).await?;
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.server))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        let body = self.answer(request).await?;
        serde_json::from_slice(&body).map_err(|error| self.strange(&error))
    }

    /// The body of an answer that says yes.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, ClientError> {
        let unreachable = |error| self.unreachable(error);
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let why = format!("its answer has more than {MAX_ANSWER_BYTES} bytes");
                return Err(self.strange(&why));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(body);
        }
        Err(self.refusal(status, Said::read(&body)))
    }

    fn refusal(&self, status: StatusCode, said: Said) -> ClientError {
        let message = match said.message.is_empty() {
            true => format!("discovery at {} answered {status}", self.server),
            false => said.message.clone(),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ClientError::NotPermitted { message }
            }
            StatusCode::NOT_FOUND => ClientError::NotFound { message },
            StatusCode::CONFLICT => ClientError::Conflict { message },
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR
                if said.by_discovery =>
            {
                ClientError::Failed {
                    server: self.server.clone(),
                    message,
                }
            }
            status if status.is_client_error() => ClientError::Refused {
                message,
                file: String::new(),
                problems: said.problems,
            },
            _ => self.strange(&message),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        let innermost = innermost(&error);
        if let Some(rustls::Error::AlertReceived(alert)) = innermost.downcast_ref() {
            let message = format!(
                "discovery at {} refused the certificate ({alert:?}): take the admin.kubeconfig \
                 of its last start",
                self.server
            );
            return ClientError::NotPermitted { message };
        }
        ClientError::Unreachable {
            server: self.server.clone(),
            why: innermost.to_string(),
            source: Some(error),
        }
    }

    /// What answers there does not speak as discovery does.
    fn strange(&self, why: &dyn Display) -> ClientError {
        ClientError::Unreachable {
            server: self.server.clone(),
            why: why.to_string(),
            source: None,
        }
    }
}
