//! Who is who: keys, certificates, the CA's signing, and the handshakes of the mesh.
//!
//! ```text
//!  Root ──▶ Issuer ──issue(SigningRequest, Identity)──▶ Issued
//!                                  ▲                      │
//!                               KeyPair ────────────┐     ▼
//!                                TrustBundles ──▶ Credentials ──▶ config::{server, client}
//!                                                                   │
//!                        a stream ──▶ handshake::{accept, connect} ──▶ a TLS stream and TlsFacts
//! ```
//!
//! A certificate is believed for what SPIFFE lets it say and for nothing else: [`leaf`] holds the
//! rules that general X.509 libraries do not have, [`verify`] runs them in front of the path
//! building of rustls-webpki, and the identity a client expects is checked inside the handshake,
//! since after it our own certificate has already been shown.
//!
//! Nothing here reads a file or the environment. Issuing takes `now` as an argument; the clocks
//! are read by rustls during a handshake, and by [`lifetime`], whose subject they are. [`accept`]
//! bounds what a server holds for clients until it knows who they are, and asks the system how many
//! files may be open.

pub mod accept;
pub mod anchors;
pub mod config;
pub mod credentials;
pub mod handshake;
pub mod issuer;
pub mod leaf;
pub mod lifetime;
pub mod pem;
pub mod provider;
pub mod request;
pub mod root;
pub mod serial;
mod validity;
mod verifier;
pub mod verify;
