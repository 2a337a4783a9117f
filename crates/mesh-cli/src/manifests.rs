//! Objects from files: read, checked as far as that goes without a server, and sent as one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mesh_discovery::admission;
use mesh_discovery::objects::ObjectName;
use mesh_discovery::wire::ApplyProblem;
use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::{Manifest, Parsed, Problem, Skipped, parse_yaml};
use mesh_policy::name::Label;
use serde_json::json;

use crate::failure::Failure;
use crate::files::{self, Source};

/// Problems that are told at once; who mends these sees the rest.
const MOST_TOLD: usize = 100;

/// All objects of all files.
#[derive(Debug)]
pub(crate) struct Manifests {
    sources: Vec<Source>,
    objects: Vec<Object>,
    skipped: Vec<Skipped>,
    warnings: Vec<Problem>,
}

/// An object and where it stands.
#[derive(Debug)]
struct Object {
    manifest: Manifest,
    source: usize,
    /// Which of its file's objects, from 0.
    index: usize,
    /// Whether it says its namespace.
    placed: bool,
}

/// What is known beside the files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Knowledge<'a> {
    /// The namespace of objects that say none; without it, `default`.
    pub(crate) namespace: Option<&'a Label>,
    /// The only namespace that objects may be in, where the command line says one.
    pub(crate) insisted: Option<&'a Label>,
    /// The trust domain of the mesh; without it, `mesh.local` is taken for it.
    pub(crate) domain: Option<&'a TrustDomain>,
}

impl Manifests {
    /// Reads and checks.
    pub(crate) fn read(arguments: &[PathBuf], known: Knowledge<'_>) -> Result<Self, Vec<Problem>> {
        let sources = files::read(arguments)?;
        let mut all = Self {
            objects: Vec::new(),
            skipped: Vec::new(),
            warnings: Vec::new(),
            sources,
        };
        let mut problems = Vec::new();
        for (number, source) in all.sources.iter().enumerate() {
            match parse_yaml(&source.name, &source.text) {
                Err(found) => problems.extend(found.0),
                Ok(Parsed {
                    manifests,
                    skipped,
                    warnings,
                }) => {
                    if manifests.is_empty() && skipped.is_empty() {
                        problems.push(empty(source));
                    }
                    all.warnings.extend(warnings);
                    all.skipped.extend(skipped);
                    let objects = manifests.into_iter().enumerate();
                    all.objects.extend(objects.map(|(index, manifest)| Object {
                        source: number,
                        index,
                        placed: says_namespace(&manifest),
                        manifest,
                    }));
                }
            }
        }
        for object in &mut all.objects {
            if let Some(namespace) = known.namespace {
                object.say_namespace(namespace);
            }
        }
        problems.extend(all.admitted(known.domain));
        if let Some(namespace) = known.insisted {
            problems.extend(all.elsewhere(namespace));
        }
        problems.extend(all.twice());
        if problems.is_empty() {
            Ok(all)
        } else {
            Err(problems)
        }
    }

    /// Checks each object as discovery does; gives the problems and keeps the warnings.
    fn admitted(&mut self, domain: Option<&TrustDomain>) -> Vec<Problem> {
        let guessed = "mesh.local".parse().expect("it is a trust domain");
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for object in &self.objects {
            let raw = &object.manifest.raw;
            if let Err(found) = admission::object(raw, domain.unwrap_or(&guessed)) {
                let found = found.0.into_iter();
                problems.extend(found.map(|problem| self.placed(object, problem)));
            }
            let nobody = admission::nobody(&object.manifest, domain.unwrap_or(&guessed));
            warnings.extend(nobody.into_iter().map(|mut warning| {
                if domain.is_none() {
                    warning.remedy = "if its trust domain is mesh.local, as is assumed here".into();
                }
                self.placed(object, warning)
            }));
        }
        self.warnings.extend(warnings);
        problems
    }

    /// Warnings, and what was skipped, as lines of standard error.
    pub(crate) fn notes(&self) -> Vec<String> {
        let warnings = self.warnings.iter();
        let mut notes: Vec<_> = warnings
            .map(|warning| format!("Warning: {warning}"))
            .collect();
        if let count @ 1.. = self.skipped.len() {
            let word = if count == 1 { "object" } else { "objects" };
            let list = Skipped::list(&self.skipped);
            notes.push(format!(
                "Skipped {count} {word} of kinds that the mesh does not serve: {list}"
            ));
        }
        notes
    }

    /// The warnings, and what was skipped.
    pub(crate) fn told_beside(&self) -> (&[Problem], &[Skipped]) {
        (&self.warnings, &self.skipped)
    }

    /// What the objects are called, in their order.
    pub(crate) fn names(&self) -> impl DoubleEndedIterator<Item = ObjectName> {
        let objects = self.objects.iter();
        objects.map(|object| ObjectName::of(&object.manifest))
    }

    /// The names of the objects, and whether each says its namespace.
    pub(crate) fn placed_names(&self) -> impl Iterator<Item = (ObjectName, bool)> {
        let objects = self.objects.iter();
        objects.map(|object| (ObjectName::of(&object.manifest), object.placed))
    }

