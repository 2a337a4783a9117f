//! mesh-policy decides and does nothing else; the lints cannot see every way out, so the text is read too.

use super::{files, read};

const REFUSED: &[&str] = &[
    "tokio",
    "rand::",
    "fastrand",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io",
    "TcpStream",
    "UdpSocket",
    "async fn",
    "println!",
];

#[test]
fn policy_has_no_clock_no_randomness_and_no_io() {
    let sources = files("crates/mesh-policy/src", "rs");
    assert!(!sources.is_empty());
    for source in sources {
        // A module of tests, which its parent compiles for tests alone.
        if source.ends_with("tests.rs") {
            continue;
        }
        let text = read(&source);
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("#[cfg(test)]") {
                break;
            }
            let code = line.split("//").next().unwrap_or_default();
            for word in REFUSED {
                assert!(
                    !code.contains(word),
                    "{}:{}: {word} has no place in mesh-policy",
                    source.display(),
                    number + 1
                );
            }
        }
    }
    let manifest = read("crates/mesh-policy/Cargo.toml");
    for crate_name in ["tokio", "rand", "fastrand", "reqwest", "hyper"] {
        assert!(
            !manifest.contains(&format!("\n{crate_name}")),
            "{crate_name}"
        );
    }
}
