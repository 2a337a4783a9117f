//! Patterns of `RegularExpression` matches: RE2's syntax, always the whole value.
//!
//! A pattern is read without Unicode: `\w`, `\d` and `\s` are ASCII's, as in RE2,
//! and `.` is one byte. It takes time in proportion to the value, whatever is
//! written, and memory up to a limit, or it is refused.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// What a compiled pattern may take, in bytes; a counted repetition of a counted repetition does not fit.
const MOST_PROGRAM_BYTES: usize = 1 << 16;
/// What each thread may remember of a pattern's work; beyond it a slower way is taken.
const MOST_CACHE_BYTES: usize = 1 << 18;
/// The longest part of an error that is kept.
const MOST_WHY: usize = 120;

/// A pattern that a whole value fits or not.
#[derive(Clone, Debug)]
pub struct Pattern {
    written: Box<str>,
    regex: Regex,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// ```
    /// use mesh_policy::route::pattern::Pattern;
    ///
    /// let pattern = Pattern::new("/v[12]|/beta")?;
    /// assert!(pattern.fits(b"/v1") && pattern.fits(b"/beta"));
    /// assert!(!pattern.fits(b"/v1/x"));
    /// # Ok::<(), mesh_policy::route::pattern::InvalidPattern>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidPattern`] where it is none, or takes too much memory.
    pub fn new(written: &str) -> Result<Self, InvalidPattern> {
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern)
                .unicode(false)
                .size_limit(MOST_PROGRAM_BYTES)
                .dfa_size_limit(MOST_CACHE_BYTES)
                .build()
                .map_err(|error| InvalidPattern::new(written, &error))
        };
        // By itself first: `a)|(?:b` would slip out of the anchors.
        compile(written)?;
        Ok(Self {
            written: written.into(),
            regex: compile(&format!(r"\A(?:{written})\z"))?,
        })
    }

    /// Whether the whole of `value` fits.
    #[must_use]
    pub fn fits(&self, value: &[u8]) -> bool {
        self.regex.is_match(value)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no pattern of RE2's syntax: {why}")]
pub struct InvalidPattern {
    pattern: String,
    why: String,
}

impl InvalidPattern {
    fn new(pattern: &str, error: &regex::Error) -> Self {
        let why = match error {
            regex::Error::CompiledTooBig(_) => "it takes too much memory".to_owned(),
            // The text is a drawing of several lines, whose last says what is wrong.
            other => {
                let text = other.to_string();
                let last = text.lines().last().unwrap_or_default();
                last.trim_start_matches("error: ").to_owned()
            }
        };
        Self {
            pattern: pattern.chars().take(MOST_WHY).collect(),
            why: why.chars().take(MOST_WHY).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, value: &str) -> bool {
        Pattern::new(pattern).unwrap().fits(value.as_bytes())
    }

    #[test]
    fn a_pattern_fits_the_whole_value_or_not_at_all() {
        assert!(fits("a|ab", "ab"), "not the first that fits a part");
        assert!(!fits("a|b", "ab"));
        assert!(fits("/v[0-9]+/.*", "/v2/x/y"));
        assert!(!fits("/v[0-9]+", "/v2/"));
        assert!(!fits("^b$", "a\nb"));
        assert!(!fits("(?m)^b$", "a\nb"), "anchors are those of the value");
        assert!(fits("(?i)yes", "YES"));
        assert!(fits(r"\w\d", "a1") && !fits(r"\w", "é"), "ASCII's classes");
    }

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused_in_one_line() {
        for (pattern, why) in [
            ("a)|(?:b", "unopened group"),
            ("(", "unclosed group"),
            ("[a", "unclosed character class"),
            ("a**b{", "repetition"),
            (r"(a)\1", "backreferences are not supported"),
            ("(?=a)", "look-around"),
            ("(?:a{1000}){1000}", "it takes too much memory"),
        ] {
            let error = Pattern::new(pattern).unwrap_err().to_string();
            assert!(error.contains(why) && error.lines().count() == 1, "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic_or_fits_a_part(pattern in "[a-c()|*+?\\[\\]{},0-9$\\\\]{0,12}", value in "[a-c]{0,6}") {
            if let Ok(pattern) = Pattern::new(&pattern) {
                // No pattern of these characters can name the last one.
                let longer = format!("{value}#");
                prop_assert!(!pattern.fits(longer.as_bytes()));
            }
        }
    }
}
