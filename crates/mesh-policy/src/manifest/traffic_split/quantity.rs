//! Kubernetes quantities as weights: `950`, `500m`, `1k`, `1.5`, `2Ki`, `1e3`.
//!
//! Weights matter by their ratio alone, so quantities are read exactly, in
//! billionths, and then divided by whatever they have in common.

use super::super::fields::{At, cut};
use super::super::node::Value;

/// A quantity's smallest step is one billionth (suffix `n`).
pub(super) const BILLIONTHS: u128 = 1_000_000_000;
/// Quantities are below 2^63 by their definition, so that 19 digits are enough for any.
const MOST_DIGITS: usize = 19;

/// A quantity in billionths.
pub(super) fn read(at: &At<'_>) -> Option<u128> {
    let written = match &at.node.value {
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        _ => at.text()?.to_owned(),
    };
    parse(&written).or_else(|| {
        at.refuse(
            format!("{:?} is no weight", cut(&written)),
            "write a quantity such as 950, 500m or 1k",
        )
    })
}

fn parse(written: &str) -> Option<u128> {
    let end = written.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, suffix) = written.split_at(end.unwrap_or(written.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').len();
    if digits.is_empty() || significant > MOST_DIGITS || digits.len() > 2 * MOST_DIGITS {
        return None;
    }
    let scaled = digits.parse::<u128>().ok()?.checked_mul(scale(suffix)?)?;
    let places = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    // Kubernetes rounds up what is finer than a billionth; such a weight is a mistake here.
    scaled.is_multiple_of(places).then_some(scaled / places)
}

/// What a quantity with this suffix counts, in billionths.
fn scale(suffix: &str) -> Option<u128> {
    if let Some(exponent) = suffix.strip_prefix(['e', 'E'])
        && !exponent.is_empty()
    {
        let exponent: i32 = exponent.parse().ok()?;
        return 10_u128.checked_pow(u32::try_from(exponent.checked_add(9)?).ok()?);
    }
    let thousands = |power| Some(1_000_u128.pow(power));
    let binary = |power| Some(BILLIONTHS * 1_024_u128.pow(power));
    match suffix {
        "n" => thousands(0),
        "u" => thousands(1),
        "m" => thousands(2),
        "" => thousands(3),
        "k" => thousands(4),
        "M" => thousands(5),
        "G" => thousands(6),
        "T" => thousands(7),
        "P" => thousands(8),
        "E" => thousands(9),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => None,
    }
}

/// Whole numbers in exactly the same ratios, as people would write them: in units where
/// all of them are whole, and smaller only where that is needed to fit.
pub(super) fn whole_numbers(weights: &[u128]) -> Option<Vec<u32>> {
    let common = weights.iter().copied().fold(0, greatest_common_divisor);
    [BILLIONTHS, common].into_iter().find_map(|unit| {
        let number = |weight: &u128| match unit {
            0 => Some(0),
            unit if weight.is_multiple_of(unit) => u32::try_from(weight / unit).ok(),
            _ => None,
        };
        weights.iter().map(number).collect()
    })
}

const fn greatest_common_divisor(mut left: u128, mut right: u128) -> u128 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        let good = [
            ("950", 950 * BILLIONTHS),
            ("500m", BILLIONTHS / 2),
            ("1.5m", 1_500_000),
            ("1k", 1_000 * BILLIONTHS),
            ("1.5", 1_500_000_000),
            ("0", 0),
            (".5", BILLIONTHS / 2),
            ("5.", 5 * BILLIONTHS),
            ("2Ki", 2_048 * BILLIONTHS),
            ("1e3", 1_000 * BILLIONTHS),
            ("1E-3", BILLIONTHS / 1_000),
            ("1E", 1_000_000_000_000_000_000 * BILLIONTHS),
            ("7n", 7),
        ];
        for (written, billionths) in good {
            assert_eq!(parse(written), Some(billionths), "{written}");
        }
        let long = "9".repeat(20);
        for written in [
            "", ".", "-1", "+1", "1x", "m", "0.5n", "1 k", "1e", "1e400", "1e-400", "1.2.3", "1K",
            &long,
        ] {
            assert_eq!(parse(written), None, "{written}");
        }
    }

    #[test]
    fn people_find_their_own_numbers_again() {
        let numbers = |written: &[&str]| {
            let weights: Option<Vec<_>> = written.iter().map(|one| parse(one)).collect();
            whole_numbers(&weights.unwrap())
        };
        assert_eq!(numbers(&["950", "50"]), Some(vec![950, 50]));
        assert_eq!(numbers(&["1k", "0"]), Some(vec![1_000, 0]));
        assert_eq!(numbers(&["500m", "1500m"]), Some(vec![1, 3]));
        assert_eq!(numbers(&["1", "500m"]), Some(vec![2, 1]));
        assert_eq!(numbers(&["0", "0"]), Some(vec![0, 0]));
        assert_eq!(numbers(&["1T", "2T"]), Some(vec![1, 2]));
        assert_eq!(numbers(&["1n", "1E"]), None);
    }

    proptest! {
        #[test]
        fn ratios_are_kept_exactly(weights in proptest::collection::vec(0_u64..1_000_000, 1..6)) {
            let weights: Vec<_> = weights.into_iter().map(u128::from).collect();
            let numbers = whole_numbers(&weights).unwrap();
            for (weight, number) in weights.iter().zip(&numbers) {
                let first = (weights[0], u128::from(numbers[0]));
                prop_assert_eq!(weight * first.1, first.0 * u128::from(*number));
                prop_assert_eq!(*weight == 0, *number == 0);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            let _: Option<u128> = parse(&text);
        }
    }
}
