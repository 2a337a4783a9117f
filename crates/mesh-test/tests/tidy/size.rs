//! A file that grew holds a second concept. Function sizes are clippy's (`too_many_lines`).

use super::{read, sources};

const MOST_LINES: usize = 400;

#[test]
fn files_are_short_enough_to_read() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|source| (read(&source).lines().count(), source))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "over {MOST_LINES} lines: {long:?}");
}
