//! From a kubeconfig's text to credentials that fit.

use std::error::Error;
use std::time::SystemTime;

use mesh_policy::identity::TrustDomain;
use mesh_tls::anchors::TrustBundle;
use mesh_tls::credentials::Credentials;
use mesh_tls::leaf::Leaf;
use mesh_tls::pem;
use mesh_tls::request::KeyPair;

use super::kubeconfig::Kubeconfig;

/// The anchors are taken to be those of the leaf's own trust domain, which the chain then proves.
pub(crate) fn of(
    kubeconfig: &Kubeconfig,
    now: SystemTime,
) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
    let chain = pem::read(&kubeconfig.chain)?;
    let leaf = chain.first().expect("what was read holds a certificate");
    let leaf = Leaf::read(leaf)?;
    let domain: TrustDomain = leaf.identity().trust_domain().parse()?;
    let bundle = TrustBundle::from_pem(domain, &kubeconfig.anchors)?;
    let key = KeyPair::from_pem(&kubeconfig.key)?;
    Ok(Credentials::new(key, chain, bundle.into(), now)?)
}
