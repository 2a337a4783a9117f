//! policy.linkerd.io `NetworkAuthentication`: a list of networks.

use ipnet::IpNet;

use super::fields::{At, cut, each};
use crate::plan::inbound::NetworkPlan;

const MOST_NETWORKS: usize = 256;

/// Any of these networks will do; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAuthentication {
    /// The networks.
    pub networks: Vec<NetworkPlan>,
}

const REMEDY: &str = "name at least one network, such as cidr: 10.0.0.0/8";

pub(super) fn read(at: &At<'_>) -> Option<NetworkAuthentication> {
    let mut fields = at.fields();
    let networks = fields.need("networks", REMEDY);
    fields.finish();
    let networks = list(&networks?)?;
    Some(NetworkAuthentication { networks })
}

/// A list of `{cidr, except}`, which must not be empty.
pub(super) fn list(at: &At<'_>) -> Option<Vec<NetworkPlan>> {
    let items = at.list(MOST_NETWORKS)?;
    if items.is_empty() {
        return at.refuse("is empty", REMEDY);
    }
    each(&items, network)
}

fn network(at: &At<'_>) -> Option<NetworkPlan> {
    let mut fields = at.fields();
    let cidr = fields.need("cidr", "write a network, such as 10.0.0.0/8");
    let except = fields.items("except", MOST_NETWORKS);
    fields.finish();
    let net = cidr.and_then(|at| parse(&at));
    let holes = each(&except, |at| Some((at.clone(), parse(at)?)));
    let (net, holes) = (net?, holes?);
    for (at, hole) in &holes {
        if !net.contains(hole) || *hole == net {
            return at.refuse(
                format!("{hole} is not a smaller part of {net}"),
                "except a smaller network inside the cidr",
            );
        }
    }
    Some(NetworkPlan {
        cidr: net.to_string(),
        except: holes.iter().map(|(_, hole)| hole.to_string()).collect(),
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
        Some(net) => {
            at.warn(
                format!(
                    "{:?} has bits below its length, which mean nothing",
                    cut(text)
                ),
                format!("write {}", net.trunc()),
            );
            Some(net.trunc())
        }
        None => at.refuse(
            format!("{:?} is no network", cut(text)),
            "write one such as 10.0.0.0/8",
        ),
    }
}
