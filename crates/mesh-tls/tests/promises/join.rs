//! From nothing to a member: the first contact, and the handshakes of members.

use mesh_policy::identity::Identity;
use mesh_tls::config::{self, ClientCertificates};

use crate::support::{Domain, calling, meet, strict};

#[tokio::test]
async fn two_members_prove_each_other_with_post_quantum_keys() {
    let mesh = Domain::new("mesh.local");
    let (web, orders) = (mesh.credentials("web"), mesh.credentials("orders"));
    let met = meet(strict(&orders), calling(&web, orders.identity())).await;
    assert!(met.answered);
    let (server, client) = (met.server.unwrap(), met.client.unwrap());
    assert_eq!(server.peer.as_ref(), Some(web.identity()));
    assert_eq!(client.peer.as_ref(), Some(orders.identity()));
    assert_eq!(server.peer_not_after, Some(web.not_after()));
    for facts in [server, client] {
        assert_eq!(facts.version, "TLSv1.3");
        assert_eq!(facts.group, "X25519MLKEM768");
        assert!(facts.suite.starts_with("TLS_"), "{}", facts.suite);
        assert_eq!(facts.alpn, config::Alpn::Http2);
    }
}

#[tokio::test]
async fn a_process_that_joins_believes_the_root_of_its_token_alone() {
    let mesh = Domain::new("mesh.local");
    let other = Domain::new("mesh.local");
    let discovery = mesh.credentials_of(&Identity::discovery(mesh.issuer.domain()));
    let server = config::server(&discovery, ClientCertificates::Optional);
    let met = meet(server.clone(), config::joining(mesh.root.hash())).await;
    assert!(met.succeeded());
    assert_eq!(met.server.unwrap().peer, None);
    let met = meet(server, config::joining(other.root.hash())).await;
    assert!(met.client.is_err());
}
