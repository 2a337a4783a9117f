//! A reason becomes a certificate.
//!
//! Identity comes from the attestation alone; of the signing request only the key
//! counts. The use of a token and the record of what was issued for it are one
//! commit, so that no crash and no race makes two of one (J02, J03). A process whose
//! answer was lost asks again with the same key and gets the same certificate, also
//! when its token has expired since. Only what was committed is logged as issued.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_policy::identity::Identity;
use mesh_policy::plan::enrol::EnrolResponse;
use mesh_policy::token::{JoinToken, RootHash};
use mesh_tls::issuer::{Issued, Issuer, Template};
use mesh_tls::request::SigningRequest;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::grant::{self, Grant};
use super::limit::{EnrolLimits, TooOften};
use super::refusal::EnrolError;
use super::token::{self, REPLAY, TokenRecord, UselessToken, seconds};
use crate::store::decode;
use crate::store::{CommitError, Expect, Record, SharedStore, Write};

/// How often a commit that lost against another replica is decided anew.
const ATTEMPTS: usize = 16;
/// Turns that are kept before those that nobody waits for are forgotten.
const TURNS: usize = 1024;
/// The prefix of answers that can be asked for again: `issued/<token>/<key>`.
pub(crate) const ISSUED: &str = "issued/";

/// Issues certificates.
#[derive(Debug)]
pub(crate) struct Enroller {
    store: SharedStore,
    issuer: Arc<Issuer>,
    root: RootHash,
    ttl: Duration,
    limits: EnrolLimits,
    turns: Turns,
}

/// Within one replica the uses of one token wait for each other, instead of each deciding anew;
/// those of different tokens share a sync of the disk.
#[derive(Debug, Default)]
struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the turn to use a token, which exists: others cannot make this grow.
    async fn of(&self, token: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= TURNS {
                all.retain(|_, turn| turn.strong_count() > 0);
            }
            let known = all.get(token).and_then(Weak::upgrade);
            let turn = known.unwrap_or_default();
            all.insert(token.to_owned(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
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
            limits: EnrolLimits::new(ttl),
            turns: Turns::default(),
        }
    }

    /// How often certificates may be asked for.
    pub(crate) const fn limits(&self) -> &EnrolLimits {
        &self.limits
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
        // A token that is none waits for nobody.
        self.token(&token).await?;
        let request = SigningRequest::from_der(csr)?;
        let _turn = self.turns.of(token.id()).await;
        for _ in 0..ATTEMPTS {
            match self.try_join(&token, &request, now).await {
                Err(EnrolError::Refused(CommitError::Conflict(_))) => {}
                decided => return decided,
            }
        }
        Err(EnrolError::Busy)
    }

    /// What is stored of a token whose secret is right.
    async fn token(&self, token: &JoinToken) -> Result<(Record, TokenRecord), EnrolError> {
        let found = self.store.get(&token::key(token.id())).await?;
        let found = found.ok_or(UselessToken::Unknown)?;
        let record = TokenRecord::from_json(&found.value).ok_or(UselessToken::Unreadable)?;
        record.check_secret(token)?;
        Ok((found, record))
    }

    async fn try_join(
        &self,
        token: &JoinToken,
        request: &SigningRequest,
        now: SystemTime,
    ) -> Result<Enrolled, EnrolError> {
        let (found, record) = self.token(token).await?;
        let issued_key = issued_key(token.id(), &request.public_key_hash());
        // Before the token's end and uses: what was given once is the asker's already.
        if let Some(response) = self.replay(&issued_key, now).await? {
            let identity = &response.identity;
            tracing::info!(%identity, "a lost answer to an enrolment was repeated");
            return Ok(Enrolled::Repeated(response));
        }
        record.check_end(seconds(now))?;
        let used = record.used()?;

        self.take(&record.identity)?;
        let signed = self.sign(&record.identity, request, now)?;
        let issued = IssuedRecord {
            at: seconds(now),
            response: signed.response.clone(),
        };
        let issued_json = serde_json::to_vec(&issued).expect("a record has string keys");
        let mut writes = vec![
            Write::put(found.key, used.to_json()).expecting(Expect::Revision(found.revision)),
            // One key that joins again after its minute takes another use of the token.
            Write::put(issued_key, issued_json),
        ];
        writes.extend(self.grant(&record).await?);
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

    /// Adds what the token grants to what the identity may serve already; `None` where that is all
    /// there, so that those who join as one identity do not wait for each other.
    async fn grant(&self, token: &TokenRecord) -> Result<Option<Write>, EnrolError> {
        let key = grant::key(&token.identity, self.issuer.domain());
        let key = key.ok_or_else(|| EnrolError::UnknownIdentity(token.identity.clone()))?;
        let (before, expect) = match decode::find::<Grant>(&*self.store, &key).await? {
            None => (None, Expect::Absent),
            Some((grant, revision)) => (Some(grant), Expect::Revision(revision)),
        };
        let granted = Grant::of_token(&token.serves);
        let after = before.clone().unwrap_or_default().with(&granted);
        if before.as_ref() == Some(&after) {
            return Ok(None);
        }
        let json = serde_json::to_vec(&after).expect("a grant has string keys");
        Ok(Some(Write::put(key, json).expecting(expect)))
    }

    fn take(&self, identity: &Identity) -> Result<(), EnrolError> {
        let taken = self.limits.take(identity);
        taken.map_err(|TooOften { wait }| EnrolError::Certificates {
            identity: identity.clone(),
            wait,
        })
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
        self.take(identity)?;
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
