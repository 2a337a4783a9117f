//! Who may depend on whom; dev-dependencies count, since a cycle gives two versions of one crate.

use super::{files, read};

const ALLOWED: &[(&str, &[&str])] = &[
    ("mesh-policy", &[]),
    ("mesh-tls", &["mesh-policy"]),
    ("mesh-core", &["mesh-policy", "mesh-tls"]),
    ("mesh-discovery", &["mesh-policy", "mesh-tls"]),
];

#[test]
fn crates_depend_only_along_the_arrows() {
    let mut checked = 0;
    for manifest in files("crates", "toml") {
        let text = read(&manifest);
        let Some(name) = package_name(&text) else {
            continue;
        };
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        checked += 1;
        for dependency in mesh_dependencies(&text) {
            assert!(
                allowed.contains(&dependency),
                "{} depends on {dependency}: only {allowed:?} may stand there",
                manifest.display()
            );
        }
    }
    assert_eq!(checked, ALLOWED.len(), "a crate of the table is gone");
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for manifest in files("crates", "toml") {
        let text = read(&manifest);
        if package_name(&text).is_some() {
            assert!(
                text.contains("[lints]\nworkspace = true"),
                "{} lacks the workspace's lints",
                manifest.display()
            );
        }
    }
}

fn package_name(manifest: &str) -> Option<&str> {
    let name = manifest.split("[package]").nth(1)?;
    name.split("name = \"").nth(1)?.split('"').next()
}

fn mesh_dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && line.starts_with("mesh-") {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            found.push(&line[..end]);
        }
    }
    found
}
