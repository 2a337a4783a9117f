//! From a token to credentials.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::plan::PROTOCOL_VERSION;
use mesh_policy::plan::enrol::{Attestation, EnrolRequest, EnrolResponse};
use mesh_policy::token::{InvalidToken, JoinToken};
use mesh_tls::anchors::{TrustBundle, root_hash};
use mesh_tls::credentials::Credentials;
use mesh_tls::request::KeyPair;
use rustls::pki_types::CertificateDer;

use super::link::{Link, LinkFailed};
use super::renew::OtherIdentity;
use crate::BoxError;
use crate::config::TokenSource;

/// Larger than any token, so that a wrong path does not fill memory.
const MAX_TOKEN_BYTES: u64 = 4_096;

/// The token, from wherever the configuration says.
pub(super) fn token(source: &TokenSource) -> Result<JoinToken, TokenUnreadable> {
    match source {
        TokenSource::Given(token) => Ok(token.clone()),
        TokenSource::File(path) => {
            let unreadable = |source| TokenUnreadable::File {
                path: path.clone(),
                source,
            };
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(unreadable)?;
            io::Read::read_to_string(&mut io::Read::take(file, MAX_TOKEN_BYTES), &mut text)
                .map_err(unreadable)?;
            text.parse().map_err(|source| TokenUnreadable::Content {
                path: path.clone(),
                source,
            })
        }
    }
}

/// The file that should hold a token does not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenUnreadable {
    /// It cannot be read.
    #[error(
        "the token's file {path:?} cannot be read: see that it exists and this user may read it"
    )]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It holds something else.
    #[error("the file {path:?} holds no token")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What a token looks like.
        source: InvalidToken,
    },
}

/// Asks one discovery server for a certificate of a key that never leaves this process.
///
/// Asked again with the same key, discovery gives the same certificate for a while: an
/// answer that is lost on its way does not use the token up.
pub(super) async fn enrol(
    link: &Link,
    token: &JoinToken,
    key: &KeyPair,
) -> Result<EnrolResponse, EnrolFailed> {
    ask(link, key, Attestation::JoinToken(token.reveal())).await
}

/// Asks for a certificate of a new key, over a link that shows the current one.
pub(super) async fn renew(link: &Link, key: &KeyPair) -> Result<EnrolResponse, EnrolFailed> {
    ask(link, key, Attestation::Certificate).await
}

async fn ask(
    link: &Link,
    key: &KeyPair,
    attestation: Attestation,
) -> Result<EnrolResponse, EnrolFailed> {
    let csr = key
        .signing_request()
        .map_err(|e| EnrolFailed::Broken(e.into()))?;
    let request = EnrolRequest {
        version: PROTOCOL_VERSION,
        csr: STANDARD.encode(csr.der()),
        attestation,
    };
    let answer = link.ask(Method::POST, "/v1/identity", &request).await?;
    Ok(serde_json::from_slice(&answer).map_err(LinkFailed::Malformed)?)
}

/// Asking for an identity failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnrolFailed {
    #[error(transparent)]
    Link(#[from] LinkFailed),
    #[error("there is no request for a certificate")]
    Broken(#[source] BoxError),
}

/// What discovery gave, made sure to fit the key, the token and itself.
pub(super) fn assemble(
    key: KeyPair,
    answer: &EnrolResponse,
    token: &JoinToken,
) -> Result<Credentials, BoxError> {
    let bundle = bundle(answer)?;
    // The token says whom to believe; the anchors that came along must agree.
    let hashes = bundle.certificates().iter().map(root_hash);
    if !hashes.flatten().any(|hash| hash == *token.root()) {
        return Err(ForeignAnchors.into());
    }
    fit(key, answer, bundle)
}

/// The same at a renewal: discovery has proved itself by the anchors of before, so the ones that
/// it gives now replace them. The identity stays.
pub(super) fn renewed(
    key: KeyPair,
    answer: &EnrolResponse,
    identity: &Identity,
) -> Result<Credentials, BoxError> {
    if answer.identity != *identity {
        return Err(OtherIdentity.into());
    }
    fit(key, answer, bundle(answer)?)
}

fn bundle(answer: &EnrolResponse) -> Result<TrustBundle, BoxError> {
    let domain: TrustDomain = answer.identity.trust_domain().parse()?;
    Ok(TrustBundle::new(domain, decode(&answer.anchors)?)?)
}

fn fit(key: KeyPair, answer: &EnrolResponse, bundle: TrustBundle) -> Result<Credentials, BoxError> {
    let chain = decode(&answer.chain)?;
    let credentials = Credentials::new(key, chain, bundle.into(), SystemTime::now())?;
    if *credentials.identity() != answer.identity {
        return Err(ForeignAnchors.into());
    }
    Ok(credentials)
}

fn decode(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, BoxError> {
    let decoded = texts
        .iter()
        .map(|text| STANDARD.decode(text).map(Into::into));
    Ok(decoded.collect::<Result<_, _>>()?)
}

/// What discovery sent contradicts itself or the token.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the certificates that discovery sent do not belong to the token: see that both come from one mesh"
)]
struct ForeignAnchors;
