//! Reads a tree field by field, and remembers every problem instead of stopping at the first.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::node::{Node, Value};
use super::problem::Problem;
use crate::name::Label;
use crate::nearest::nearest;

/// What is kept of each: the first mistakes are the ones to mend, and a huge file of them is an attack.
const MOST_PROBLEMS: usize = 200;

/// Where problems and warnings of one file gather.
#[derive(Debug, Default)]
pub(super) struct Sink {
    pub(super) file: Option<String>,
    pub(super) object: RefCell<Option<String>>,
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
}

/// A node, its path from the top, and where to complain.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
    pub(super) sink: &'a Sink,
}

fn keep(list: &RefCell<Vec<Problem>>, problem: Problem) {
    let mut list = list.borrow_mut();
    if list.len() < MOST_PROBLEMS {
        list.push(problem);
    }
}

impl<'a> At<'a> {
    pub(super) fn top(node: &'a Node, sink: &'a Sink) -> Self {
        let path = String::new();
        Self { node, path, sink }
    }

    fn problem(&self, message: impl Display, remedy: impl Display) -> Problem {
        Problem {
            file: self.sink.file.clone(),
            line: self.node.line,
            column: self.node.column,
            object: self.sink.object.borrow().clone(),
            field: self.path.clone(),
            message: message.to_string(),
            remedy: remedy.to_string(),
        }
    }

    /// Remembers what is wrong here, and gives nothing.
    pub(super) fn refuse<T>(&self, message: impl Display, remedy: impl Display) -> Option<T> {
        keep(&self.sink.problems, self.problem(message, remedy));
        None
    }

    /// Remembers what should be written otherwise and is understood all the same.
    pub(super) fn warn(&self, message: impl Display, remedy: impl Display) {
        keep(&self.sink.warnings, self.problem(message, remedy));
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            other => self.refuse(
                format!("is {}, not text", name_of(other)),
                "put it in quotes",
            ),
        }
    }

    /// Text that reads as a `T`; the type's own error is what people see.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self) -> Option<T> {
        match self.text()?.parse() {
            Ok(value) => Some(value),
            Err(error) => self.refuse(error, ""),
        }
    }

    /// Text out of a closed list of spellings.
    pub(super) fn one_of<T: Copy>(&self, known: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let remedy = match nearest(text, names.iter().copied()) {
            Some(name) => format!("write {name}"),
            None => format!("write one of {}", names.join(", ")),
        };
        self.refuse(format!("{:?} is not known", cut(text)), remedy)
    }

    pub(super) fn integer(&self, range: RangeInclusive<i128>) -> Option<i128> {
        let remedy = format!(
            "write a whole number from {} to {}",
            range.start(),
            range.end()
        );
        match &self.node.value {
            Value::Integer(value) if range.contains(value) => Some(*value),
            Value::Integer(value) => self.refuse(format!("{value} is out of range"), remedy),
            Value::Float(value) => self.refuse(format!("{value} is not a whole number"), remedy),
            other => self.refuse(format!("is {}, not a number", name_of(other)), remedy),
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match &self.node.value {
            Value::Float(value) => Some(*value),
            Value::Integer(value) => i32::try_from(*value).map_or_else(
                |_| self.refuse(format!("{value} is out of range"), "write a smaller number"),
                |value| Some(f64::from(value)),
            ),
            other => self.refuse(
                format!("is {}, not a number", name_of(other)),
                "write a number such as 0.2",
            ),
        }
    }

    pub(super) fn port(&self) -> Option<u16> {
        let port = self.integer(1..=65_535)?;
        u16::try_from(port).ok()
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            other => self.refuse(
                format!("is {}, not a boolean", name_of(other)),
                "write true or false",
            ),
        }
    }

    /// The name of an object: DNS labels with dots between them, at most 253 bytes in all.
    pub(super) fn object_name(&self) -> Option<String> {
        let text = self.text()?;
        if text.len() <= 253 && text.split('.').all(|part| part.parse::<Label>().is_ok()) {
            return Some(text.to_owned());
        }
        self.refuse(
            format!("{:?} is no name", cut(text)),
            "write lower-case letters, digits and inner '-'",
        )
    }

    /// The items of a list of at most `most`.
    pub(super) fn list(&self, most: usize) -> Option<Vec<Self>> {
        let Value::List(nodes) = &self.node.value else {
            let what = name_of(&self.node.value);
            return self.refuse(
                format!("is {what}, not a list"),
                "begin each item with '- '",
            );
        };
        if nodes.len() > most {
            return self.refuse(
                format!("has {} items", nodes.len()),
                format!("write at most {most}"),
            );
        }
        let item = |(index, node)| Self {
            node,
            path: format!("{}[{index}]", self.path),
            sink: self.sink,
        };
        Some(nodes.iter().enumerate().map(item).collect())
    }

    /// The fields of a map.
    pub(super) fn fields(&self) -> Fields<'a> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries.as_slice(),
            other => {
                let what = name_of(other);
                self.refuse::<()>(
                    format!("is {what}, not a map"),
                    "write fields as 'name: value'",
                );
                &[]
            }
        };
        let child = |(key, node): &'a (super::node::Key, Node)| Entry {
            key,
            at: At {
                node,
                path: join(&self.path, &key.name),
                sink: self.sink,
            },
            taken: false,
        };
        Fields {
            at: self.clone(),
            entries: entries.iter().map(child).collect(),
            known: Vec::new(),
        }
    }
}

