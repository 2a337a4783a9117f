//! Warnings beside an answer, as Kubernetes sends them: `Warning: 299 - "text"`.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use mesh_policy::manifest::Problem;

use crate::compile::Ineffective;

/// Warnings sent with one answer; a response's headers have their limits too.
const MAX_WARNINGS: usize = 16;
/// Characters of one warning, as Kubernetes cuts them.
const MAX_WARNING_CHARS: usize = 256;

/// One header for each warning, as far as they fit: what is written otherwise than it should be,
/// then what has no effect.
pub(super) fn headers(warnings: &[Problem], ineffective: &[Ineffective]) -> HeaderMap {
    const WARNING: HeaderName = header::WARNING;
    let warnings = warnings.iter().map(ToString::to_string);
    let ineffective = ineffective.iter().map(ToString::to_string);
    warnings
        .chain(ineffective)
        .take(MAX_WARNINGS)
        .map(|warning| (WARNING, value(&warning)))
        .collect()
}

/// A quoted string of printable ASCII, so that no text can end the header or the quotes.
fn value(text: &str) -> HeaderValue {
    let mut quoted = String::from("299 - \"");
    for c in text.chars().take(MAX_WARNING_CHARS) {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    HeaderValue::try_from(quoted).expect("it holds printable ASCII only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_header() {
        assert_eq!(value("plain"), "299 - \"plain\"");
        assert_eq!(value("a\"b\\c"), r#"299 - "a\"b\\c""#);
        assert_eq!(value("a\r\nSet-Cookie: é"), "299 - \"a??Set-Cookie: ?\"");
        assert_eq!(value(&"x".repeat(9000)).len(), MAX_WARNING_CHARS + 8);
    }
}
