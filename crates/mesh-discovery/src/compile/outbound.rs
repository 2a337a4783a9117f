//! The plan of a service: its routes by port, with every backend resolved.

use std::sync::Arc;

use mesh_policy::manifest::{
    BackendRef, HttpRoute, Manifest, Parent, RouteRule, Spec, TrafficSplit, Unusable,
};
use mesh_policy::name::{ObjectRef, ServiceName, ServicePort};
use mesh_policy::plan::outbound::{
    BackendPlan, PortPlan, RoutePlan, RulePlan, ServicePlan, TargetPlan,
};

use super::resilience::Layers;
use super::services::Services;
use super::{age, object_ref};

/// Routes and splits, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    routes: Vec<Arc<Manifest>>,
    splits: Vec<Arc<Manifest>>,
}

impl Routes {
    pub(super) fn new(manifests: &[Arc<Manifest>]) -> Self {
        let sorted = |wanted: fn(&Spec) -> bool| {
            let mut found: Vec<_> = manifests
                .iter()
                .filter(|m| wanted(&m.spec))
                .cloned()
                .collect();
            found.sort_by_cached_key(|manifest| age(manifest));
            found
        };
        Self {
            routes: sorted(|spec| matches!(spec, Spec::HttpRoute(_))),
            splits: sorted(|spec| matches!(spec, Spec::TrafficSplit(_))),
        }
    }

    /// Whether callers of `namespace` have routes of their own for `service`.
    pub(super) fn consumed_from(&self, service: &ServiceName, namespace: &str) -> bool {
        namespace != service.namespace.as_str()
            && self.attached(service, namespace).next().is_some()
    }

    /// The plan of a service that is known, as callers of `namespace` see it.
    pub(super) fn plan(
        &self,
        services: &Services,
        service: &ServiceName,
        namespace: &str,
    ) -> ServicePlan {
        let port = |port| PortPlan {
            port,
            routes: self
                .routes_of(services, service, port, namespace)
                .into_iter()
                .map(RoutePlan::into_part)
                .collect(),
        };
        ServicePlan {
            ports: services.ports(service).map(port).collect(),
            budget: services.resilience(service).and_then(|said| said.budget),
        }
    }

    /// GEP-1426: routes of the caller's namespace win over those of the service's; SMI's
    /// split gives way to both; and without any the service itself is meant.
    fn routes_of(
        &self,
        services: &Services,
        service: &ServiceName,
        port: u16,
        namespace: &str,
    ) -> Vec<RoutePlan> {
        let parent = ServicePort {
            service: service.clone(),
            port,
        };
        for owner in [namespace, service.namespace.as_str()] {
            let attached: Vec<_> = self
                .attached(service, owner)
                .filter(|(_, route)| {
                    let mut parents = route.parents.iter();
                    parents
                        .any(|parent| parent.service == *service && governs(services, parent, port))
                })
                .map(|(manifest, route)| route_plan(services, manifest, route, &parent))
                .collect();
            if !attached.is_empty() {
                return attached;
            }
        }
        let split = self.split_of(service);
        vec![match split.map(|manifest| (manifest, &manifest.spec)) {
            Some((manifest, Spec::TrafficSplit(split))) => {
                split_plan(services, manifest, split, port)
            }
            _ => default_plan(services, &parent),
        }]
    }

    /// The split that holds for a service where no route does: the oldest.
    pub(super) fn split_of(&self, service: &ServiceName) -> Option<&Manifest> {
        let holds =
            |spec: &Spec| matches!(spec, Spec::TrafficSplit(split) if split.service == *service);
        let found = self.splits.iter().find(|manifest| holds(&manifest.spec));
        found.map(|manifest| &**manifest)
    }

    /// The oldest route of the service's own namespace, on any port.
    pub(super) fn route_of<'a>(&'a self, service: &'a ServiceName) -> Option<&'a Manifest> {
        let mut routes = self.attached(service, service.namespace.as_str());
        routes.next().map(|(manifest, _)| manifest)
    }

    /// What a leaf of a split comes to, on the first port that the service has.
    pub(super) fn leaf(
        services: &Services,
        split: &TrafficSplit,
        leaf: &(ServiceName, u32),
    ) -> TargetPlan {
        let port = services.ports(&split.service).next();
        split_target(services, (leaf, port)).target
    }

    /// Routes of `namespace` that name the service, on any port.
    fn attached<'a>(
        &'a self,
        service: &'a ServiceName,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Manifest, &'a HttpRoute)> {
        self.routes.iter().filter_map(move |manifest| {
            let Spec::HttpRoute(route) = &manifest.spec else {
                return None;
            };
            let names = manifest.meta.namespace.as_str() == namespace
                && route
                    .parents
                    .iter()
                    .any(|parent| parent.service == *service);
            names.then_some((&**manifest, route))
        })
    }
}

/// Whether a reference to the service means this port of it.
fn governs(services: &Services, parent: &Parent, port: u16) -> bool {
    let named = |name| services.named(&parent.service, name) == Some(port);
    parent.port.is_none_or(|only| only == port) && parent.section.as_deref().is_none_or(named)
}

