//! The cryptography of the mesh, passed explicitly and never installed for the whole process.
//!
//! An application may use rustls for its own purposes with another provider;
//! installing ours as the process default would be a conflict it cannot solve.

use std::sync::{Arc, OnceLock};

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use webpki::aws_lc_rs as algorithms;

/// Signatures that certificates and handshakes may carry.
///
/// ECDSA and Ed25519 only: no RSA, so no PKCS#1 v1.5 padding, and no SHA-1. A CA with an RSA key
/// is refused when it is loaded, not when the first workload fails.
pub(crate) static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithms::ECDSA_P256_SHA256,
        algorithms::ECDSA_P256_SHA384,
        algorithms::ECDSA_P384_SHA256,
        algorithms::ECDSA_P384_SHA384,
        algorithms::ED25519,
    ],
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[algorithms::ECDSA_P256_SHA256],
        ),
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[algorithms::ECDSA_P384_SHA384],
        ),
        (SignatureScheme::ED25519, &[algorithms::ED25519]),
    ],
};

/// aws-lc-rs with the AEAD suites of TLS 1.3, and the post-quantum group X25519MLKEM768 first.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let provider = PROVIDER.get_or_init(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![
                kx_group::X25519MLKEM768,
                kx_group::X25519,
                kx_group::SECP256R1,
                kx_group::SECP384R1,
            ],
            signature_verification_algorithms: SIGNATURES,
            ..default_provider()
        })
    });
    Arc::clone(provider)
}
