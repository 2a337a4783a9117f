//! What else an application links, beside the mesh.

use std::process::Command;

/// Cargo unites the features of a crate over everything that a program links: a feature that
/// mesh-core switched on would be switched on for the application. The program is built alone,
/// since the workspace as a whole has reqwest with other features.
#[test]
fn an_applications_own_reqwest_works_beside_the_mesh() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = Command::new(cargo)
        .args(["run", "--quiet", "--locked", "--package", "own-reqwest"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo runs");
    let (said, errors) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{errors}");
    assert!(said.contains("reqwest: Client"), "{said}");
    assert!(said.contains("mesh: token cannot be"), "{said}");
}
