//! `mesh apply`: files of policy, all or nothing.

use std::path::PathBuf;

use mesh_discovery::client::{ClientError, Manifests as Text};
use mesh_discovery::objects::ObjectName;
use mesh_discovery::wire::{Action, Applied};
use mesh_policy::manifest::Problem;
use serde_json::json;

use super::Done;
use crate::access::Access;
use crate::args::{Global, Output};
use crate::failure::Failure;
use crate::manifests::{Knowledge, Manifests, refused};
use crate::render;

const NOTHING: &str = "nothing was applied; mend them and apply it again";

/// Apply files of policy, all or nothing.
///
/// All objects of all files are checked first; one that is wrong, and none is applied. Every
/// problem is told as `file:line:col: field: what is wrong, what to write instead`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file, a directory (its *.yaml, *.yml and *.json, by name), or - for standard input.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true)]
    filename: Vec<PathBuf>,
    /// Check all of it, with the server too, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<Done, Failure> {
    let access = Access::new(global)?;
    let known = Knowledge {
        namespace: Some(&access.namespace),
        insisted: global.namespace.as_ref(),
        domain: Some(access.client.trust_domain()),
    };
    let manifests = Manifests::read(&args.filename, known);
    let manifests = manifests.map_err(|problems| refused(&problems, NOTHING))?;
    if manifests.names().next().is_none() {
        return Ok(Done {
            notes: manifests.notes(),
            ..Done::say("nothing to apply\n")
        });
    }
    let yaml = manifests.to_yaml();
    let text = Text::new("", &yaml);
    let text = if args.dry_run { text.dry_run() } else { text };
    let applied = access.client.apply(&text).await;
    let applied = applied.map_err(|error| by_file(error, &manifests))?;
    let mut notes = manifests.notes();
    let ineffective = applied.ineffective.iter();
    notes.extend(ineffective.map(|one| format!("Warning: {one}")));
    let out = match global.output {
        Output::Table | Output::Wide => lines(&manifests, &applied, args.dry_run),
        Output::Json | Output::Yaml => {
            let value = json!({"revision": applied.revision, "results": applied.results});
            render::value(&value, global.output)
        }
    };
    Ok(Done {
        out: out.into(),
        notes,
        exit: 0,
    })
}

/// What discovery found wrong, told of the files that it stands in.
fn by_file(error: ClientError, manifests: &Manifests) -> Failure {
    match error {
        ClientError::Refused { problems, .. } if !problems.is_empty() => {
            let told = problems.into_iter().map(|problem| manifests.told(problem));
            let told: Vec<Problem> = told.collect();
            refused(&told, NOTHING)
        }
        error => error.into(),
    }
}

fn lines(manifests: &Manifests, applied: &Applied, dry_run: bool) -> String {
    let dry = if dry_run { " (dry run)" } else { "" };
    let results = manifests.placed_names().zip(&applied.results);
    results
        .map(|((name, placed), result)| {
            let action = match result.action {
                Action::Created => "created",
                Action::Configured => "configured",
                Action::Unchanged => "unchanged",
            };
            let place = match placed {
                true => String::new(),
                false => format!(" in namespace {}", name.namespace),
            };
            format!("{}/{} {action}{place}{dry}\n", resource(&name), name.name)
        })
        .collect()
}

/// The kind as kubectl says it: `httproute.gateway.networking.k8s.io`, `service`.
pub(super) fn resource(name: &ObjectName) -> String {
    let singular = name.kind.singular();
    match name.kind.group() {
        "" => singular.to_owned(),
        group => format!("{singular}.{group}"),
    }
}
