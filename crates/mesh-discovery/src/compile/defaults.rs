//! The policies that have a name instead of an object, as authorizations.

use mesh_policy::manifest::DefaultPolicy;
use mesh_policy::name::ObjectRef;
use mesh_policy::plan::inbound::{
    AuthorizationPlan, ClientPlan, EffectPlan, NetworkPlan, PatternPlan,
};

/// Linkerd's `clusterNetworks`.
const CLUSTER_NETWORKS: [&str; 5] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fd00::/8",
];

/// What `policy` grants; nothing for `deny`.
pub(super) fn authorization(policy: DefaultPolicy) -> Option<AuthorizationPlan> {
    let any_identity = || ClientPlan::Identities {
        exact: [].into(),
        patterns: vec![PatternPlan::default()],
    };
    let cluster = || {
        let network = |cidr: &str| NetworkPlan {
            cidr: cidr.to_owned(),
            except: Vec::new(),
        };
        CLUSTER_NETWORKS.map(network).to_vec()
    };
    let (networks, client, effect) = match policy {
        DefaultPolicy::Deny => return None,
        DefaultPolicy::AllUnauthenticated => (Vec::new(), ClientPlan::Anyone, EffectPlan::Allow),
        DefaultPolicy::AllAuthenticated => (Vec::new(), any_identity(), EffectPlan::Allow),
        DefaultPolicy::ClusterUnauthenticated => (cluster(), ClientPlan::Anyone, EffectPlan::Allow),
        DefaultPolicy::ClusterAuthenticated => (cluster(), any_identity(), EffectPlan::Allow),
        DefaultPolicy::Audit => (Vec::new(), ClientPlan::Anyone, EffectPlan::Audit),
    };
    Some(AuthorizationPlan {
        source: ObjectRef::builtin(policy.as_str()),
        effect,
        networks,
        client,
    })
}
