//! `docs/guarantees.md` names a test for every promise it makes, and the test exists.

use super::{read, sources};

#[test]
fn every_promise_is_held_up_by_a_test_of_its_id() {
    let tests: String = sources().iter().map(read).collect();
    let page = read("docs/guarantees.md");
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, id, .., named, _] = cells[..] else {
            continue;
        };
        if id.len() != 3 || !id.ends_with(|last: char| last.is_ascii_digit()) {
            continue;
        }
        rows += 1;
        let mut found = 0;
        for test in named.split('`').skip(1).step_by(2) {
            found += 1;
            assert!(
                test.starts_with(&format!("{}_", id.to_lowercase())),
                "{id}: {test} does not carry the id"
            );
            assert!(
                tests.contains(&format!("fn {test}(")),
                "{id}: no test is called {test}"
            );
        }
        assert!(found > 0, "{id} names no test");
    }
    assert!(rows >= 20, "the table lost its rows: {rows}");
}