    /// Copies of the objects as they were read.
    pub(crate) fn manifests(&self) -> Vec<Manifest> {
        let objects = self.objects.iter();
        objects.map(|object| object.manifest.clone()).collect()
    }

    /// The objects as they were read.
    pub(crate) fn into_manifests(self) -> Vec<Manifest> {
        let objects = self.objects.into_iter();
        objects.map(|object| object.manifest).collect()
    }

    /// How many files there were.
    pub(crate) fn files(&self) -> usize {
        self.sources.len()
    }

    /// All objects as one text, each on a line of its own: JSON is YAML.
    pub(crate) fn to_yaml(&self) -> String {
        let objects = self.objects.iter();
        let lines = objects.map(|object| {
            let json = object.manifest.raw.to_string();
            format!("---\n{}\n", escaped(&json))
        });
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
        let at = source.place(object.index, &problem.field);
        Problem {
            file: Some(source.name.clone()),
            line: at.map(|at| at.0),
            column: at.map(|at| at.1),
            ..problem
        }
    }

    /// Objects outside the namespace that the command line says.
    fn elsewhere(&self, namespace: &Label) -> Vec<Problem> {
        let others = self.objects.iter();
        let others = others.filter(|object| object.manifest.meta.namespace != *namespace);
        others
            .map(|object| {
                let said = &object.manifest.meta.namespace;
                let problem = Problem {
                    field: "metadata.namespace".to_owned(),
                    message: format!("is {said}, and -n says {namespace}"),
                    remedy: "say one of them alone".to_owned(),
                    ..Problem::default()
                };
                self.placed(object, problem)
            })
            .collect()
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
            let at = source.place(first.index, "metadata.name");
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
        if !self.placed {
            self.manifest.raw["metadata"]["namespace"] = json!(namespace);
            self.manifest.meta.namespace = namespace.clone();
        }
    }
}

fn says_namespace(manifest: &Manifest) -> bool {
    let said = manifest.raw["metadata"]["namespace"].as_str();
    said.is_some_and(|namespace| !namespace.is_empty())
}

/// JSON as YAML that no reader takes otherwise: some characters beyond ASCII break YAML's lines,
/// or stand for nothing.
fn escaped(json: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ' '..='~' => text.push(c),
            // All that is left stands in strings, where YAML knows this escape.
            c => write!(text, "\\U{:08X}", u32::from(c)).expect("a string takes every write"),
        }
    }
    text
}

fn empty(source: &Source) -> Problem {
    Problem {
        file: Some(source.name.clone()),
        message: "holds no object".to_owned(),
        remedy: "write at least one, with apiVersion, kind and metadata.name".to_owned(),
        ..Problem::default()
    }
}

/// The first problems, each on a line of its own, and what became of the rest.
pub(crate) fn refused(problems: &[Problem], ended: &str) -> Failure {
    let count = problems.len();
    let told = problems.iter().take(MOST_TOLD);
    let mut lines: Vec<_> = told.map(ToString::to_string).collect();
    if let more @ 1.. = count.saturating_sub(MOST_TOLD) {
        lines.push(format!("and {more} more"));
    }
    let word = if count == 1 { "problem" } else { "problems" };
    Failure::Input(format!(
        "{}\nmesh: {count} {word}: {ended}",
        lines.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Manifests {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, text).unwrap();
        Manifests::read(&[file], Knowledge::default()).unwrap()
    }

    fn service(name: &str, note: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  annotations: {{x: {note}}}\n\
             spec: {{ports: [{{port: 80}}]}}\n"
        )
    }

    #[test]
    fn objects_travel_as_they_were_written() {
        let odd = r#""\u00e4\u0085\u2028\u2029\ufeff\U0001F600\t\n\\ \x7f\" 'no'""#;
        let manifests = read(&service("a", odd));
        let sent = manifests.to_yaml();
        assert!(sent.is_ascii(), "{sent}");
        let received = parse_yaml("", &sent).unwrap().manifests;
        assert_eq!(received[0].raw, manifests.objects[0].manifest.raw);
    }

    #[test]
    fn a_problem_of_discovery_is_told_of_the_file() {
        let manifests = read(&[service("a", "b"), service("c", "d")].concat());
        let problem = |line| ApplyProblem {
            line,
            column: Some(1),
            field: "spec.ports[0].port".to_owned(),
            message: "is odd".to_owned(),
        };
        let told = manifests.told(problem(Some(4))).to_string();
        assert!(
            told.ends_with("a.yaml:14:23: spec.ports[0].port: is odd"),
            "{told}"
        );
        let told = manifests.told(problem(Some(2))).to_string();
        assert!(
            told.ends_with("a.yaml:7:23: spec.ports[0].port: is odd"),
            "{told}"
        );
        for line in [None, Some(0), Some(99)] {
            let told = manifests.told(problem(line)).to_string();
            assert_eq!(told, "spec.ports[0].port: is odd");
        }
    }
}
