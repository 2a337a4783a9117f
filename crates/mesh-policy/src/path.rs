//! One spelling of a path, for rules, for authorization and for the application.
//!
//! Whoever decides by one spelling and serves by another can be talked past:
//! `/%61dmin`, `//admin` and `/x/../admin` have each opened a door in some proxy
//! (CVE-2019-9901, CVE-2021-31920, CVE-2021-32779). So a path is brought into one
//! form before anything looks at it, that form is what everybody sees from then
//! on, and what could mean two things is refused.
//!
//! By RFC 3986: escapes of unreserved characters are decoded, once; other escapes
//! keep, with capital digits; characters that a path may not hold are escaped.
//! Beyond it: empty segments are merged, and dot segments, escaped separators and
//! control characters refused, since servers disagree on them.

use std::borrow::Cow;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The one spelling of `path`, which is without its query; borrowed where it is that already.
///
/// # Errors
///
/// [`InvalidPath`] where the path could mean two things, or nothing.
///
/// ```
/// use mesh_policy::path::canonical;
///
/// assert_eq!(canonical("/%61dmin//users"), Ok("/admin/users".into()));
/// assert!(canonical("/public/%2e%2e/admin").is_err());
/// ```
pub fn canonical(path: &str) -> Result<Cow<'_, str>, InvalidPath> {
    if !path.starts_with('/') {
        return Err(InvalidPath::Form);
    }
    let plain = if is_plain(path.as_bytes()) {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(rewrite(path.as_bytes())?)
    };
    // The search for two bytes is fast, and few paths have them.
    if plain.contains("/.") && plain.split('/').any(is_dots) {
        return Err(InvalidPath::Dots);
    }
    Ok(plain)
}

/// Whether a path is made of characters that stand for themselves, with no empty segment.
fn is_plain(path: &[u8]) -> bool {
    let mut last = b'x';
    path.iter().all(|byte| {
        let twice = last == b'/' && *byte == b'/';
        last = *byte;
        !twice && stands_for_itself(*byte)
    })
}

/// RFC 3986's `unreserved`.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986's `pchar` without escapes, and the separator.
const fn stands_for_itself(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b','
        )
        || matches!(byte, b';' | b'=')
}

/// Whether a segment is `.` or `..`, also with parameters, which some servers cut off first.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    matches!(name, "." | "..")
}

fn rewrite(path: &[u8]) -> Result<String, InvalidPath> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = byte == b'%';
        let byte = if escaped {
            let (value, after) = unescape(after)?;
            rest = after;
            value
        } else {
            byte
        };
        check(byte, escaped)?;
        let kept = if escaped {
            is_unreserved(byte)
        } else {
            stands_for_itself(byte)
        };
        match byte {
            b'/' if out.ends_with('/') => {}
            _ if kept => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    Ok(out)
}

/// The byte behind a `%`, and what follows it.
fn unescape(after: &[u8]) -> Result<(u8, &[u8]), InvalidPath> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let [high, low, rest @ ..] = after else {
        return Err(InvalidPath::Escape);
    };
    let value = digit(*high)
        .zip(digit(*low))
        .map(|(high, low)| high * 16 + low);
    let value = value.and_then(|value| u8::try_from(value).ok());
    Ok((value.ok_or(InvalidPath::Escape)?, rest))
}

