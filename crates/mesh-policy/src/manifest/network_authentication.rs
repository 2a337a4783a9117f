//! policy.linkerd.io `NetworkAuthentication`: a list of networks.

use ipnet::IpNet;

use super::fields::At;
use crate::plan::inbound::NetworkPlan;

const MOST_NETWORKS: usize = 256;

/// Any of these networks will do; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAuthentication {
    /// The networks.
    pub networks: Vec<NetworkPlan>,
}

pub(super) fn read(at: &At<'_>) -> Option<NetworkAuthentication> {
    let mut fields = at.fields();
    let networks = fields.need("networks", "name at least one network");
    fields.finish();
    let networks = list(&networks?)?;
    Some(NetworkAuthentication { networks })
}

/// A list of `{cidr, except}`, which must not be empty.
pub(super) fn list(at: &At<'_>) -> Option<Vec<NetworkPlan>> {
    let items = at.list(MOST_NETWORKS);
    if items.is_empty() {
        return at.refuse(
            "is empty",
            "name at least one network, such as cidr: 10.0.0.0/8",
        );
    }
    let networks: Vec<_> = items.iter().map(network).collect();
    networks.into_iter().collect()
}

fn network(at: &At<'_>) -> Option<NetworkPlan> {
    let mut fields = at.fields();
    let cidr = fields.need("cidr", "write a network, such as 10.0.0.0/8");
    let except = fields
        .take("except")
        .map(|at| at.list(MOST_NETWORKS))
        .unwrap_or_default();
    fields.finish();
    let net = parse(&cidr?)?;
    let mut holes = Vec::new();
    for at in &except {
        let hole = parse(at)?;
        if !net.contains(&hole) || hole == net {
            return at.refuse(
                format!("{hole} is not a part of {net}"),
                "except a smaller network inside the cidr",
            );
        }
        holes.push(hole.to_string());
    }
    Some(NetworkPlan {
        cidr: net.to_string(),
        except: holes,
    })
}

/// A network; an address alone is the network of that one address.
fn parse(at: &At<'_>) -> Option<IpNet> {
    let text = at.text()?;
    let one = || {
        text.parse()
            .ok()
            .map(|address: std::net::IpAddr| IpNet::from(address))
    };
    match text.parse::<IpNet>().ok().or_else(one) {
        Some(net) if net.network() == net.addr() => Some(net),
        Some(net) => at.refuse(
            format!("{text:?} has bits below its length"),
            format!("write {}", net.trunc()),
        ),
        None => at.refuse(
            format!("{text:?} is no network"),
            "write one such as 10.0.0.0/8",
        ),
    }
}
