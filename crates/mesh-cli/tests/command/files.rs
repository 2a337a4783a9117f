//! `mesh validate`: every way in which a file can be wrong.

use std::io::Write;

use crate::{EVERYDAY, Said, alone, command, folder, path, said};

async fn validate(text: &[u8]) -> Said {
    said(command(&["validate", "-f", "-"]), text).await
}

#[tokio::test]
async fn everyday_documents_are_valid_and_their_leniencies_are_warned_of() {
    let files = folder(&[("everyday.yaml", EVERYDAY)]);
    let file = path(files.path(), "everyday.yaml");
    let valid = alone(&["validate", "-f", &file]).await;
    let warnings: Vec<_> = valid.err.lines().collect();
    assert_eq!(warnings.len(), 3, "{}", valid.err);
    let place = format!("Warning: {file}:33:5: spec.parentRefs[0]: ");
    assert!(warnings[0].starts_with(&place), "{}", warnings[0]);
    assert_eq!(valid.ok(), "6 objects in 1 file: valid\n");
    let json = alone(&["validate", "-f", &file, "-o", "json"]).await.ok();
    assert!(
        json.contains("\"valid\": true") && json.contains("\"line\": 33"),
        "{json}"
    );
    let foreign = EVERYDAY.replace("linkerd.cluster.local", "linkerd.mesh.local");
    let domain = ["validate", "-f", "-", "--trust-domain"];
    let check = async |domain_name: &str| {
        let arguments = [&domain[..], &[domain_name]].concat();
        said(command(&arguments), foreign.as_bytes()).await
    };
    let matching = check("mesh.local").await;
    assert!(!matching.err.contains("NOBODY"), "{}", matching.err);
    let other = check("other.example").await;
    let place = "Warning: (standard input):73:5: spec.identities[0]: matches NOBODY";
    assert!(
        other.err.lines().any(|line| line.starts_with(place)),
        "{}",
        other.err
    );
    other.ok();
}

#[tokio::test]
async fn what_belongs_to_a_cluster_is_skipped_and_listed_on_stderr() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {}\n---\n\
                apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec: {}\n";
    let skipped = validate(text.as_bytes()).await;
    let lines: Vec<_> = skipped.err.lines().collect();
    let warning = "Warning: (standard input):6:1: WARNING: the NetworkPolicy shop/deny (networking.k8s.io/v1) is NOT ENFORCED";
    assert!(lines[0].starts_with(warning), "{}", skipped.err);
    assert_eq!(
        lines[1],
        "Skipped 2 objects of kinds that the mesh does not serve: Deployment shop/web (apps/v1), \
         NetworkPolicy shop/deny (networking.k8s.io/v1)"
    );
    assert_eq!(skipped.ok(), "0 objects in 1 file: valid\n");
}

/// What `mesh validate` says of these, to the letter.
#[tokio::test]
async fn c06_mistakes_are_told_by_file_line_field_and_remedy() {
    let object = |api: &str, kind: &str, rest: &str| {
        format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: a, namespace: b}}\n{rest}\n")
    };
    let service = |rest: &str| object("v1", "Service", rest);
    let route = |spec: &str| object("gateway.networking.k8s.io/v1", "HTTPRoute", spec);
    for (text, expected) in [
        (
            service("spec: {ports: [{port: 80}], slector: {}}"),
            "4:29: spec.slector: is no field that is known here, write selector",
        ),
        (
            object("v1", "Servise", "spec: {}"),
            "1:1: v1, kind Servise, is not served, write apiVersion v1, kind Service",
        ),
        (
            object("gateway.networking.k8s.io/v2", "HTTPRoute", "spec: {}"),
            "1:1: gateway.networking.k8s.io/v2, kind HTTPRoute, is not served, \
             write apiVersion gateway.networking.k8s.io/v1, kind HTTPRoute",
        ),
        (
            service("spec: {ports: [{port: eighty}]}"),
            "4:23: spec.ports[0].port: is text, not a number, write a whole number from 1 to 65535",
        ),
        (
            route(
                "spec: {parentRefs: [{name: a, group: '', kind: Service}], rules: [{}, {name: A B}]}",
            ),
            "4:",
        ),
        (
            service("kind: Service\nspec: {}"),
            "4:1: this is no YAML that can be read: ",
        ),
        ("a: [".to_owned(), "1:"),
        (
            String::new(),
            " holds no object, write at least one, with apiVersion, kind and metadata.name",
        ),
        ("---\n---\n# nothing\n".to_owned(), " holds no object"),
    ] {
        let err = validate(text.as_bytes()).await.ends(65);
        let first = err.lines().next().unwrap_or_default();
        let said = first.strip_prefix("(standard input):").unwrap_or(first);
        assert!(
            said.starts_with(expected),
            "{text}\nexpected {expected}\n{err}"
        );
        assert!(
            err.lines()
                .last()
                .is_some_and(|last| last.starts_with("mesh: ")),
            "{err}"
        );
    }
}

