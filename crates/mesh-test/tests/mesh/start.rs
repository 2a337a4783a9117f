//! The first moments of a process: whom it believes, and what it does until it knows its policy.

use std::net::SocketAddr;
use std::time::Duration;

use mesh_core::Mesh;
use mesh_core::mesh::JoinError;
use mesh_test::{Program, TestMesh};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::{get, raw};

const ECHO: &str = env!("CARGO_BIN_EXE_mesh-echo");
/// How long a process is watched that must not answer.
const A_WHILE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j04_a_discovery_whose_root_is_not_the_tokens_is_refused_and_told_nothing() {
    let (mesh, fake) = tokio::join!(TestMesh::start(), TestMesh::start());
    let (mesh, fake) = (mesh.expect("a mesh"), fake.expect("another mesh"));
    let token = mesh.token("shop/web").await.expect("a token");
    let mut config = fake.config("shop/web").await.expect("a configuration");
    config.token = Some(mesh_core::config::TokenSource::Given(token.clone()));
    let refused = Mesh::join(config).await;
    assert!(
        matches!(refused, Err(JoinError::Distrusted(_))),
        "{refused:?}"
    );

    // Nobody saw the token, so it is as good as new where it was made.
    let mut config = mesh.config("shop/web").await.expect("a configuration");
    config.token = Some(mesh_core::config::TokenSource::Given(token));
    Mesh::join(config).await.expect("it joins");
}

/// A port that is free now; somebody else could take it, so it is used at once.
async fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address")
}

/// Passes bytes on from `address` to `target`, from now on.
async fn open(address: SocketAddr, target: SocketAddr) {
    let listener = TcpListener::bind(address).await.expect("the port is free");
    drop(tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            drop(tokio::spawn(async move {
                let far = tokio::net::TcpStream::connect(target).await;
                let mut far = far.expect("it listens");
                // Whoever closes has no more to say.
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            }));
        }
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn z14_a_process_that_never_reached_discovery_answers_nothing_until_it_has() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let (discovery, listen, admin) = (free_port().await, free_port().await, free_port().await);
    let token = mesh.token("shop/api").await.expect("a token");
    let mut command = Command::new(ECHO);
    command
        .args(["--service=api.shop", &format!("--listen={listen}")])
        .arg(format!("--admin={admin}"))
        .env("MESH_DISCOVERY", format!("https://{discovery}"))
        .env("MESH_TOKEN", token.reveal());
    let mut api = Program::start(command).expect("it starts");
    let ready = async || raw::get(admin, "/ready").await.unwrap_or_default();
    mesh.until("its admin port is open", async || !ready().await.is_empty())
        .await;
    let said = ready().await;
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    let live = raw::get(admin, "/live").await.expect("it listens");
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    let stranger = raw::enrol(&mesh, "shop/other")
        .await
        .expect("a certificate");
    let identity = "spiffe://mesh.local/ns/shop/sa/api";
    let ask = "GET / HTTP/1.1\r\nhost: api.shop\r\nconnection: close\r\n\r\n";
    let answer = timeout(A_WHILE, raw::speak(&stranger, listen, identity, ask)).await;
    let served = matches!(&answer, Ok(Ok(text)) if text.starts_with("HTTP/1.1 200"));
    assert!(!served, "{answer:?}");
    let answer = timeout(A_WHILE, raw::get_in_plaintext(listen)).await;
    let served = matches!(&answer, Ok(Ok(text)) if text.starts_with("HTTP/1.1 200"));
    assert!(!served, "{answer:?}");

    let target = mesh.url().trim_start_matches("https://");
    open(discovery, target.parse().expect("an address")).await;
    api.said("listening ").await.expect("it has joined");
    assert!(ready().await.starts_with("HTTP/1.1 200"));
    let web = mesh.join("shop/web").await.expect("web joins");
    mesh.until("it serves", async || {
        get(&web.client(), "http://api.shop/").await.0 == 200
    })
    .await;
}

/// A discovery server of the same CA, with a store of its own.
async fn twin(mesh: &TestMesh) -> TestMesh {
    let ca = mesh.ca_folder();
    let twin = TestMesh::start_with(|config| {
        let folder = config.data_dir.join("ca");
        let mut private = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut private, 0o700);
        private.recursive(true).create(&folder).expect("a folder");
        for file in std::fs::read_dir(&ca).expect("the CA's folder") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), folder.join(file.file_name())).expect("a copy");
        }
    });
    twin.await.expect("a twin")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_one_discovery_is_no_answer_while_another_may_say_yes() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let twin = twin(&mesh).await;
    let url = |mesh: &TestMesh| mesh.url().parse().expect("a URL");
    let mut config = mesh.config("shop/web").await.expect("a configuration");
    // The first knows no such token.
    config.discovery = vec![url(&twin), url(&mesh)];
    Mesh::join(config)
        .await
        .expect("the second gives a certificate");
    let mut config = mesh.config("shop/web").await.expect("a configuration");
    config.discovery = vec![url(&twin), url(&twin)];
    let refused = Mesh::join(config).await;
    assert!(matches!(refused, Err(JoinError::Refused(_))), "{refused:?}");
}
