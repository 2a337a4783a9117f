//! Questions to manifests, with no server: the same compiler, and nobody who serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_policy::explain::answer::Explanation;
use mesh_policy::explain::{Known, Question, explain};
use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::{Manifest, Spec};
use mesh_policy::name::{ServiceAddress, ServiceName, ServicePort};
use mesh_policy::plan::watch::Cursor;

use super::{Sources, Workload, World};

/// What a set of manifests means.
///
/// Services are those that have a `Service` here, and the labels of their workloads are its
/// `selector`. Objects without an age compete by their names.
#[derive(Debug)]
pub struct Offline {
    world: World,
    labels: BTreeMap<ServiceName, BTreeMap<String, String>>,
}

impl Offline {
    /// Compiles manifests as discovery would.
    #[must_use]
    pub fn new(domain: TrustDomain, manifests: Vec<Manifest>) -> Self {
        let labels = manifests.iter().filter_map(|manifest| {
            let Spec::Service(service) = &manifest.spec else {
                return None;
            };
            let name = ServiceName {
                namespace: manifest.meta.namespace.clone(),
                name: manifest.meta.name.parse().ok()?,
            };
            Some((name, service.selector.clone()))
        });
        Self {
            labels: labels.collect(),
            world: World::new(Sources {
                cursor: Cursor {
                    store: "offline".to_owned(),
                    revision: 0,
                },
                domain,
                objects: manifests.into_iter().map(Arc::new).collect(),
                registrations: Vec::new(),
                served: BTreeSet::new(),
            }),
        }
    }

    /// Explains what becomes of a request from `namespace`.
    #[must_use]
    pub fn explain(&self, asked: &Question<'_>, namespace: &str) -> Explanation {
        let plan = self.world.service_plan(&asked.to.service, namespace);
        let none = BTreeMap::new();
        let inbound = |port: &ServicePort| {
            let serves = ServiceAddress {
                service: port.service.clone(),
                port: Some(port.port),
            };
            let workload = Workload {
                namespace: port.service.namespace.as_str(),
                labels: self.labels.get(&port.service).unwrap_or(&none),
            };
            self.world.inbound_plan(&serves, &workload)
        };
        let known = Known {
            service: plan.as_deref(),
            inbound,
        };
        explain(asked, &known)
    }
}
