//! Several changes of headers, one after the other, as one.

use std::collections::BTreeMap;

use super::answer::HeaderChange;
use crate::plan::outbound::{FilterPlan, HeaderValuePlan};

/// What is left of a header.
#[derive(Debug)]
enum After {
    /// What was there, and these.
    Added(Vec<String>),
    /// These alone; none at all when it is removed.
    Replaced(Vec<String>),
}

/// What all these filters together do to a response.
pub(super) fn of_response<'a>(filters: impl Iterator<Item = &'a FilterPlan>) -> HeaderChange {
    let mut headers: BTreeMap<String, After> = BTreeMap::new();
    for filter in filters {
        let FilterPlan::ResponseHeaders(edit) = filter else {
            continue;
        };
        for pair in &edit.set {
            let replaced = After::Replaced(vec![pair.value.clone()]);
            headers.insert(pair.name.to_ascii_lowercase(), replaced);
        }
        for pair in &edit.add {
            let after = headers.entry(pair.name.to_ascii_lowercase());
            let (After::Added(values) | After::Replaced(values)) =
                after.or_insert(After::Added(Vec::new()));
            values.push(pair.value.clone());
        }
        for name in &edit.remove {
            headers.insert(name.to_ascii_lowercase(), After::Replaced(Vec::new()));
        }
    }
    let mut whole = HeaderChange::default();
    for (name, after) in headers {
        let (first, values) = match after {
            After::Added(values) => (&mut whole.add, values),
            After::Replaced(values) if values.is_empty() => {
                whole.remove.push(name);
                continue;
            }
            After::Replaced(values) => (&mut whole.set, values),
        };
        let mut values = values.into_iter().map(|value| HeaderValuePlan {
            name: name.clone(),
            value,
        });
        first.extend(values.next());
        whole.add.extend(values);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::outbound::HeaderEditPlan;

    fn pair(name: &str, value: &str) -> HeaderValuePlan {
        HeaderValuePlan {
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn changes_one_after_the_other_are_one_change() {
        let first = HeaderEditPlan {
            set: vec![pair("a", "1"), pair("b", "1")],
            add: vec![pair("c", "1"), pair("d", "1"), pair("f", "1")],
            remove: vec!["e".to_owned()],
        };
        let second = HeaderEditPlan {
            set: vec![pair("c", "2")],
            add: vec![pair("a", "2"), pair("e", "2"), pair("f", "2")],
            remove: vec!["b".to_owned(), "d".to_owned()],
        };
        let filters = [first, second].map(FilterPlan::ResponseHeaders);
        let whole = of_response(filters.iter());
        assert_eq!(whole.set, [pair("a", "1"), pair("c", "2"), pair("e", "2")]);
        assert_eq!(whole.add, [pair("a", "2"), pair("f", "1"), pair("f", "2")]);
        assert_eq!(whole.remove, ["b", "d"]);
    }
}
