//! A reason becomes a certificate.
//!
//! Identity comes from the attestation alone; of the signing request only the key
//! counts. The use of a token and the record of what was issued for it are one
//! commit, so that no crash and no race makes two of one (J02, J03). A process whose
//! answer was lost asks again with the same key and gets the same certificate, also
//! when its token has expired since. Only what was committed is logged as issued.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_policy::identity::Identity;
use mesh_policy::plan::enrol::EnrolResponse;
use mesh_policy::token::{JoinToken, RootHash};
use mesh_tls::issuer::{Issued, Issuer, IssuingRefused, Template};
use mesh_tls::request::{InvalidRequest, SigningRequest};
use serde::{Deserialize, Serialize};

use super::grant::{self, Grant};
use super::token::{self, REPLAY, TokenRecord, UselessToken, seconds};
use crate::store::decode::{self, NotRead, Undecodable};
use crate::store::{CommitError, Expect, SharedStore, Unavailable, Write};

/// How often a commit that lost against another replica is decided anew.
const ATTEMPTS: usize = 16;
/// The prefix of answers that can be asked for again: `issued/<token>/<key>`.
pub(crate) const ISSUED: &str = "issued/";

/// Issues certificates.
#[derive(Debug)]
pub(crate) struct Enroller {
    store: SharedStore,
    issuer: Arc<Issuer>,
    root: RootHash,
    ttl: Duration,
    /// Within one replica uses of tokens wait for each other, instead of each deciding anew.
    turn: tokio::sync::Mutex<()>,
}

/// What an enrolment came to.
#[derive(Debug)]
pub(crate) enum Enrolled {
    /// A certificate that nobody had before.
    Issued(EnrolResponse),
    /// The one that the same key got a moment ago.
    Repeated(EnrolResponse),
}

/// A certificate that nobody was told of yet.
#[derive(Debug)]
struct Signed {
    response: EnrolResponse,
    serial: String,
    /// SHA-256 of the public key, in hexadecimal.
    key: String,
}

impl Signed {
    /// Tells the log of it, once it is certain that it goes out.
    fn issued(self) -> Enrolled {
        let Self {
            response,
            serial,
            key,
        } = self;
        let EnrolResponse {
            identity,
            not_after,
            now,
            ..
        } = &response;
        tracing::info!(%identity, serial, key, now, not_after, "a certificate was issued");
        Enrolled::Issued(response)
    }
}

/// What was issued for a token, kept as long as it can be asked for again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IssuedRecord {
    /// In seconds since the Unix epoch.
    at: u64,
    response: EnrolResponse,
}