fn route_plan(
    services: &Services,
    manifest: &Manifest,
    route: &HttpRoute,
    parent: &ServicePort,
) -> RoutePlan {
    let layers = Layers {
        route: Some(&route.resilience),
        ..layers(services, &parent.service)
    };
    let rule = |rule: &RouteRule| RulePlan {
        name: rule.name.clone(),
        matches: rule.matches.clone(),
        filters: rule.filters.clone(),
        backends: if let Some(filter) = rule.unsupported {
            vec![unsupported(&parent.service, filter)]
        } else if rule.backends.is_empty() {
            vec![itself(parent.clone())]
        } else {
            let backends = rule.backends.iter();
            let plan = |backend: &BackendRef| BackendPlan {
                weight: backend.weight,
                target: target(services, backend),
                filters: backend.filters.clone(),
            };
            backends.map(plan).collect()
        },
        timeouts: layers.of(rule).timeouts(),
        retry: layers.of(rule).retry(),
    };
    RoutePlan {
        source: object_ref(&manifest.meta),
        rules: route.rules.iter().map(rule).collect(),
    }
}

/// GEP-1426: a rule that names no backend means the service that was called.
const fn itself(parent: ServicePort) -> BackendPlan {
    BackendPlan {
        weight: 1,
        target: TargetPlan::Service(parent),
        filters: Vec::new(),
    }
}

/// Gateway API lets no filter be skipped: requests that meet one that is not there fail.
fn unsupported(service: &ServiceName, filter: &str) -> BackendPlan {
    BackendPlan {
        weight: 1,
        target: invalid(service, "UnsupportedFilter", &not_in_this_version(filter)),
        filters: Vec::new(),
    }
}

fn not_in_this_version(filter: &str) -> String {
    format!("this version has no filter {filter} here: leave it out")
}

/// A backend is valid if it was ever applied or served, on a port it has; in any namespace, since
/// routes on Services need no `ReferenceGrant` (GEP-1294).
pub(super) fn target(services: &Services, backend: &BackendRef) -> TargetPlan {
    let service = &backend.service;
    match &backend.unusable {
        None => {}
        Some(Unusable::Kind(kind)) => {
            let message = format!("a {kind} cannot be called here: name a Service");
            return invalid(service, "InvalidKind", &message);
        }
        Some(Unusable::Filter(filter)) => {
            return invalid(service, "UnsupportedFilter", &not_in_this_version(filter));
        }
    }
    if !services.knows(service) {
        return invalid(
            service,
            "BackendNotFound",
            "nobody ever applied or served this service: apply it, or correct the name",
        );
    }
    let port = match backend.port {
        Some(port) => services.ports(service).find(|known| *known == port),
        None => services.only_port(service),
    };
    let Some(port) = port else {
        return invalid(
            service,
            "BackendNotFound",
            "the service lacks this port, or has several and the route names none",
        );
    };
    TargetPlan::Service(ServicePort {
        service: service.clone(),
        port,
    })
}

fn invalid(service: &ServiceName, reason: &str, message: &str) -> TargetPlan {
    TargetPlan::Invalid {
        name: service.to_string(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// A leaf of a split is called on the port that was called, or else on its only one.
fn split_target(
    services: &Services,
    ((service, weight), port): (&(ServiceName, u32), Option<u16>),
) -> BackendPlan {
    let same = services.ports(service).find(|known| Some(*known) == port);
    let backend = BackendRef {
        service: service.clone(),
        port: same.or_else(|| services.only_port(service)),
        weight: *weight,
        filters: Vec::new(),
        unusable: None,
    };
    BackendPlan {
        weight: *weight,
        target: target(services, &backend),
        filters: Vec::new(),
    }
}

fn split_plan(
    services: &Services,
    manifest: &Manifest,
    split: &TrafficSplit,
    port: u16,
) -> RoutePlan {
    let backend = |leaf: &(ServiceName, u32)| split_target(services, (leaf, Some(port)));
    RoutePlan {
        source: object_ref(&manifest.meta),
        rules: vec![RulePlan {
            backends: split.backends.iter().map(backend).collect(),
            ..of_service(services, &split.service)
        }],
    }
}

fn default_plan(services: &Services, service: &ServicePort) -> RoutePlan {
    RoutePlan {
        source: ObjectRef::builtin("default"),
        rules: vec![RulePlan {
            backends: vec![itself(service.clone())],
            ..of_service(services, &service.service)
        }],
    }
}

/// What the annotations of a Service say of requests that no route says anything of.
fn of_service(services: &Services, service: &ServiceName) -> RulePlan {
    let layers = layers(services, service);
    RulePlan {
        timeouts: layers.timeouts(),
        retry: layers.retry(),
        ..RulePlan::default()
    }
}

fn layers<'a>(services: &'a Services, service: &ServiceName) -> Layers<'a> {
    Layers {
        service: services.resilience(service),
        ..Layers::default()
    }
}
