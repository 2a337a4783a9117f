//! What both sides need before the first child starts.

use std::collections::BTreeMap;

use crate::cell::{Protocol, Side};
use crate::{BoxError, bare, meshed};

/// What both sides need before the first child starts.
pub struct World {
    pem: String,
    discovery: meshed::Discovery,
}

impl World {
    /// Makes certificates and starts discovery.
    pub async fn start() -> Result<Self, BoxError> {
        Ok(Self {
            pem: bare::certificates()?,
            discovery: meshed::Discovery::start().await?,
        })
    }

    /// Ends discovery.
    pub async fn stop(self) -> Result<(), BoxError> {
        self.discovery.stop().await
    }

    /// The environment of a child: its certificates, or its way into the mesh.
    pub async fn environment(
        &self,
        side: Side,
        role: meshed::Role,
        protocol: Protocol,
    ) -> Result<BTreeMap<String, String>, BoxError> {
        match side {
            Side::Bare => Ok(BTreeMap::from([(bare::PEM.into(), self.pem.clone())])),
            Side::Mesh => self.discovery.environment(role, protocol).await,
        }
    }
}
