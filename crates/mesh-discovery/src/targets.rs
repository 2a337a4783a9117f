//! Where Prometheus finds the processes: `GET /v1/prometheus-targets`, its HTTP service discovery.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

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

/// Where the connection of a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectedFrom(pub(crate) IpAddr);

impl ConnectedFrom {
    /// Whether `admin` is on the machine at the other end: else a workload could have Prometheus
    /// ask whatever it can reach, in its own name. Loopback is ours alone.
    pub(crate) fn may_announce(self, admin: &str) -> bool {
        let Ok(admin) = admin.parse::<SocketAddr>() else {
            return false;
        };
        let (from, admin) = (self.0.to_canonical(), admin.ip().to_canonical());
        from == admin || (from.is_loopback() && admin.is_loopback())
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
    fn a_process_announces_no_machine_but_its_own() {
        let from =
            |from: &str, admin: &str| ConnectedFrom(from.parse().unwrap()).may_announce(admin);
        assert!(from("10.0.0.7", "10.0.0.7:9000"));
        assert!(from("::ffff:10.0.0.7", "10.0.0.7:9000"));
        assert!(from("127.0.0.1", "[::1]:9000"));
        for (peer, admin) in [
            ("10.0.0.7", "10.0.0.8:9000"),
            ("10.0.0.7", "169.254.169.254:80"),
            ("10.0.0.7", "127.0.0.1:9000"),
            ("127.0.0.1", "10.0.0.8:9000"),
            ("10.0.0.7", "metadata.internal:80"),
        ] {
            assert!(!from(peer, admin), "{admin} from {peer}");
        }
    }

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
