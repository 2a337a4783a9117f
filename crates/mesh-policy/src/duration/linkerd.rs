//! Durations of Linkerd's annotations: one whole number with `ms`, `s`, `m`, `h` or `d`, or a bare `0`.

use std::time::Duration;

/// Reads a duration such as `500ms`, `10s` or `1d`.
///
/// # Errors
///
/// [`InvalidDuration`] for anything else: fractions, several numbers, a number without its unit.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let refuse = || InvalidDuration {
        text: text.chars().take(40).collect(),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| refuse())?;
    let millis = match &text[digits..] {
        "" if number == 0 => 0,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(refuse()),
    };
    let millis = number.checked_mul(millis).ok_or_else(refuse)?;
    Ok(Duration::from_millis(millis))
}

/// A spelling that is no duration of Linkerd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no duration: write a whole number with ms, s, m, h or d, such as 500ms")]
pub struct InvalidDuration {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_that_of_linkerd() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let huge = "99999999999999999999s";
        for text in [
            "", "1", "1.5s", "1m30s", "-1s", " 1s", "1 s", "s", "1w", huge, "é",
        ] {
            assert!(parse(text).is_err(), "accepted {text:?}");
        }
        assert!(parse("18446744073709551615d").is_err(), "it overflows");
    }
}