const fn check(byte: u8, escaped: bool) -> Result<(), InvalidPath> {
    match byte {
        b'/' if escaped => Err(InvalidPath::Separator),
        b'\\' => Err(InvalidPath::Separator),
        b'#' | b'?' if !escaped => Err(InvalidPath::Form),
        _ if byte.is_ascii_control() => Err(InvalidPath::Control),
        _ if !byte.is_ascii() && !escaped => Err(InvalidPath::NotAscii),
        _ => Ok(()),
    }
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPath {
    /// It is no absolute path: `*`, an authority, a fragment.
    #[error("the request's target is no path: begin it with '/', without '?' or '#' in it")]
    Form,
    /// A `%` without two hexadecimal digits.
    #[error(
        "the path has a '%' that no two hexadecimal digits follow: write %25 for the sign itself"
    )]
    Escape,
    /// NUL or another control character.
    #[error("the path has a control character in it, which no path may have")]
    Control,
    /// An escaped `/`, or a backslash in either spelling.
    #[error(
        "the path has an escaped '/' or a '\\' in it, which servers read differently: put such values into the query"
    )]
    Separator,
    /// A segment `.` or `..`, in any spelling.
    #[error("the path has a segment '.' or '..' in it: send the path that it leads to")]
    Dots,
    /// A byte beyond ASCII that is not escaped.
    #[error("the path has a character beyond ASCII in it: escape its UTF-8 with '%'")]
    NotAscii,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn z04_one_spelling_is_left_of_many() {
        for (path, expected) in [
            ("/", "/"),
            ("/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/%61%64%6D%69%6e", "/admin"),
            ("//admin", "/admin"),
            ("/a///b//", "/a/b/"),
            ("/admin/", "/admin/"),
            ("/a%7Eb%2db%5Fc%2e", "/a~b-b_c."),
            ("/a%3bb", "/a%3Bb"),
            ("/a;b=c", "/a;b=c"),
            ("/a b", "/a%20b"),
            ("/a%20b", "/a%20b"),
            ("/{id}", "/%7Bid%7D"),
            ("/%c3%a4", "/%C3%A4"),
            ("/%ff", "/%FF"),
            ("/a%3fb%23c", "/a%3Fb%23c"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b", "/a..b"),
            ("/user@host:80/$1,(2)*!'&=+", "/user@host:80/$1,(2)*!'&=+"),
        ] {
            assert_eq!(canonical(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn z04_what_means_two_things_is_refused() {
        use InvalidPath::{Control, Dots, Escape, Form, NotAscii, Separator};
        for (path, expected) in [
            ("/a%00", Control),
            ("/a%0a", Control),
            ("/a%7f", Control),
            ("/a\u{1}", Control),
            ("/%", Escape),
            ("/%4", Escape),
            ("/%zz", Escape),
            ("/%u0041", Escape),
            ("/%+1", Escape),
            ("/a\\b", Separator),
            ("/a%5cb", Separator),
            ("/a%2fb", Separator),
            ("/a%2Fb", Separator),
            ("/.", Dots),
            ("/..", Dots),
            ("/a/../b", Dots),
            ("/a/./b", Dots),
            ("/a/%2e%2E/b", Dots),
            ("/a/.%2e", Dots),
            ("/a/..;x/b", Dots),
            ("/a/%2e;x", Dots),
            ("/a//../b", Dots),
            ("/a#b", Form),
            ("/a?b", Form),
            ("/ä", NotAscii),
        ] {
            assert_eq!(canonical(path), Err(expected), "{path}");
        }
    }

    #[test]
    fn z05_what_is_no_path_dodges_no_rule() {
        for path in ["", "*", "admin", "http://a/admin", "a:80"] {
            assert_eq!(canonical(path), Err(InvalidPath::Form), "{path}");
        }
    }

    #[test]
    fn z06_nothing_is_decoded_twice() {
        for (path, expected) in [
            ("/%252e%252e/admin", "/%252e%252e/admin"),
            ("/%2561dmin", "/%2561dmin"),
            ("/%25%32%65", "/%252e"),
        ] {
            assert_eq!(canonical(path).as_deref(), Ok(expected), "{path}");
        }
    }

    proptest! {
        #[test]
        fn z04_a_canonical_path_is_its_own_canonical_path(path in "/[%./;\\\\a2eEfF5cC0-9~ {]{0,24}") {
            if let Ok(once) = canonical(&path) {
                let twice = canonical(&once);
                prop_assert_eq!(twice.as_deref(), Ok(once.as_ref()));
                prop_assert!(is_plain(once.replace('%', "x").as_bytes()));
            }
        }

        #[test]
        fn z04_no_input_panics(path in ".{0,40}") {
            drop(canonical(&path));
        }
    }
}
