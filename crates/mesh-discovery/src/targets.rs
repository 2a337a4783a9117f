//! Where Prometheus finds the processes: `GET /v1/prometheus-targets`, its HTTP service discovery.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::caller::Caller;
use crate::refused::Refused;
use crate::server::Shared;

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/v1/prometheus-targets", get(for_admins))
}

/// One process, as Prometheus reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Target {
    targets: [SocketAddr; 1],
    labels: BTreeMap<&'static str, String>,
}

impl Target {
    /// The process at `admin`, if that is an address: a name would have Prometheus ask whom a
    /// workload likes.
    pub(crate) fn new(admin: &str, names: [(&'static str, &str); 3]) -> Option<Self> {
        let address: SocketAddr = admin.parse().ok()?;
        let can_be_asked = !address.ip().is_unspecified() && address.port() != 0;
        let labels = names.map(|(label, name)| (label, name.to_owned()));
        can_be_asked.then(|| Self {
            targets: [address],
            labels: labels.into(),
        })
    }
}

async fn for_admins(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<Json<Vec<Target>>, Refused> {
    caller.require_admin()?;
    Ok(Json(shared.sessions.targets()))
}

/// The same for whoever reaches the admin port, who can read the metrics as well.
pub(crate) async fn for_anyone(State(shared): State<Shared>) -> Json<Vec<Target>> {
    Json(shared.sessions.targets())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_that_can_be_asked() {
        let names = [("__meta_mesh_pod", "api-1"), ("a", "b"), ("c", "d")];
        let target = Target::new("127.0.0.1:9000", names).unwrap();
        let json = serde_json::to_value(&target).unwrap();
        assert_eq!(json["targets"], serde_json::json!(["127.0.0.1:9000"]));
        assert_eq!(json["labels"]["__meta_mesh_pod"], "api-1");
        for bad in ["metadata.internal:80", "0.0.0.0:9000", "127.0.0.1:0", ""] {
            assert_eq!(Target::new(bad, names), None, "{bad}");
        }
    }
}