impl Enroller {
    pub(crate) fn new(
        store: SharedStore,
        issuer: Arc<Issuer>,
        root: RootHash,
        ttl: Duration,
    ) -> Self {
        Self {
            store,
            issuer,
            root,
            ttl,
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// A certificate for who shows a join token.
    pub(crate) async fn join(
        &self,
        token: &str,
        csr: &[u8],
        now: SystemTime,
    ) -> Result<Enrolled, EnrolError> {
        let token: JoinToken = token.parse().map_err(|_| UselessToken::Malformed)?;
        if *token.root() != self.root {
            return Err(UselessToken::OtherRoot.into());
        }
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS {
            match self.try_join(&token, csr, now).await {
                Err(EnrolError::Refused(CommitError::Conflict(_))) => {}
                decided => return decided,
            }
        }
        Err(EnrolError::Busy)
    }

    async fn try_join(
        &self,
        token: &JoinToken,
        csr: &[u8],
        now: SystemTime,
    ) -> Result<Enrolled, EnrolError> {
        let found = self.store.get(&token::key(token.id())).await?;
        let found = found.ok_or(UselessToken::Unknown)?;
        let record = TokenRecord::from_json(&found.value).ok_or(UselessToken::Unreadable)?;
        record.check_secret(token)?;
        let request = SigningRequest::from_der(csr)?;
        let issued_key = issued_key(token.id(), &request.public_key_hash());
        // Before the token's end and uses: what was given once is the asker's already.
        if let Some(response) = self.replay(&issued_key, now).await? {
            let identity = &response.identity;
            tracing::info!(%identity, "a lost answer to an enrolment was repeated");
            return Ok(Enrolled::Repeated(response));
        }
        record.check_end(seconds(now))?;
        let used = record.used()?;

        let signed = self.sign(&record.identity, &request, now)?;
        let issued = IssuedRecord {
            at: seconds(now),
            response: signed.response.clone(),
        };
        let issued_json = serde_json::to_vec(&issued).expect("a record has string keys");
        let writes = vec![
            Write::put(found.key, used.to_json()).expecting(Expect::Revision(found.revision)),
            // One key that joins again after its minute takes another use of the token.
            Write::put(issued_key, issued_json),
            self.grant(&record).await?,
        ];
        self.store.commit(writes).await?;
        Ok(signed.issued())
    }

    /// The certificate that this key got for this token a moment ago.
    async fn replay(
        &self,
        issued_key: &str,
        now: SystemTime,
    ) -> Result<Option<EnrolResponse>, EnrolError> {
        let issued = decode::find::<IssuedRecord>(&*self.store, issued_key).await?;
        let now = seconds(now);
        let issued = issued.map(|(issued, _)| issued);
        let fresh = issued.filter(|issued| now < issued.at.saturating_add(REPLAY.as_secs()));
        Ok(fresh.map(|issued| EnrolResponse {
            now,
            ..issued.response
        }))
    }

    /// Adds what the token grants to what the identity may serve already.
    async fn grant(&self, token: &TokenRecord) -> Result<Write, EnrolError> {
        let key = grant::key(&token.identity, self.issuer.domain());
        let key = key.ok_or_else(|| EnrolError::UnknownIdentity(token.identity.clone()))?;
        let (before, expect) = match decode::find(&*self.store, &key).await? {
            None => (Grant::default(), Expect::Absent),
            Some((grant, revision)) => (grant, Expect::Revision(revision)),
        };
        let after = before.with(&Grant::of_token(&token.serves));
        let json = serde_json::to_vec(&after).expect("a grant has string keys");
        Ok(Write::put(key, json).expecting(expect))
    }

    /// A certificate for who has one already: the same identity, and the key of `csr`.
    pub(crate) async fn renew(
        &self,
        identity: &Identity,
        csr: &[u8],
        now: SystemTime,
    ) -> Result<Enrolled, EnrolError> {
        let known = grant::find(&*self.store, identity, self.issuer.domain()).await?;
        if known.is_none() {
            return Err(EnrolError::UnknownIdentity(identity.clone()));
        }
        let signed = self.sign(identity, &SigningRequest::from_der(csr)?, now)?;
        Ok(signed.issued())
    }

    fn sign(
        &self,
        identity: &Identity,
        request: &SigningRequest,
        now: SystemTime,
    ) -> Result<Signed, EnrolError> {
        let template = Template {
            ttl: self.ttl,
            ..Template::default()
        };
        let Issued {
            chain,
            serial,
            not_after,
        } = self.issuer.issue(request, identity, &template, now)?;
        let anchors = self.issuer.bundle().certificates();
        Ok(Signed {
            response: EnrolResponse {
                identity: identity.clone(),
                chain: chain.iter().map(|der| STANDARD.encode(der)).collect(),
                anchors: anchors.iter().map(|der| STANDARD.encode(der)).collect(),
                not_after: seconds(not_after),
                now: seconds(now),
            },
            serial,
            key: hex(&request.public_key_hash()),
        })
    }

    /// Forgets what cannot be asked for again.
    pub(crate) async fn sweep(&self, now: SystemTime) -> Result<(), EnrolError> {
        let before = seconds(now).saturating_sub(REPLAY.as_secs());
        let listing = self.store.list(ISSUED).await?;
        let old = listing.records.into_iter().filter(|record| {
            decode::decode::<IssuedRecord>(record).is_ok_and(|issued| issued.at < before)
        });
        let writes = old
            .map(|record| Write::delete(record.key).expecting(Expect::Revision(record.revision)));
        self.store.commit(writes.collect()).await?;
        Ok(())
    }
}

fn issued_key(token: &str, key: &RootHash) -> String {
    format!("{ISSUED}{token}/{}", hex(key))
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
        text
    })
}

/// Why nobody got a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    /// The one text for every useless token; its source is for the log alone.
    #[error(
        "the join token is refused: it may be mistyped, expired, used already, revoked, or made by another discovery; make a new one with `mesh token create`"
    )]
    Token(#[from] UselessToken),
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    #[error(
        "{0} is not known here (a memory store forgets when discovery restarts): join again with a token"
    )]
    UnknownIdentity(Identity),
    #[error("no certificate can be issued: see the server's log")]
    Issuer(#[from] IssuingRefused),
    #[error("others joined with this token at the same time, again and again: try again")]
    Busy,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Unreadable(#[from] Undecodable),
    #[error("the store refused the commit: try again")]
    Refused(#[source] CommitError),
}

impl From<NotRead> for EnrolError {
    fn from(error: NotRead) -> Self {
        match error {
            NotRead::Unavailable(error) => Self::Unavailable(error),
            NotRead::Undecodable(error) => Self::Unreadable(error),
        }
    }
}

impl From<CommitError> for EnrolError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unavailable(error) => Self::Unavailable(error),
            error => Self::Refused(error),
        }
    }
}
