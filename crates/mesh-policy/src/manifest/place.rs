//! Where a field stands in a file, for whoever finds a problem once the file was read.

use super::node::{Node, Value};
use super::{foreign, objects, yaml_options};

/// The objects of a file, for as many look-ups as there are problems: the text is read once.
#[derive(Clone, Debug)]
pub struct Places(Vec<Node>);

impl Places {
    /// Reads `text` as [`super::parse_yaml`] does; a text that is no YAML has no places.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let options = yaml_options();
        let documents = serde_saphyr::from_multiple_with_options(text, options);
        let documents: Vec<Node> = documents.unwrap_or_default();
        let objects = documents.iter().flat_map(objects);
        let read = objects.filter(|object| !foreign::is_foreign(object));
        Self(read.cloned().collect())
    }

    /// Line and column of `field` of the object that [`super::parse_yaml`] gives at `index`, both
    /// from 1; of the deepest part of the path that the object has.
    #[must_use]
    pub fn find(&self, index: usize, field: &str) -> Option<(u32, u32)> {
        let mut node = self.0.get(index)?;
        for step in steps(field) {
            match child(node, step) {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line.zip(node.column)
    }
}

/// `spec.ports[0]` as `spec`, `ports`, `0`; a name in quotes may hold dots.
fn steps(field: &str) -> impl Iterator<Item = &str> {
    let mut rest = field;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['.', '[', ']']);
        if rest.is_empty() {
            return None;
        }
        let (step, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_at(rest.find(['.', '[', ']']).unwrap_or(rest.len())),
        };
        rest = after;
        Some(step)
    })
}

fn child<'a>(node: &'a Node, step: &str) -> Option<&'a Node> {
    match &node.value {
        Value::List(items) => items.get(step.parse::<usize>().ok()?),
        _ => node.get(step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# two\n---\nkind: A\n---\nkind: List\nitems:\n- kind: B\n  spec:\n    x.y: 1\n    list:\n    - a\n    - b: c\n";

    #[test]
    fn a_field_is_found_where_it_stands() {
        let table = [
            (0, "kind", (3, 7)),
            (1, "kind", (7, 9)),
            (1, "spec[\"x.y\"]", (9, 10)),
            (1, "spec.list[0]", (11, 7)),
            (1, "spec.list[1].b", (12, 10)),
            // A part that is absent is told at its holder.
            (1, "spec.list[0].none", (11, 7)),
            (1, "spec.list[7]", (11, 7)),
        ];
        let places = Places::of(TEXT);
        for (index, field, expected) in table {
            assert_eq!(places.find(index, field), Some(expected), "{index} {field}");
        }
        assert_eq!(places.find(2, "kind"), None);
        assert_eq!(Places::of("[").find(0, "kind"), None);
    }
}
