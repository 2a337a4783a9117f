//! `mesh delete`: objects by name, or all that files hold.

use std::path::PathBuf;

use mesh_discovery::client::ClientError;
use mesh_discovery::objects::ObjectName;
use mesh_policy::manifest::Kind;

use super::{Done, apply, get, unreadable};
use crate::access::Access;
use crate::args::Global;
use crate::failure::{Failure, NO};
use crate::manifests::{Knowledge, Manifests, refused};

/// Delete what is applied.
///
/// Objects are deleted one after the other, those of files from the last to the first; one that
/// is not there is told, the others go all the same, and the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kind and the name, or KIND/NAME; or the word unreadable and the key of a record.
    #[arg(value_name = "KIND NAME", num_args = 1..=2, required_unless_present = "filename", conflicts_with = "filename")]
    object: Vec<String>,
    /// A file, a directory (its *.yaml, *.yml and *.json), or - for standard input.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,
    /// What is not there is as good as deleted.
    #[arg(long)]
    ignore_not_found: bool,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<Done, Failure> {
    if let [file] = &args.object[..]
        && [".yaml", ".yml", ".json"]
            .iter()
            .any(|end| file.ends_with(end))
    {
        let message =
            format!("{file:?} is no kind: a file is named with -f, as in mesh delete -f {file}");
        return Err(Failure::Usage(message));
    }
    // What is wrong with the command line is told before credentials are looked for.
    let named = match args.filename.is_empty() {
        true => match one(&args.object) {
            Ok(one) => Some(one),
            Err(unknown) => return unreadable::delete(&args.object, unknown, global).await,
        },
        false => None,
    };
    let access = Access::new(global)?;
    let names = match named {
        Some((kind, name)) => vec![ObjectName {
            kind,
            namespace: access.namespace.to_string(),
            name,
        }],
        None => held(&args, &access, global)?,
    };
    let mut done = Done::default();
    for name in names {
        match access.client.delete(&name).await {
            Ok(()) => {
                let line = format!("{} \"{}\" deleted\n", apply::resource(&name), name.name);
                done.out.extend_from_slice(line.as_bytes());
            }
            Err(ClientError::NotFound { .. }) if args.ignore_not_found => {}
            Err(ClientError::NotFound { message }) => {
                done.notes.push(format!("mesh: {message}"));
                done.exit = NO;
            }
            Err(error) => {
                // What is gone already must be said all the same.
                crate::print::out(&done.out)?;
                return Err(error.into());
            }
        }
    }
    Ok(done)
}

fn one(words: &[String]) -> Result<(Kind, String), Failure> {
    let (kind, name) = get::subject(words)?;
    let nothing = || Failure::Usage("nothing is named: write mesh delete KIND NAME".to_owned());
    Ok((kind, name.ok_or_else(nothing)?))
}

/// The objects that the files hold, the last one first.
fn held(args: &Args, access: &Access, global: &Global) -> Result<Vec<ObjectName>, Failure> {
    let known = Knowledge {
        namespace: Some(&access.namespace),
        insisted: global.namespace.as_ref(),
        domain: None,
    };
    let manifests = Manifests::read(&args.filename, known);
    let manifests = manifests.map_err(|found| refused(&found, "nothing was deleted"))?;
    Ok(manifests.names().rev().collect())
}
