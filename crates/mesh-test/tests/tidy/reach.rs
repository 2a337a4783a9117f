//! Every Rust file belongs to a target: a test that no target runs proves nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{read, root, sources};

#[test]
fn every_file_is_reached_by_a_target() {
    let all = sources();
    let mut reached = BTreeSet::new();
    for file in all.iter().filter(|file| is_target(file)) {
        follow(file, &mut reached);
    }
    let lost: Vec<_> = all.iter().filter(|file| !reached.contains(*file)).collect();
    assert!(lost.is_empty(), "no target reaches {lost:?}");
}

/// Roots by cargo's own rules: `src/{lib,main}.rs`, `src/bin/*`, `tests|examples|benches/{*.rs,*/main.rs}`.
fn is_target(file: &Path) -> bool {
    let parts: Vec<_> = file.iter().filter_map(|part| part.to_str()).collect();
    let count = parts.len();
    let package = if parts[0] == "benches" { 1 } else { 2 };
    let manifest = root().join(parts[..package].join("/")).join("Cargo.toml");
    assert!(manifest.exists(), "{} is in no package", file.display());
    match parts[package..] {
        ["src", "lib.rs" | "main.rs"] | ["build.rs"] => true,
        ["src", "bin", ..] | ["tests" | "examples" | "benches", ..] => {
            let top = if parts[package] == "src" {
                package + 2
            } else {
                package + 1
            };
            count == top + 1 || (count == top + 2 && parts[count - 1] == "main.rs")
        }
        _ => false,
    }
}

fn follow(file: &Path, reached: &mut BTreeSet<PathBuf>) {
    if !reached.insert(file.to_owned()) {
        return;
    }
    let text = read(file);
    let folder = file.parent().expect("a file has a folder");
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .expect("a name");
    let inner = match stem {
        "lib" | "main" | "mod" => folder.to_owned(),
        _ if is_target(file) => folder.to_owned(),
        _ => folder.join(stem),
    };
    for name in text.lines().filter_map(module_name) {
        for candidate in [
            inner.join(format!("{name}.rs")),
            inner.join(name).join("mod.rs"),
        ] {
            if root().join(&candidate).exists() {
                follow(&candidate, reached);
            }
        }
    }
}

/// The name in a line like `pub(crate) mod name;`.
fn module_name(line: &str) -> Option<&str> {
    let line = line.trim().strip_suffix(';')?;
    let (before, name) = line.rsplit_once("mod ")?;
    let visibility = before.trim();
    (visibility.is_empty() || visibility.starts_with("pub")).then_some(name)
}
