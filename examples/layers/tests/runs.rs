//! The layers alone, as the example shows them.

use std::process::Command;

#[test]
fn layers_alone_allow_and_refuse_as_in_the_mesh() {
    let output = Command::new(env!("CARGO_BIN_EXE_layers"))
        .output()
        .expect("it starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(lines[0], "from loopback: 200 OK hello");
    assert!(
        lines[1].starts_with("from elsewhere: 403 Forbidden"),
        "{text}"
    );
}
