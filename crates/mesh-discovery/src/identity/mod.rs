//! Who gets an identity, and what it may serve.
//!
//! ```text
//! admin ─▶ token ─▶ (a process shows it once) ─▶ enrol ─▶ certificate
//!            │                                     │
//!            └─ tokens/<id>     identities/<ns>/<account> (grant), issued/<token>/<key>
//! ```
//!
//! - [`custody`]: where the CA's keys lie, and how they are kept from others.
//! - `admin`: the administrator's credentials.
//! - [`token`]: the right to join, made by an admin.
//! - `enrol`: a token or a certificate becomes a certificate.
//! - `grant`: what an identity may serve.
//! - `limit`: how often certificates may be asked for.

pub(crate) mod admin;
pub mod certificate;
pub mod custody;
pub(crate) mod enrol;
pub(crate) mod grant;
mod limit;
mod private_file;
mod refusal;
pub(crate) mod routes;
pub mod token;