#[tokio::test]
async fn c06_what_is_no_file_of_policy_is_refused() {
    let files = folder(&[("readme.md", "# hello\n"), (".hidden.yaml", "x")]);
    std::fs::create_dir(files.path().join("inner.yaml")).expect("a folder");
    let at = files.path().to_str().expect("UTF-8").to_owned();
    let err = alone(&["validate", "-f", &at]).await.ends(65);
    assert!(
        err.contains("holds no *.yaml, *.yml or *.json file"),
        "{err}"
    );
    let err = alone(&["validate", "-f", "/nowhere.yaml"]).await.ends(65);
    assert!(err.starts_with("/nowhere.yaml: cannot be read: "), "{err}");
    let err = validate(b"kind: a\nab\xff\xfe\x00").await.ends(65);
    assert!(
        err.contains("(standard input):2:3: this byte is no UTF-8"),
        "{err}"
    );
    let err = validate(b"\0\x01\x02\x03").await.ends(65);
    assert!(err.contains("no YAML that can be read"), "{err}");
}

#[tokio::test]
async fn c06_bombs_depth_and_size_are_bounded() {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (before, name) in ('a'..'i').zip('b'..'j') {
        let list = vec![format!("*{before}"); 10].join(",");
        bomb.push_str(&format!("{name}: &{name} [{list}]\n"));
    }
    validate(bomb.as_bytes()).await.ends(65);
    validate("[".repeat(100_000).as_bytes()).await.ends(65);
    validate("a: ".repeat(100_000).as_bytes()).await.ends(65);
    let nested: String = (0..5_000)
        .map(|n| format!("{}a:\n", " ".repeat(n)))
        .collect();
    validate(nested.as_bytes()).await.ends(65);

    let files = folder(&[]);
    let file = path(files.path(), "large.yaml");
    let mut large = std::fs::File::create(&file).expect("a file");
    let line = [b"# ", "x".repeat(1022).as_bytes()].concat();
    for _ in 0..50 * 1024 {
        large.write_all(&line).expect("room");
    }
    let err = alone(&["validate", "-f", &file]).await.ends(65);
    assert!(err.contains("is too large: "), "{err}");
}

#[tokio::test]
async fn very_many_problems_are_found_in_one_reading_and_the_first_are_told() {
    let service = |n: usize| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: shop}}\n\
             spec: {{ports: [{{port: 80}}]}}\n"
        )
    };
    let once: String = (0..500).map(service).collect();
    let twice = [once.as_str(), &once].concat();
    let err = validate(twice.as_bytes()).await.ends(65);
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines.len(), 102, "{err}");
    assert!(
        lines[0].starts_with("(standard input):2504:18: metadata.name: "),
        "{}",
        lines[0]
    );
    assert_eq!(lines[100], "and 400 more");
    assert!(
        lines[101].starts_with("mesh: 500 problems: "),
        "{}",
        lines[101]
    );
}
