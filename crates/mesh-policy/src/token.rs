//! The right to join, once: `mj1.<id>.<secret>.<root hash>`.
//!
//! The token carries the SHA-256 of the root's public key, so that the very
//! first connection to discovery already knows whom to believe: there is no
//! trust on first use.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const PREFIX: &str = "mj1";

/// SHA-256 of a trust anchor's `SubjectPublicKeyInfo`.
pub type RootHash = [u8; 32];

/// A join token, as `mesh token create` prints it.
///
/// `Debug` shows the id alone; the whole token is spelled by [`JoinToken::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: String,
    secret: [u8; 32],
    root: RootHash,
}

impl JoinToken {
    /// Puts a token together; `id` and `secret` come from a random source.
    #[must_use]
    pub fn new(id: [u8; 9], secret: [u8; 32], root: RootHash) -> Self {
        Self {
            id: URL_SAFE_NO_PAD.encode(id),
            secret,
            root,
        }
    }

    /// The public name of the token, under which discovery keeps it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the server keeps in place of the secret: its SHA-256.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// The root that this token vouches for.
    #[must_use]
    pub fn root(&self) -> &RootHash {
        &self.root
    }

    /// The token in full, for the one place that hands it over.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!(
            "{PREFIX}.{}.{}.{}",
            self.id,
            URL_SAFE_NO_PAD.encode(self.secret),
            URL_SAFE_NO_PAD.encode(self.root)
        )
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim().split('.');
        let (Some(PREFIX), Some(id), Some(secret), Some(root), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(InvalidToken);
        };
        let id: [u8; 9] = decode(id)?;
        Ok(Self::new(id, decode(secret)?, decode(root)?))
    }
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], InvalidToken> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(InvalidToken)
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A spelling that is no token; it says nothing of the spelling, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no join token: it has the form mj1.<id>.<secret>.<root>, as `mesh token create` prints it"
)]
pub struct InvalidToken;

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::new([7; 9], [0xAB; 32], [3; 32])
    }

    #[test]
    fn a_token_reads_back_as_it_was_written() {
        assert_eq!(token().reveal().parse(), Ok(token()));
        assert_eq!(format!("{}\n", token().reveal()).parse(), Ok(token()));
    }

    #[test]
    fn a_damaged_token_is_refused_without_being_repeated() {
        let whole = token().reveal();
        for text in [
            String::new(),
            whole[..whole.len() - 1].to_owned(),
            whole.replace("mj1", "MJ1"),
            format!("{whole}.x"),
            whole.replace('.', "-"),
        ] {
            let error = text.parse::<JoinToken>().unwrap_err();
            assert!(!error.to_string().contains("q6ur"), "repeats the secret");
        }
    }

    #[test]
    fn s01_debug_never_shows_the_secret() {
        let shown = format!("{:?}", token());
        assert!(
            !shown.contains(&URL_SAFE_NO_PAD.encode([0xAB; 32])),
            "{shown}"
        );
        assert!(!shown.contains("171"), "{shown}");
    }
}
