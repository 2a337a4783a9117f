//! Durations as people write them: Gateway API's grammar (GEP-2257).
//!
//! Up to four whole numbers, each with `h`, `m`, `s` or `ms`, as in `1h30m` or `250ms`.

pub mod grpc;
pub mod linkerd;

use std::time::Duration;

/// GEP-2257: at most four components of at most five digits.
const MOST_COMPONENTS: usize = 4;
const MOST_DIGITS: usize = 5;
/// Bytes of the longest that is written: `99999h59m59s999ms`.
const LONGEST: usize = 17;

/// Reads a duration such as `250ms`, `10s` or `1m30s`.
///
/// ```
/// use std::time::Duration;
/// use mesh_policy::duration;
///
/// assert_eq!(duration::parse("1m30s")?, Duration::from_secs(90));
/// assert!(duration::parse("1.5s").is_err());
/// # Ok::<(), mesh_policy::duration::InvalidDuration>(())
/// ```
///
/// # Errors
///
/// [`InvalidDuration`] for anything else, a bare number included.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let refuse = || InvalidDuration::new(text);
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut components = 0;
    while !rest.is_empty() {
        components += 1;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if components > MOST_COMPONENTS || digits == 0 || digits > MOST_DIGITS {
            return Err(refuse());
        }
        let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = &rest[digits..];
        let unit = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        total += match &rest[..unit] {
            "h" => Duration::from_secs(number * 3600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return Err(refuse()),
        };
        rest = &rest[unit..];
    }
    if components == 0 {
        return Err(refuse());
    }
    Ok(total)
}

/// Writes a duration in the same grammar, rounded down to milliseconds and capped at 99999 hours.
#[must_use]
pub fn format(duration: Duration) -> String {
    const MOST: Duration = Duration::from_secs(99_999 * 3600);
    let whole = duration.min(MOST);
    let seconds = whole.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(whole.subsec_millis()), "ms"),
    ];
    let mut text = String::with_capacity(LONGEST);
    for (number, unit) in parts {
        if number > 0 {
            push(&mut text, number);
            text.push_str(unit);
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// Writes a number. Every request that has a limit says so in a header, and the formatter of
/// the standard library takes some hundred instructions for each number.
fn push(text: &mut String, number: u64) {
    if number >= 10 {
        push(text, number / 10);
    }
    let digit = u32::try_from(number % 10).expect("below ten");
    text.push(char::from_digit(digit, 10).expect("below ten"));
}

/// A spelling that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no duration: write whole numbers with h, m, s or ms, such as 250ms, 10s or 1m30s"
)]
pub struct InvalidDuration {
    text: String,
}

impl InvalidDuration {
    fn new(text: &str) -> Self {
        let text = text.chars().take(120).collect();
        Self { text }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar_is_that_of_gep_2257() {
        let good = [
            ("0s", 0),
            ("0h0m0s0ms", 0),
            ("250ms", 250),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("30s1m", 90_000),
        ];
        for (text, millis) in good {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "1",
            "1.5s",
            "-1s",
            "1d",
            "100000s",
            "1s1s1s1s1s",
            " 1s",
            "1s ",
            "s",
            "1us",
            "１s",
        ] {
            assert!(parse(text).is_err(), "accepted {text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0u64..359_996_400_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}") {
            drop(parse(&text));
        }
    }
}