/// Reads every item, so that the problems of all of them are told; all of them or nothing.
pub(super) fn each<'a, T>(
    items: &[At<'a>],
    read: impl FnMut(&At<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<_> = items.iter().map(read).collect();
    read.into_iter().collect()
}

/// The first item whose key was there before.
pub(super) fn repeated<K: Ord>(keys: impl IntoIterator<Item = K>) -> Option<usize> {
    let mut seen = BTreeSet::new();
    keys.into_iter().position(|key| !seen.insert(key))
}

fn join(path: &str, name: &str) -> String {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match (path, plain) {
        ("", true) => name.to_owned(),
        (path, true) => format!("{path}.{name}"),
        (path, false) => format!("{path}[{:?}]", cut(name)),
    }
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

const fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Text(_) => "text",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}

/// The fields of one map; what nobody takes is a problem at the end.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    at: At<'a>,
    entries: Vec<Entry<'a>>,
    known: Vec<&'static str>,
}

#[derive(Debug)]
struct Entry<'a> {
    key: &'a super::node::Key,
    at: At<'a>,
    taken: bool,
}

impl<'a> Fields<'a> {
    /// The field of this name; one that is empty counts as absent.
    pub(super) fn take(&mut self, name: &'static str) -> Option<At<'a>> {
        self.known.push(name);
        let entry = self
            .entries
            .iter_mut()
            .find(|entry| entry.key.name == name)?;
        entry.taken = true;
        (entry.at.node.value != Value::Null).then(|| entry.at.clone())
    }

    /// The field of this name, which must be there.
    pub(super) fn need(&mut self, name: &'static str, remedy: &str) -> Option<At<'a>> {
        let found = self.take(name);
        if found.is_none() {
            let here = At {
                path: join(&self.at.path, name),
                ..self.at.clone()
            };
            return here.refuse("is missing", remedy);
        }
        found
    }

    /// The items of a list that may be absent.
    pub(super) fn items(&mut self, name: &'static str, most: usize) -> Vec<At<'a>> {
        let found = self.narrowing(name).and_then(|at| at.list(most));
        found.unwrap_or_default()
    }

    /// The field of this name, which narrows what an object is about. One that is written and
    /// left empty is refused: its items commented out would widen the object in silence.
    pub(super) fn narrowing(&mut self, name: &'static str) -> Option<At<'a>> {
        let empty = self.entries.iter().find(|entry| {
            let null = entry.at.node.value == Value::Null;
            entry.key.name == name && null
        });
        if let Some(entry) = empty {
            entry
                .at
                .refuse::<()>("is written and empty", "fill it in, or leave it out");
        }
        self.take(name)
    }

    /// The items of a list that must be there and hold something.
    pub(super) fn need_items(
        &mut self,
        name: &'static str,
        most: usize,
        remedy: &str,
    ) -> Option<Vec<At<'a>>> {
        let at = self.need(name, remedy)?;
        let items = at.list(most)?;
        if items.is_empty() {
            return at.refuse("is empty", remedy);
        }
        Some(items)
    }

    /// Passes over a field that means nothing here, whatever it holds.
    pub(super) fn pass(&mut self, names: &[&'static str]) {
        for name in names {
            drop(self.take(name));
        }
    }

    /// Refuses fields that are known and not honoured: ignoring one would be a lie.
    pub(super) fn not_yet(&mut self, names: &[&'static str]) {
        for name in names {
            if let Some(at) = self.take(name) {
                at.refuse::<()>("is not supported in this version", "leave it out");
            }
        }
    }

    /// Points at fields that their specification has and that change nothing here.
    pub(super) fn without_effect(&mut self, names: &[&'static str], why: &str) {
        for name in names {
            if let Some(at) = self.take(name) {
                at.warn(format!("has no effect: {why}"), "leave it out");
            }
        }
    }

    /// Complains of the map itself.
    pub(super) fn refuse<T>(&self, message: impl Display, remedy: impl Display) -> Option<T> {
        self.at.refuse(message, remedy)
    }

    /// Complains of every field that nobody took.
    pub(super) fn finish(self) {
        let unknown = self.entries.iter().filter(|entry| !entry.taken);
        for entry in unknown.take(MOST_PROBLEMS) {
            let name = &entry.key.name;
            let remedy = match nearest(name, self.known.iter().copied()) {
                Some(known) => format!("write {known}"),
                None if self.known.is_empty() => "leave it out".to_owned(),
                None => format!("the fields here are {}", self.known.join(", ")),
            };
            let mut problem = entry.at.problem("is no field that is known here", remedy);
            (problem.line, problem.column) = (entry.key.line, entry.key.column);
            keep(&self.at.sink.problems, problem);
        }
    }
}
