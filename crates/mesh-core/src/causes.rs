//! An error and what caused it, as one line for people.

use std::error::Error;

/// The error's text, and those of its sources after colons. A source that says nothing new, since
/// the text before it ends with its own, is left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut link = error.source();
    while let Some(source) = link {
        let cause = source.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        link = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the call failed")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("it broke: {0}")]
    struct Middle(#[source] std::fmt::Error);

    #[test]
    fn every_cause_is_said_once() {
        let said = chain(&Outer(Middle(std::fmt::Error)));
        let innermost = std::fmt::Error.to_string();
        assert_eq!(said, format!("the call failed: it broke: {innermost}"));
    }
}
