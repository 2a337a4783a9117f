//! What a certificate is called in logs and bans: a random serial, not a counted one.
//!
//! Two replicas, or one that was restored from a backup, must never agree on a serial.

use rcgen::SerialNumber;

/// Bytes of a serial: 127 random bits, since the first bit is the sign (RFC 5280, 4.1.2.2).
const SERIAL_BYTES: usize = 16;

pub(crate) fn serial() -> Result<SerialNumber, NoRandomNumbers> {
    let mut bytes = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomNumbers)?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The system's random source failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomNumbers;
