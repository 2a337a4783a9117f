//! `grpc-timeout`: up to eight digits and one unit letter (gRPC over HTTP/2).

use std::time::Duration;

const MOST: u128 = 99_999_999;

/// Reads a `grpc-timeout`, such as `250m` for 250 milliseconds.
///
/// # Errors
///
/// [`InvalidTimeout`] for anything that is not one to eight digits and one of `HMSmun`.
pub fn parse(text: &str) -> Result<Duration, InvalidTimeout> {
    let refuse = || InvalidTimeout {
        text: text.chars().take(40).collect(),
    };
    let Some((digits, unit)) = text.split_at_checked(text.len().wrapping_sub(1)) else {
        return Err(refuse());
    };
    let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if !fits {
        return Err(refuse());
    }
    let number: u64 = digits.parse().map_err(|_| refuse())?;
    match unit {
        "H" => Ok(Duration::from_secs(number * 3600)),
        "M" => Ok(Duration::from_secs(number * 60)),
        "S" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_millis(number)),
        "u" => Ok(Duration::from_micros(number)),
        "n" => Ok(Duration::from_nanos(number)),
        _ => Err(refuse()),
    }
}

/// Writes a `grpc-timeout` in the finest unit that its eight digits hold, rounded down.
#[must_use]
pub fn format(duration: Duration) -> String {
    let units = [
        (duration.as_nanos(), "n"),
        (duration.as_micros(), "u"),
        (duration.as_millis(), "m"),
        (u128::from(duration.as_secs()), "S"),
        (u128::from(duration.as_secs() / 60), "M"),
    ];
    let fine = units.into_iter().find(|(number, _)| *number <= MOST);
    let (number, unit) = fine.unwrap_or((u128::from(duration.as_secs() / 3600).min(MOST), "H"));
    format!("{number}{unit}")
}

/// A value of `grpc-timeout` that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no grpc-timeout: write one to eight digits and one of H, M, S, m, u, n, such as 250m"
)]
pub struct InvalidTimeout {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_that_of_grpc() {
        assert_eq!(parse("250m"), Ok(Duration::from_millis(250)));
        assert_eq!(
            parse("99999999H"),
            Ok(Duration::from_secs(99_999_999 * 3600))
        );
        for text in [
            "",
            "m",
            "250",
            "250ms",
            "123456789m",
            "-1m",
            "1.5S",
            "٣m",
            "1é",
        ] {
            assert!(parse(text).is_err(), "accepted {text:?}");
        }
    }

    #[test]
    fn a_timeout_on_the_wire_is_never_longer_than_the_real_one() {
        for nanos in [
            0,
            1,
            99_999_999,
            100_000_001,
            123_456_789_012,
            10_u64.pow(18),
        ] {
            let real = Duration::from_nanos(nanos);
            let sent = parse(&format(real)).unwrap();
            assert!(
                sent <= real && real - sent <= real / 1_000,
                "{real:?} {sent:?}"
            );
        }
    }
}
