//! `mesh-echo` as a program: what it says, answers and refuses, and how it ends.

use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use http::{Request, Response};
use mesh_core::{Body, Client};
use mesh_policy::token::JoinToken;
use mesh_test::{Program, TestMesh};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mesh-echo");

fn echo(flags: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(flags);
    command
}

async fn get(client: &Client, uri: &str) -> Response<Body> {
    let request = Request::get(uri).header("X-Echo-Set-Header", "x-set:yes");
    let request = request.body(Body::empty()).expect("a valid request");
    let Ok(response) = client.send(request).await;
    response
}

async fn json_of(response: Response<Body>) -> Value {
    let text = mesh_test::text(response).await.expect("a whole body");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// Runs it to its end.
async fn refused(flags: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = echo(flags);
    command.envs(variables.iter().copied());
    let Output { status, stderr, .. } = command.output().await.expect("it starts");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mesh_echo_says_where_it_is_and_answers_what_it_was_asked() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let flags = ["--service=api.shop:8080", "--name=api-1", "--zone=a"];
    let started = mesh.start_program(echo(&flags), "shop/api").await;
    let mut program = started.expect("it starts");
    let listening = program.said("listening ").await.expect("its address");
    let admin = program.said("admin ").await.expect("its admin port");
    assert!(listening.parse::<SocketAddr>().is_ok(), "{listening}");
    let ready = status_of(&format!("http://{admin}/ready")).await;
    assert_eq!(ready, 200, "it says where it listens once it is ready");

    let web = mesh.join("shop/web").await.expect("web joins");
    let answer = get(&web.client(), "http://api.shop:8080/a%20b?x=1").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["x-set"], "yes");
    let told = json_of(answer).await;
    let mut fields: Vec<_> = told.as_object().expect("an object").keys().collect();
    fields.sort();
    let contract = [
        "headers",
        "host",
        "method",
        "namespace",
        "path",
        "peer",
        "pod",
        "proto",
        "service",
        "tls",
    ];
    assert_eq!(fields, contract);
    for (field, expected) in [
        ("path", json!("/a%20b?x=1")),
        ("host", json!("api.shop:8080")),
        ("method", json!("GET")),
        ("namespace", json!("shop")),
        ("service", json!("api")),
        ("pod", json!("api-1")),
        ("peer", json!("spiffe://mesh.local/ns/shop/sa/web")),
    ] {
        assert_eq!(told[field], expected, "{field}");
    }
    assert_eq!(told["tls"]["version"], "TLSv1.3");
    assert_eq!(told["headers"]["x-echo-set-header"], json!(["x-set:yes"]));

    let failed = get(&web.client(), "http://api.shop:8080/?status=503&delay=1ms").await;
    assert_eq!(failed.status(), 503);
    assert_eq!(json_of(failed).await["path"], "/?status=503&delay=1ms");
    let wrong = get(&web.client(), "http://api.shop:8080/?status=nine").await;
    assert_eq!(wrong.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mesh_echo_drains_on_sigterm() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let flags = ["--service=api.shop", "--fail-rate=1", "--latency=1ms"];
    let started = mesh.start_program(echo(&flags), "shop/api").await;
    let mut program = started.expect("it starts");
    program.said("listening ").await.expect("its address");
    let web = mesh.join("shop/web").await.expect("web joins");
    let client = web.client();
    let slow = tokio::spawn(async move { get(&client, "http://api.shop/?delay=700ms").await });
    // The request is on its way once a second one has been answered.
    let failed = get(&web.client(), "http://api.shop/").await;
    assert_eq!(failed.status(), 500, "all fail by --fail-rate=1");
    program.signal("TERM").await.expect("it runs");
    let answered = slow.await.expect("no panic");
    assert!(answered.headers().contains_key("x-set"), "{answered:?}");
    assert_eq!(program.ended().await.expect("an end").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_ends_when_the_caller_leaves() {
    let mut program = Program::start(echo(&["--plaintext", "--name=plain"])).expect("it starts");
    let listening = program.said("listening ").await.expect("its address");
    let mut stays = TcpStream::connect(&listening).await.expect("it listens");
    let ask = "GET /?status=404 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stays.write_all(ask.as_bytes()).await.expect("it reads");
    let mut said = String::new();
    stays.read_to_string(&mut said).await.expect("it answers");
    assert!(said.starts_with("HTTP/1.1 404"), "{said}");
    assert!(
        said.contains(r#""pod":"plain","peer":null,"tls":null"#),
        "{said}"
    );

    let mut leaves = TcpStream::connect(&listening).await.expect("it listens");
    let ask = "GET /?delay=1h HTTP/1.1\r\nhost: x\r\n\r\n";
    leaves.write_all(ask.as_bytes()).await.expect("it reads");
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(leaves);
    // A handler that still waited would hold the drain for an hour.
    program.signal("TERM").await.expect("it runs");
    assert_eq!(program.ended().await.expect("an end").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_request_does_not_keep_mesh_echo_for_ever() {
    for signals in [2, 1] {
        let mut program = Program::start(echo(&["--plaintext"])).expect("it starts");
        let listening = program.said("listening ").await.expect("its address");
        let mut waits = TcpStream::connect(&listening).await.expect("it listens");
        let ask = "GET /?delay=1h HTTP/1.1\r\nhost: x\r\n\r\n";
        waits.write_all(ask.as_bytes()).await.expect("it reads");
        for _ in 0..signals {
            // Signals that come at once are one.
            tokio::time::sleep(Duration::from_millis(100)).await;
            program
                .signal("TERM")
                .await
                .expect("it waits for the request");
        }
        let ended = program.ended().await.expect("an end");
        assert_eq!(ended.code(), Some(0), "{signals}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mesh_echo_ends_with_the_code_of_what_is_wrong() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let used = mesh
        .token("shop/api")
        .await
        .expect("a token")
        .reveal()
        .to_string();
    let in_mesh = [("MESH_DISCOVERY", mesh.url()), ("MESH_TOKEN", &used)];
    let nobody = [
        ("MESH_DISCOVERY", "https://127.0.0.1:9"),
        ("MESH_TOKEN", &used),
    ];
    let service = "--service=api.shop";

    let (code, said) = refused(&["--service=api"], &in_mesh).await;
    assert_eq!(code, Some(64), "{said}");
    let (code, said) = refused(&[], &in_mesh).await;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("--service"), "{said}");
    let (code, said) = refused(&[service, "--join-timeout=300ms"], &nobody).await;
    assert_eq!(code, Some(69), "{said}");
    let (code, said) = refused(&[service], &[("MESH_TOKEN", "mj1.x")]).await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("MESH_TOKEN"), "{said}");
    let (code, said) = refused(&[service], &[("MESH_INBOUD", "strict")]).await;
    assert_eq!(code, Some(78), "{said}");
    let (code, said) = refused(&[service, "--listen=192.0.2.1:1"], &in_mesh).await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("--listen"), "{said}");

    let token: JoinToken = used.parse().expect("a token");
    mesh.admin()
        .revoke_token(token.id())
        .await
        .expect("it exists");
    let (code, said) = refused(&[service], &in_mesh).await;
    assert_eq!(code, Some(77), "{said}");
    assert!(said.contains("mesh token create"), "{said}");
}

/// The status of a plain `GET`.
async fn status_of(url: &str) -> u16 {
    let (host, path) = url["http://".len()..].split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).await.expect("it listens");
    let ask = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.expect("it reads");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("it answers");
    let status = said.split(' ').nth(1).expect("a status line");
    status.parse().expect("a status")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mesh_echo_says_where_it_listens_while_discovery_is_away() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let token = mesh.token("shop/api").await.expect("a token");
    // Bound, so that nobody else is there, and silent.
    let away = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = away.local_addr().expect("an address");
    let mut command = echo(&["--service=api.shop:8080"]);
    command
        .env("MESH_DISCOVERY", format!("https://{address}"))
        .env("MESH_TOKEN", token.reveal());
    let mut program = Program::start(command).expect("it starts");
    let listening = program.said("listening ").await.expect("its address");
    assert!(listening.parse::<SocketAddr>().is_ok(), "{listening}");
    program.signal("TERM").await.expect("it runs");
    assert!(program.ended().await.expect("it ends").success());
}
