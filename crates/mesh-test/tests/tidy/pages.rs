//! Pages point at things that exist, and say what the code says.

use super::{files, read, root};

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = files("docs", "md");
    pages.extend(["README.md".into(), "CHANGELOG.md".into()]);
    for page in pages {
        let text = read(&page);
        let folder = page.parent().expect("a page has a folder");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = root().join(folder).join(target);
            assert!(path.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
}

#[test]
fn the_readme_shows_the_example_that_is_run() {
    let readme = read("README.md");
    for example in [
        "examples/hello/src/main.rs",
        "examples/service-fn/src/main.rs",
    ] {
        let code = read(example);
        let shown = code.split("\n\n").skip(1).collect::<Vec<_>>().join("\n\n");
        assert!(
            readme.contains(shown.trim()),
            "README.md does not show {example} as it is"
        );
    }
}

#[test]
fn every_metric_is_in_the_reference() {
    let page = read("docs/reference/metrics.md");
    let mut sources = files("crates/mesh-core/src/telemetry", "rs");
    sources.push("crates/mesh-discovery/src/metrics.rs".into());
    let mut names = 0;
    for source in sources {
        let text = read(&source);
        for name in text
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|text| is_metric(text))
        {
            names += 1;
            assert!(
                page.contains(&format!("`{name}`")),
                "docs/reference/metrics.md lacks {name} of {}",
                source.display()
            );
        }
    }
    assert!(names > 10, "hardly a metric was found: {names}");
}

/// Whether a literal is the name of one of our families.
fn is_metric(literal: &str) -> bool {
    let ours = [
        "mesh_",
        "request_",
        "response_",
        "tcp_",
        "inbound_",
        "outbound_",
        "route_",
    ];
    literal.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        && !["mesh_core", "mesh_discovery"].contains(&literal)
        && ours.iter().any(|prefix| literal.starts_with(prefix))
}
