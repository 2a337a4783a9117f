//! Certificates as text: strings in, strings out; files are the caller's affair.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// RFC 7468, 2: lines of exactly 64 characters.
const LINE: usize = 64;

/// Writes certificates one after another, in the order given.
#[must_use]
pub fn write(certificates: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str(&block("CERTIFICATE", certificate));
    }
    text
}

/// Reads every certificate of `text`, in order; other blocks are passed over.
///
/// # Errors
///
/// [`InvalidPem`] when a block is damaged or no certificate is found. What is inside the
/// certificates is not looked at.
pub fn read(text: &str) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(InvalidPem::Damaged)?;
    if found.is_empty() {
        return Err(InvalidPem::Empty);
    }
    Ok(found)
}

/// One block. It may hold a key, so it is wiped when it goes.
pub(crate) fn block(label: &str, der: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    // Room for everything: a string that grows leaves copies behind.
    let room = encoded.len() + encoded.len() / LINE + 2 * label.len() + 64;
    let mut text = Zeroizing::new(String::with_capacity(room));
    let put = |text: &mut String, line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("writing to a string succeeds");
    };
    put(&mut text, format_args!("-----BEGIN {label}-----\n"));
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, later) = rest.split_at(rest.len().min(LINE));
        put(&mut text, format_args!("{line}\n"));
        rest = later;
    }
    put(&mut text, format_args!("-----END {label}-----\n"));
    text
}

/// Text that holds no readable certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPem {
    /// A block does not read.
    #[error("a PEM block is damaged: write the file again from its source")]
    Damaged(#[source] rustls_pki_types::pem::Error),
    /// No certificate is in it.
    #[error("no certificate in it: it holds blocks that begin with -----BEGIN CERTIFICATE-----")]
    Empty,
}
