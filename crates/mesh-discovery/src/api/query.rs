//! The query parameters that change what a request means.
//!
//! Those that only shape an answer or name its author are passed over. Those that would narrow or
//! widen what happens are honoured or refused, and so is every name that is not known: a selector
//! that is overlooked shows, or deletes, what nobody asked for. Names and values are decoded
//! first, since a client may escape any letter of either.

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

/// Parameters that are as good as honoured: every list is whole and the latest, every object is
/// checked as a whole, and nothing depends on another or ends slowly.
const PASSED_OVER: [&str; 11] = [
    "allowWatchBookmarks",
    "fieldManager",
    "fieldValidation",
    "gracePeriodSeconds",
    "limit",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
    "resourceVersion",
    "timeout",
    "timeoutSeconds",
];

/// Whether the request is a dry run.
pub(super) fn mode(query: Option<&str>) -> Result<Mode, Failure> {
    let mut mode = Mode::Write;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match (&*name, &*value) {
            ("dryRun", "All") => mode = Mode::DryRun,
            ("dryRun", _) => {
                let message = "dryRun has no such value: write dryRun=All, or leave it out";
                return Err(Failure::bad_request(message));
            }
            ("watch", "0" | "f" | "F" | "false" | "False" | "FALSE") => {}
            ("watch", _) => {
                let message = "watching is not served under this path: list it again";
                return Err(Failure::bad_request(message));
            }
            (name, value) => check(name, value)?,
        }
    }
    Ok(mode)
}

fn check(name: &str, value: &str) -> Result<(), Failure> {
    if PASSED_OVER.contains(&name) {
        return Ok(());
    }
    let remedy = match REFUSED.iter().find(|(refused, _)| *refused == name) {
        Some(_) if value.is_empty() => return Ok(()),
        Some((_, remedy)) => remedy,
        None => "leave it out, or correct its name",
    };
    let name: String = name.chars().take(100).collect();
    let message = format!("the parameter {name:?} is not served: {remedy}");
    Err(Failure::bad_request(message))
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
            // Escaped names are names.
            (Some("dry%52un=All"), Some(Mode::DryRun)),
            (Some("dry%52un=a%6Cl"), None),
            (Some("dryRun=%41ll"), Some(Mode::DryRun)),
            (Some("?label%53elector=app%3Dapi"), None),
            (Some("label%53elector=app%3Dapi"), None),
            (Some("%77atch=true"), None),
            (Some("watch=yes"), None),
            // What is not known is not passed over.
            (Some("dryrun=All"), None),
            (Some("labelselector=app%3Dapi"), None),
            (Some("force=true"), None),
            (Some("&&pretty=true&"), Some(Mode::Write)),
        ] {
            assert_eq!(mode(query).ok(), expected, "{query:?}");
        }
    }
}
