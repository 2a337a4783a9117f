//! Objects from files: read, checked as far as that goes without a server, and sent as one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mesh_discovery::admission;
use mesh_discovery::objects::ObjectName;
use mesh_discovery::wire::ApplyProblem;
use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::{Manifest, Parsed, Problem, parse_yaml, place};
use mesh_policy::name::Label;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::files::{self, Source};

/// All objects of all files.
#[derive(Debug)]
pub(crate) struct Manifests {
    sources: Vec<Source>,
    objects: Vec<Object>,
    pub(crate) warnings: Vec<Problem>,
}

/// An object and where it stands.
#[derive(Debug)]
struct Object {
    manifest: Manifest,
    source: usize,
    /// Which of its file's objects, from 0.
    index: usize,
}

/// What is known beside the files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Knowledge<'a> {
    /// The namespace of objects that say none; without it, `default`.
    pub(crate) namespace: Option<&'a Label>,
    /// The trust domain that identities must be of; without it, they are not checked.
    pub(crate) domain: Option<&'a TrustDomain>,
}

impl Manifests {
    /// Reads and checks.
    pub(crate) fn read(arguments: &[PathBuf], known: Knowledge<'_>) -> Result<Self, Vec<Problem>> {
        let sources = files::read(arguments)?;
        let mut all = Self {
            objects: Vec::new(),
            warnings: Vec::new(),
            sources,
        };
        let mut problems = Vec::new();
        for (number, source) in all.sources.iter().enumerate() {
            match parse_yaml(&source.name, &source.text) {
                Err(found) => problems.extend(found.0),
                Ok(Parsed {
                    manifests,
                    warnings,
                }) => {
                    if manifests.is_empty() {
                        problems.push(empty(source));
                    }
                    all.warnings.extend(warnings);
                    let objects = manifests.into_iter().enumerate();
                    all.objects.extend(objects.map(|(index, manifest)| Object {
                        manifest,
                        source: number,
                        index,
                    }));
                }
            }
        }
        for object in &mut all.objects {
            if let Some(namespace) = known.namespace {
                object.say_namespace(namespace);
            }
        }
        if let Some(domain) = known.domain {
            for object in &all.objects {
                if let Err(found) = admission::object(&object.manifest.raw, domain) {
                    let found = found.0.into_iter();
                    problems.extend(found.map(|problem| all.placed(object, problem)));
                }
            }
        }
        problems.extend(all.twice());
        if problems.is_empty() {
            Ok(all)
        } else {
            Err(problems)
        }
    }

    /// What the objects are called, in their order.
    pub(crate) fn names(&self) -> impl DoubleEndedIterator<Item = ObjectName> {
        let objects = self.objects.iter();
        objects.map(|object| ObjectName::of(&object.manifest))
    }

    /// How many files there were.
    pub(crate) fn files(&self) -> usize {
        self.sources.len()
    }

    /// All objects as one text, each on a line of its own: JSON is YAML.
    pub(crate) fn to_yaml(&self) -> String {
        let objects = self.objects.iter();
        let lines = objects.map(|object| format!("---\n{}\n", object.manifest.raw));
        lines.collect()
    }

    /// A problem that discovery found in the text of [`Manifests::to_yaml`], as one of the files.
    pub(crate) fn told(&self, problem: ApplyProblem) -> Problem {
        let ApplyProblem {
            line,
            field,
            message,
            ..
        } = problem;
        let found = Problem {
            field,
            message,
            ..Problem::default()
        };
        let at = line.and_then(|line| usize::try_from(line).ok());
        let object = at.and_then(|line| self.objects.get((line / 2).checked_sub(1)?));
        match object {
            Some(object) => self.placed(object, found),
            None => found,
        }
    }

    fn placed(&self, object: &Object, problem: Problem) -> Problem {
        let source = &self.sources[object.source];
        let at = place(&source.text, object.index, &problem.field);
        Problem {
            file: Some(source.name.clone()),
            line: at.map(|at| at.0),
            column: at.map(|at| at.1),
            ..problem
        }
    }

    /// Objects that are there twice: which of them would be meant?
    fn twice(&self) -> Vec<Problem> {
        let mut seen = BTreeMap::new();
        let mut problems = Vec::new();
        for object in &self.objects {
            let name = ObjectName::of(&object.manifest);
            let Some(first) = seen.get(&name) else {
                seen.insert(name, object);
                continue;
            };
            let first: &&Object = first;
            let source = &self.sources[first.source];
            let at = place(&source.text, first.index, "metadata.name");
            let line = at.map_or(0, |at| at.0);
            let problem = Problem {
                field: "metadata.name".to_owned(),
                message: format!("{name} stands in {}:{line} too", source.name),
                remedy: "keep one of them".to_owned(),
                ..Problem::default()
            };
            problems.push(self.placed(object, problem));
        }
        problems
    }
}

impl Object {
    fn say_namespace(&mut self, namespace: &Label) {
        let metadata = &mut self.manifest.raw["metadata"];
        let said = metadata.get("namespace").and_then(Value::as_str);
        if said.is_none_or(str::is_empty) {
            metadata["namespace"] = json!(namespace);
            self.manifest.meta.namespace = namespace.clone();
        }
    }
}

fn empty(source: &Source) -> Problem {
    Problem {
        file: Some(source.name.clone()),
        message: "holds no object".to_owned(),
        remedy: "write at least one, with apiVersion, kind and metadata.name".to_owned(),
        ..Problem::default()
    }
}

/// All problems, each on a line of its own, and what became of the rest.
pub(crate) fn refused(problems: &[Problem], ended: &str) -> Failure {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let count = lines.len();
    let word = if count == 1 { "problem" } else { "problems" };
    Failure::Input(format!(
        "{}\nmesh: {count} {word}: {ended}",
        lines.join("\n")
    ))
}

/// Warnings as lines of standard error.
pub(crate) fn warned(warnings: &[Problem]) -> Vec<String> {
    let warnings = warnings.iter();
    warnings
        .map(|warning| format!("Warning: {warning}"))
        .collect()
}
