//! The name that a misspelt one was probably meant to be.

/// Longer texts are no misspelt names, and comparing them would cost their product.
const MOST_BYTES: usize = 64;

/// The name among `known` that `written` was probably meant to be; `None` where all are far from it.
///
/// The distance counts letters that are inserted, left out, replaced or swapped with their
/// neighbour; case means nothing. A quarter of a name may be wrong, and one letter of a short one.
///
/// ```
/// use mesh_policy::nearest::nearest;
///
/// let known = ["MESH_LABELS", "MESH_NAME"];
/// assert_eq!(nearest("MESH_LABEL", known), Some("MESH_LABELS"));
/// assert_eq!(nearest("PATH", known), None);
/// ```
#[must_use]
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > MOST_BYTES {
        return None;
    }
    let folded = written.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| {
            let distance = strsim::osa_distance(&folded, &name.to_ascii_lowercase());
            (distance, name)
        })
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_what_was_meant() {
        let known = ["backendRefs", "matches", "timeouts", "name"];
        assert_eq!(nearest("backendRef", known), Some("backendRefs"));
        assert_eq!(nearest("Matchs", known), Some("matches"));
        assert_eq!(nearest("mathces", known), Some("matches"));
        assert_eq!(nearest("nmae", known), Some("name"));
        assert_eq!(nearest("completely", known), None);
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }
}
