//! `mesh validate`: what `mesh apply` checks, as far as that goes without a server.

use std::path::PathBuf;

use mesh_discovery::compile::offline;
use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::{Problem, Skipped};
use serde_json::{Value, json};

use super::Done;
use crate::args::{Global, Output};
use crate::failure::{EX_DATAERR, Failure};
use crate::manifests::{Knowledge, Manifests, refused};
use crate::render;

/// Check files of policy without a server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file, a directory (its *.yaml, *.yml and *.json, by name), or - for standard input.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true)]
    filename: Vec<PathBuf>,
    /// The trust domain of the mesh, to warn of identities that match nobody there; without it,
    /// mesh.local is assumed.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<Done, Failure> {
    let known = Knowledge {
        namespace: global.namespace.as_ref(),
        insisted: global.namespace.as_ref(),
        domain: args.trust_domain.as_ref(),
    };
    let read = Manifests::read(&args.filename, known);
    if matches!(global.output, Output::Json | Output::Yaml) {
        return Ok(report(&read, args.trust_domain.as_ref(), global.output));
    }
    let manifests = read.map_err(|problems| refused(&problems, "mend them and check it again"))?;
    let count = |number: usize, word: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {word}{plural}")
    };
    let objects = count(manifests.names().count(), "object");
    let files = count(manifests.files(), "file");
    let mut notes = manifests.notes();
    let told = ineffective(&manifests, args.trust_domain.as_ref());
    notes.extend(told.iter().map(|one| format!("Warning: {one}")));
    Ok(Done {
        out: format!("{objects} in {files}: valid\n").into(),
        notes,
        exit: 0,
    })
}

/// What would have no effect, as far as the files say so.
fn ineffective(manifests: &Manifests, domain: Option<&TrustDomain>) -> Vec<String> {
    let domain = domain.cloned();
    let domain = domain.unwrap_or_else(|| "mesh.local".parse().expect("it is a trust domain"));
    let found = offline::ineffective(domain, &manifests.manifests());
    found.iter().map(ToString::to_string).collect()
}

fn report(
    read: &Result<Manifests, Vec<Problem>>,
    domain: Option<&TrustDomain>,
    output: Output,
) -> Done {
    let (objects, problems, (warnings, skipped)) = match read {
        Ok(manifests) => (manifests.names().count(), &[][..], manifests.told_beside()),
        Err(problems) => (0, &problems[..], (&[][..], &[][..])),
    };
    let ineffective = read.as_ref().map(|read| ineffective(read, domain));
    let ineffective = ineffective.unwrap_or_default();
    let value = json!({
        "valid": problems.is_empty(),
        "objects": objects,
        "problems": problems.iter().map(told).collect::<Vec<_>>(),
        "warnings": warnings.iter().map(told).collect::<Vec<_>>(),
        "skipped": skipped.iter().map(left_out).collect::<Vec<_>>(),
        "ineffective": ineffective,
    });
    Done {
        out: render::value(&value, output).into(),
        notes: Vec::new(),
        exit: if problems.is_empty() { 0 } else { EX_DATAERR },
    }
}

fn left_out(skipped: &Skipped) -> Value {
    json!({
        "apiVersion": skipped.api_version,
        "kind": skipped.kind,
        "namespace": skipped.namespace,
        "name": skipped.name,
    })
}

fn told(problem: &Problem) -> Value {
    json!({
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "field": problem.field,
        "message": problem.message,
        "remedy": problem.remedy,
    })
}
