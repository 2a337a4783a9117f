//! The right to join: made by an admin, shown once by a process, kept as a hash.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use mesh_policy::identity::{Identity, SYSTEM_NAMESPACE, TrustDomain};
use mesh_policy::name::ServiceName;
use mesh_policy::token::{JoinToken, RootHash};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::store::{CommitError, Expect, SharedStore, Unavailable, Write};
use crate::wire::{TokenList, TokenRequest, TokenSummary};

/// The longest life of a token: 24 hours.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// How many processes one token can let in.
pub const MAX_USES: u32 = 1000;
/// How many services one token can name.
pub const MAX_SERVES: usize = 64;
/// How many tokens there can be at a time.
pub const MAX_TOKENS: usize = 10_000;
/// How long the same key gets the same certificate again for a token, used up or ended meanwhile.
pub(super) const REPLAY: Duration = Duration::from_secs(60);

/// The prefix of join tokens: `tokens/<id>`.
pub(crate) const TOKENS: &str = "tokens/";

pub(crate) fn key(id: &str) -> String {
    format!("{TOKENS}{id}")
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub(crate) identity: Identity,
    pub(crate) serves: Vec<ServiceName>,
    /// SHA-256 of the secret.
    secret: [u8; 32],
    pub(crate) uses_left: u32,
    /// In seconds since the Unix epoch.
    expires: u64,
    /// What a newer version wrote beside, to be kept when this one writes.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Why a token lets nobody in. Only the log tells it apart: a client that learns which it was
/// can search for tokens (J01).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UselessToken {
    #[error("it does not read")]
    Malformed,
    #[error("there is no token of this id: it was never made, was revoked, or ended long ago")]
    Unknown,
    #[error("what is stored of it cannot be read by this version")]
    Unreadable,
    #[error("its secret is wrong")]
    WrongSecret,
    #[error("it was made by another discovery: it carries another root")]
    OtherRoot,
    #[error("it has expired")]
    Expired,
    #[error("it was used as often as it may be")]
    UsedUp,
}

impl TokenRecord {
    /// Whether `token` is this one; its end and its uses are other questions.
    pub(super) fn check_secret(&self, token: &JoinToken) -> Result<(), UselessToken> {
        if same(&token.secret_hash(), &self.secret) {
            Ok(())
        } else {
            Err(UselessToken::WrongSecret)
        }
    }

    /// Whether it still lives at `now`.
    pub(super) fn check_end(&self, now: u64) -> Result<(), UselessToken> {
        if now < self.expires {
            Ok(())
        } else {
            Err(UselessToken::Expired)
        }
    }

    /// The record after one more use.
    pub(crate) fn used(&self) -> Result<Self, UselessToken> {
        let uses_left = self.uses_left.checked_sub(1);
        let uses_left = uses_left.ok_or(UselessToken::UsedUp)?;
        Ok(Self {
            uses_left,
            ..self.clone()
        })
    }

    pub(crate) fn from_json(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has string keys")
    }
}

/// Compares in a time that does not depend on where the two differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a
        .iter()
        .zip(b)
        .fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    difference == 0
}

/// All tokens of one discovery.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    store: SharedStore,
    domain: TrustDomain,
    root: RootHash,
}

impl Tokens {
    pub(crate) const fn new(store: SharedStore, domain: TrustDomain, root: RootHash) -> Self {
        Self {
            store,
            domain,
            root,
        }
    }

    /// Makes a token. It is told here and never again.
    pub(crate) async fn create(
        &self,
        request: &TokenRequest,
        now: SystemTime,
    ) -> Result<(JoinToken, u64), TokenError> {
        check(request)?;
        if self.store.list(TOKENS).await?.records.len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        let (mut id, mut secret) = ([0; 9], [0; 32]);
        random(&mut id)?;
        random(&mut secret)?;
        let token = JoinToken::new(id, secret, self.root);
        let expires = seconds(now).saturating_add(request.ttl_seconds);
        let TokenRequest {
            namespace, account, ..
        } = request;
        let record = TokenRecord {
            identity: Identity::for_workload(&self.domain, namespace, account),
            serves: request.serves.clone(),
            secret: token.secret_hash(),
            uses_left: request.uses,
            expires,
            rest: Map::new(),
        };
        let write = Write::put(key(token.id()), record.to_json()).expecting(Expect::Absent);
        self.store.commit_for_admin(vec![write]).await?;
        tracing::info!(id = token.id(), identity = %record.identity, expires, "a join token was made");
        Ok((token, expires))
    }

