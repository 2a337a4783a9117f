//! An application's own HTTP client beside the mesh: what mesh-core depends on changes nothing about it.
//!
//! It makes both, calls nobody, and ends.

use mesh_core::{Config, Mesh};

#[tokio::main]
async fn main() {
    let client = reqwest::Client::new();
    let refused = Mesh::join(Config::default()).await;
    println!("reqwest: {client:?}");
    println!("mesh: {}", refused.expect_err("there is no token"));
}
