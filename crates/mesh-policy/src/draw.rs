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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_the_range_are_the_ends_of_the_answer() {
        assert_eq!(Draw(0).below(10), 0);
        assert_eq!(Draw(u64::MAX).below(10), 9);
        assert_eq!(Draw(u64::MAX).below(u64::MAX), u64::MAX - 1);
        assert_eq!(Draw(7).below(0), 0);
    }

    proptest! {
        #[test]
        fn an_answer_is_below_its_bound_and_grows_with_the_draw(a: u64, b: u64, n in 1u64..) {
            let (low, high) = (Draw(a.min(b)).below(n), Draw(a.max(b)).below(n));
            prop_assert!(low <= high && high < n);
        }
    }
}