    /// The tokens that can still be used, by id.
    pub(crate) async fn list(&self, now: SystemTime) -> Result<TokenList, Unavailable> {
        let now = seconds(now);
        let listing = self.store.list(TOKENS).await?;
        let usable = listing.records.iter().filter_map(|record| {
            let token = TokenRecord::from_json(&record.value)?;
            let id = record.key.strip_prefix(TOKENS)?.to_owned();
            (token.uses_left > 0 && token.expires > now).then_some(TokenSummary {
                id,
                identity: token.identity,
                serves: token.serves,
                uses_left: token.uses_left,
                expires: token.expires,
            })
        });
        Ok(TokenList {
            tokens: usable.collect(),
        })
    }

    /// Removes a token; whether there was one.
    pub(crate) async fn revoke(&self, id: &str) -> Result<bool, TokenError> {
        let Some(record) = self.store.get(&key(id)).await? else {
            return Ok(false);
        };
        self.store
            .commit_for_admin(vec![Write::delete(record.key)])
            .await?;
        tracing::info!(id, "a join token was revoked");
        Ok(true)
    }

    /// Removes the tokens that ended before `now`, and whose last answer nobody can ask for again.
    /// A token that cannot be read may be a newer version's and good: it is left alone.
    pub(crate) async fn sweep(&self, now: SystemTime) -> Result<(), TokenError> {
        let now = seconds(now);
        let listing = self.store.list(TOKENS).await?;
        let ended = listing.records.into_iter().filter(|record| {
            TokenRecord::from_json(&record.value)
                .is_some_and(|token| token.expires.saturating_add(REPLAY.as_secs()) <= now)
        });
        let writes = ended
            .map(|record| Write::delete(record.key).expecting(Expect::Revision(record.revision)));
        self.store.commit(writes.collect()).await?;
        Ok(())
    }
}

fn check(request: &TokenRequest) -> Result<(), TokenError> {
    if request.namespace.as_str() == SYSTEM_NAMESPACE {
        return Err(TokenError::Reserved);
    }
    if !(1..=MAX_TTL.as_secs()).contains(&request.ttl_seconds) {
        return Err(TokenError::Ttl {
            seconds: request.ttl_seconds,
        });
    }
    if !(1..=MAX_USES).contains(&request.uses) {
        return Err(TokenError::Uses { uses: request.uses });
    }
    if request.serves.len() > MAX_SERVES {
        return Err(TokenError::Serves {
            services: request.serves.len(),
        });
    }
    Ok(())
}

fn random(bytes: &mut [u8]) -> Result<(), TokenError> {
    let provider = mesh_tls::provider::provider();
    let filled = provider.secure_random.fill(bytes);
    filled.map_err(|_| TokenError::NoRandomNumbers)
}

/// Seconds since the Unix epoch.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Why no token was made or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The identities of the mesh itself cannot be had by a token.
    #[error("no token can name an identity in mesh-system: choose another namespace")]
    Reserved,
    /// The life is empty or too long.
    #[error(
        "a token cannot live {}: give between 1s and 24h, and 10m as a rule",
        mesh_policy::duration::format(Duration::from_secs(*seconds))
    )]
    Ttl {
        /// What was asked.
        seconds: u64,
    },
    /// It would let in nobody or everybody.
    #[error("a token cannot be used {uses} times: give between 1 and 1000")]
    Uses {
        /// What was asked.
        uses: u32,
    },
    /// It names too many services.
    #[error(
        "a token cannot name {services} services: name at most 64, or none for all of its namespace"
    )]
    Serves {
        /// How many were named.
        services: usize,
    },
    /// There are too many tokens.
    #[error("there are 10000 tokens already: revoke some, or wait until they expire")]
    TooMany,
    /// The system gives no random numbers.
    #[error("no token can be made: the system gives no random numbers")]
    NoRandomNumbers,
    /// The store cannot be read or written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The store refused the commit.
    #[error("the store refused the commit: try again")]
    Refused(#[source] CommitError),
}

impl From<CommitError> for TokenError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unavailable(error) => Self::Unavailable(error),
            error => Self::Refused(error),
        }
    }
}

#[cfg(test)]
mod tests;
