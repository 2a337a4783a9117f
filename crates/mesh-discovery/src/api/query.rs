//! The query parameters that change what a request means.
//!
//! Those that only shape an answer or name its author are passed over. Those that would
//! narrow or widen what happens are honoured or refused: a selector that is
//! overlooked shows, or deletes, what nobody asked for.

use super::failure::Failure;
use crate::objects::Mode;

/// Parameters that would change the meaning of a request and are not served.
const REFUSED: [(&str, &str); 4] = [
    ("labelSelector", "list all and select among them"),
    ("fieldSelector", "list all and select among them"),
    ("continue", "every list is whole: ask for it without"),
    (
        "resourceVersionMatch",
        "every list is the latest: ask for it without",
    ),
];

/// Whether the request is a dry run.
pub(super) fn mode(query: Option<&str>) -> Result<Mode, Failure> {
    let mut mode = Mode::Write;
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (name, value) {
            ("dryRun", "All") => mode = Mode::DryRun,
            ("dryRun", _) => {
                let message = "dryRun has no such value: write dryRun=All, or leave it out";
                return Err(Failure::bad_request(message));
            }
            ("watch", "" | "1" | "t" | "T" | "true" | "True" | "TRUE") => {
                let message = "watching is not served under this path: list it again";
                return Err(Failure::bad_request(message));
            }
            _ => {}
        }
        if let Some((_, remedy)) = REFUSED.iter().find(|(refused, _)| *refused == name)
            && !value.is_empty()
        {
            let message = format!("the parameter {name} is not served: {remedy}");
            return Err(Failure::bad_request(message));
        }
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_change_the_meaning_are_honoured_or_refused() {
        for (query, expected) in [
            (None, Some(Mode::Write)),
            (Some(""), Some(Mode::Write)),
            (Some("limit=500&pretty=true"), Some(Mode::Write)),
            (Some("watch=false"), Some(Mode::Write)),
            (Some("labelSelector=&continue="), Some(Mode::Write)),
            (Some("fieldManager=x&dryRun=All"), Some(Mode::DryRun)),
            (Some("dryRun=all"), None),
            (Some("dryRun"), None),
            (Some("dryRun=All&dryRun=None"), None),
            (Some("watch=true"), None),
            (Some("watch=1&limit=1"), None),
            (Some("labelSelector=app%3Dapi"), None),
            (Some("fieldSelector=metadata.name%3Dapi"), None),
        ] {
            assert_eq!(mode(query).ok(), expected, "{query:?}");
        }
    }
}
