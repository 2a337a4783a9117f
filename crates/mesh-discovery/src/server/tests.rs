//! A server that cannot go on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::store::redb::{PANIC, REFUSED};
use crate::store::{CommitError, Write};

async fn start() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin: ([127, 0, 0, 1], 0).into(),
        data_dir: dir.path().to_owned(),
        store: StoreKind::Redb,
        ..Config::default()
    };
    (Server::start(config).await.unwrap(), dir)
}

async fn put(server: &Server, key: &str) -> Result<u64, CommitError> {
    let write = Write::put(key, "1");
    server.shared.store.commit(vec![write]).await
}

async fn admin(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.admin_address()).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn c19_a_server_whose_store_is_broken_is_not_ready_and_lets_no_other_in() {
    let (server, dir) = start().await;
    assert!(admin(&server, "ready").await.starts_with("HTTP/1.1 200"));
    put(&server, PANIC).await.unwrap_err();
    let ended = server.failed().await.to_string();
    assert!(ended.contains("the store"), "{ended}");
    let ready = admin(&server, "ready").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(ready.contains("the store has ended"), "{ready}");
    let metrics = admin(&server, "metrics").await;
    let counted = "mesh_discovery_tasks_ended_total 1";
    assert!(metrics.contains(counted), "{metrics}");
    let second = DirectoryLock::take(dir.path()).await;
    assert!(second.is_err(), "it still answers");
    server.shutdown().await;
    assert!(DirectoryLock::take(dir.path()).await.is_ok());
}

#[tokio::test]
async fn c04_while_nothing_can_be_written_a_server_says_so_and_finds_out_when_it_can() {
    let (server, _dir) = start().await;
    for _ in 0..2 {
        put(&server, REFUSED).await.unwrap_err();
    }
    let ready = admin(&server, "ready").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(ready.contains("nothing can be written"), "{ready}");
    // Nobody writes: it finds out by itself.
    while server.shared.store.trouble().is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(put(&server, "a").await.is_ok());
    server.shutdown().await;
}
