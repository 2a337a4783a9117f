//! Style that can be measured: arrows between crates, purity, sizes, reach, and pages that must be true.

mod arrows;
mod guarantees;
mod pages;
mod purity;
mod reach;
mod size;

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A file below the root, read whole.
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file with this ending below `folder`, relative to the root, in order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().and_then(|name| name.to_str());
            let hidden = name.is_none_or(|name| name.starts_with('.') || name == "target");
            if path.is_dir() && !hidden {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                let inside = path.strip_prefix(root()).expect("below the root");
                found.push(inside.to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file of the workspace.
fn sources() -> Vec<PathBuf> {
    ["crates", "examples", "benches"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .collect()
}
