//! `mesh apply`, `get` and `delete` against a real discovery.

use mesh_test::TestMesh;

use crate::{EVERYDAY, admin, admin_with, folder, path};

const EVERYDAY_NAMES: &str = "\
service/api
trafficsplit.split.smi-spec.io/api-rollout
httproute.gateway.networking.k8s.io/api-routing
server.policy.linkerd.io/api-admin
authorizationpolicy.policy.linkerd.io/api-admin-allow
meshtlsauthentication.policy.linkerd.io/admin-allowed
";

fn each(ending: &str) -> String {
    EVERYDAY_NAMES.replace('\n', &format!(" {ending}\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyday_documents_are_applied_shown_and_deleted() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let files = folder(&[("everyday.yaml", EVERYDAY)]);
    let file = path(files.path(), "everyday.yaml");
    let dry = admin(&mesh, &["apply", "-f", &file, "--dry-run"]).await;
    assert!(dry.err.starts_with("Warning: "), "{}", dry.err);
    assert_eq!(dry.ok(), each("created (dry run)"));
    let nothing = admin(&mesh, &["get", "svc", "-A"]).await;
    assert_eq!(nothing.err, "No resources found.\n");
    assert_eq!(nothing.ok(), "");
    assert_eq!(
        admin(&mesh, &["apply", "-f", &file]).await.ok(),
        each("created")
    );
    assert_eq!(
        admin(&mesh, &["apply", "-f", &file]).await.ok(),
        each("unchanged")
    );
    let changed = EVERYDAY.replace("weight: 95", "weight: 90");
    let out = admin_with(&mesh, &["apply", "-f", "-"], changed.as_bytes()).await;
    let route = "httproute.gateway.networking.k8s.io/api-routing configured\n";
    assert!(out.ok().contains(route));

    let table = admin(&mesh, &["get", "httproute", "-n", "myapp"])
        .await
        .ok();
    let words: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(words[0], ["NAME", "SERVICES", "BACKENDS", "STATUS", "AGE"]);
    assert_eq!(
        words[1][..5],
        [
            "api-routing",
            "api",
            "api-stable=90,api-canary=5",
            "ResolvedRefs=False",
            "(BackendNotFound)"
        ]
    );
    let all = admin(&mesh, &["get", "services", "-A", "-o", "wide"])
        .await
        .ok();
    assert!(
        all.starts_with("NAMESPACE   NAME   PORT(S)   SELECTOR   AGE\nmyapp       api"),
        "{all}"
    );
    let json = admin(&mesh, &["get", "svc/api", "-n", "myapp", "-o", "json"])
        .await
        .ok();
    assert!(json.contains("\"resourceVersion\""), "{json}");

    // What is shown can be applied again.
    let yaml = admin(
        &mesh,
        &["get", "meshtlsauthentication", "-n", "myapp", "-o", "yaml"],
    )
    .await
    .ok();
    let again = admin_with(&mesh, &["apply", "-f", "-"], yaml.as_bytes())
        .await
        .ok();
    assert_eq!(
        again,
        "meshtlsauthentication.policy.linkerd.io/admin-allowed unchanged\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_deleted_by_name_and_by_file() {
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(EVERYDAY).await.expect("it is good");
    let files = folder(&[("everyday.yaml", EVERYDAY)]);
    let file = path(files.path(), "everyday.yaml");
    let out = admin(&mesh, &["delete", "svc", "api", "-n", "myapp"])
        .await
        .ok();
    assert_eq!(out, "service \"api\" deleted\n");
    let missing = admin(&mesh, &["get", "svc", "api"]).await.ends(1);
    assert!(
        missing.contains("not found") && missing.contains("-n"),
        "{missing}"
    );
    let some = admin(&mesh, &["delete", "-f", &file]).await;
    assert_eq!(some.out.lines().count(), 5, "{}", some.out);
    some.ends(1);
    let quiet = ["delete", "-f", &file, "--ignore-not-found"];
    assert_eq!(admin(&mesh, &quiet).await.ok(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_a_namespace_goes_where_n_says() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
    let apply = ["apply", "-f", "-", "-n", "shop"];
    admin_with(&mesh, &apply, service.as_bytes()).await.ok();
    admin(&mesh, &["get", "svc/a", "-n", "shop"]).await.ok();
    admin(&mesh, &["get", "svc/a"]).await.ends(1);
    let other = service.replace("name: a", "name: a, namespace: other");
    let err = admin_with(&mesh, &apply, other.as_bytes()).await.ends(65);
    let place = "(standard input):3:32: metadata.namespace: is other, and -n says shop, ";
    assert!(err.starts_with(place), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_a_namespace_goes_where_the_answer_says() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n\
                 spec: {parentRefs: [{group: '', kind: Service, name: nowhere}]}\n";
    let files = folder(&[("r.yaml", route)]);
    let file = path(files.path(), "r.yaml");
    let there = admin(&mesh, &["apply", "-f", &file]).await.ok();
    let created = "httproute.gateway.networking.k8s.io/r created in namespace";
    assert_eq!(there, format!("{created} default\n"));
    let named = admin(&mesh, &["apply", "-f", &file, "-n", "shop"])
        .await
        .ok();
    assert_eq!(named, format!("{created} shop\n"));
    let table = admin(&mesh, &["get", "httproute", "-n", "shop"]).await.ok();
    assert!(
        table.contains("Accepted=False (NoMatchingParent)"),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_foreign_kinds_alone_changes_nothing() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let text = "apiVersion: policy.linkerd.io/v1beta1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\n\
                spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: s}]}\n";
    let applied = admin_with(&mesh, &["apply", "-f", "-"], text.as_bytes()).await;
    assert!(
        applied.err.contains("WARNING: the HTTPRoute shop/r"),
        "{}",
        applied.err
    );
    assert!(applied.err.contains("NOT ENFORCED"), "{}", applied.err);
    assert_eq!(applied.ok(), "nothing to apply\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c06_one_bad_object_of_a_directory_and_none_is_applied() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let service = |name: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let good: Vec<_> = (1..10)
        .map(|n| service(&format!("s{n}"), "{ports: [{port: 80}]}"))
        .collect();
    let nobody = "apiVersion: policy.linkerd.io/v1alpha1\nkind: MeshTLSAuthentication\n\
                  metadata: {name: m, namespace: shop}\nspec:\n  identities:\n  - Web.shop\n";
    let files = folder(&[
        ("a.yaml", &good.join("---\n")),
        ("b.yml", &service("bad", "{port: []}")),
        (
            "c.json",
            r#"{"apiVersion":"v1","kind":"Servce","metadata":{"name":"x"},"spec":{}}"#,
        ),
        ("d.yaml", nobody),
        ("e.yaml", &good[0]),
        ("notes.txt", "not ours"),
    ]);
    let at = files.path().to_str().expect("UTF-8").to_owned();
    let err = admin(&mesh, &["apply", "-f", &at]).await.ends(65);
    let expected = [
        format!("{at}/b.yml:4:8: spec.port: is no field that is known here, write ports"),
        format!(
            "{at}/c.json:1:1: v1, kind Servce, is not served, write apiVersion v1, kind Service"
        ),
        format!("{at}/d.yaml:6:5: spec.identities[0]: "),
        format!("{at}/e.yaml:3:18: metadata.name: "),
    ];
    for line in &expected {
        let found = err.lines().any(|told| told.starts_with(line));
        assert!(found, "{line}\n{err}");
    }
    assert!(err.contains("nothing was applied"), "{err}");
    let nothing = admin(&mesh, &["get", "svc", "-A"]).await.ok();
    assert_eq!(nothing, "");
    for name in ["b.yml", "c.json", "d.yaml", "e.yaml"] {
        std::fs::remove_file(files.path().join(name)).expect("it is there");
    }
    let applied = admin(&mesh, &["apply", "-f", &at]).await.ok();
    assert_eq!(applied.lines().count(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_effect_is_warned_of_and_shown() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let service = "apiVersion: v1\nkind: Service\nmetadata: { name: api, namespace: shop }\n\
                   spec: { selector: { app: api }, ports: [{ name: http, port: 80, targetPort: 3000 }] }\n";
    let server = |name: &str, app: &str, port: &str| {
        format!(
            "---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\n\
             metadata: {{ name: {name}, namespace: shop }}\n\
             spec: {{ podSelector: {{ matchLabels: {{ app: {app} }} }}, port: {port} }}\n"
        )
    };
    let yaml = [
        service.to_owned(),
        server("api", "api", "3000"),
        server("lost", "api", "http"),
        server("other", "api", "9090"),
        server("typo", "apii", "80"),
    ];
    let yaml = yaml.concat();
    let applied = admin_with(&mesh, &["apply", "-f", "-"], yaml.as_bytes()).await;
    let warned = |said: &str| -> Vec<String> {
        let lines = said
            .lines()
            .filter_map(|line| line.strip_prefix("Warning: Server shop/"));
        let names = lines.filter_map(|line| line.split_once(": "));
        names.map(|(name, _)| name.to_owned()).collect()
    };
    assert_eq!(
        warned(&applied.err),
        ["lost", "other", "typo"],
        "{}",
        applied.err
    );
    let table = admin(&mesh, &["get", "server", "-n", "shop"]).await.ok();
    let status = |name: &str| {
        let mut lines = table.lines();
        let line = lines.find(|line| line.starts_with(name));
        line.expect("it is there").to_owned()
    };
    for (name, expected) in [
        ("NAME", "STATUS"),
        ("api", " ok "),
        (
            "lost",
            "Effective=False (Superseded), Conflicted=True (Superseded)",
        ),
        ("other", "Effective=False (NoMatchingPort)"),
        ("typo", "Effective=False (NoMatchingWorkload)"),
    ] {
        let line = status(name);
        assert!(line.contains(expected), "{name}: {line}");
    }
    // Files alone do not say what runs.
    let valid = crate::said(crate::command(&["validate", "-f", "-"]), yaml.as_bytes()).await;
    assert_eq!(warned(&valid.err), ["lost", "other"], "{}", valid.err);
}
