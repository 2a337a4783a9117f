//! Chance as an argument: a decision that draws is given the number.

/// A uniformly random 64-bit number, from the caller's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw(pub u64);

impl Draw {
    /// A number below `n`, as uniform as the draw; 0 for `n` 0.
    ///
    /// Multiplies and shifts (Lemire 2019) instead of taking a remainder: the bias is below `n / 2^64`.
    #[must_use]
    pub const fn below(self, n: u64) -> u64 {
        ((self.0 as u128 * n as u128) >> 64) as u64
    }
}
