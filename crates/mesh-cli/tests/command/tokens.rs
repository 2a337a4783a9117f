//! `mesh token`.

use mesh_policy::token::JoinToken;
use mesh_test::TestMesh;

use crate::{admin, admin_with, kubeconfig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_made_alone_on_stdout_listed_and_revoked() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let create = ["token", "create", "--identity", "shop/web"];
    let more = [
        "--uses",
        "5",
        "--ttl=1h",
        "--serves",
        "web.shop",
        "--serves=w.b",
    ];
    let out = admin(&mesh, &[&create[..], &more].concat()).await.ok();
    let token: JoinToken = out.trim_end().parse().expect("a token and nothing else");
    assert_eq!(out.lines().count(), 1);

    let list = admin(&mesh, &["token", "list"]).await.ok();
    assert!(list.starts_with("ID "), "{list}");
    for part in [
        token.id(),
        "spiffe://mesh.local/ns/shop/sa/web",
        "web.shop,w.b",
        " 5 ",
        "m\n",
    ] {
        assert!(list.contains(part), "{part}: {list}");
    }
    assert!(!list.contains(out.trim_end()), "a secret is told once");
    let listed = admin(&mesh, &["token", "list", "-o", "json"]).await.ok();
    assert!(listed.contains("\"uses_left\": 5"), "{listed}");

    let said = admin(&mesh, &["token", "revoke", token.id()]).await.ok();
    assert_eq!(said, format!("token {} revoked\n", token.id()));
    let again = admin(&mesh, &["token", "revoke", token.id()]).await.ends(1);
    assert!(again.starts_with("mesh: "), "{again}");

    // A whole token comes from a file; on the command line, others would see it.
    let whole = admin(&mesh, &create).await.ok();
    let secret = whole.trim_end();
    for wrong in [secret, &secret[..secret.len() - 1], "a/b", "../../x/y/z"] {
        let err = admin(&mesh, &["token", "revoke", wrong]).await.ends(64);
        assert!(
            !err.contains(wrong) && err.contains("--token-file"),
            "{err}"
        );
    }
    let file = ["token", "revoke", "--token-file", "-"];
    let revoked = admin_with(&mesh, &file, whole.as_bytes()).await.ok();
    assert!(
        revoked.starts_with("token ") && !revoked.contains(secret),
        "{revoked}"
    );
    admin(&mesh, &["token", "revoke"]).await.ends(64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_cannot_be_is_wrong_usage() {
    let mesh = TestMesh::start().await.expect("a mesh");
    for (wrong, said) in [
        (&["--identity=shop"][..], "namespace/account"),
        (&["--identity=shop/Web"], "lower-case"),
        (&["--identity=mesh-system/admin"], "mesh-system"),
        (
            &["--identity=shop/web", "--ttl=48h"],
            "a token cannot live 48h: give between 1s and 24h",
        ),
        (&["--identity=shop/web", "--ttl=48"], "no duration"),
        (&["--identity=shop/web", "--uses=0"], "between 1 and"),
        (&["--identity=shop/web", "--serves=web"], "web"),
    ] {
        let command = [&["token", "create"], wrong].concat();
        let err = admin(&mesh, &command).await.ends(64);
        assert!(err.contains(said), "{wrong:?}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_flag_goes_over_the_variable() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let file = kubeconfig(&mesh);
    let file = file.to_str().expect("UTF-8");
    let mut command = crate::command(&["token", "list", "--kubeconfig", file]);
    command.env("MESH_KUBECONFIG", "/nowhere");
    crate::said(command, b"").await.ok();
}
