//! How an object stands: whether it has an effect, and if not, why.
//!
//! The words are Gateway API's where it has one. Nothing here decides anything: it
//! asks the same functions that make plans, so that a status cannot say otherwise
//! than what processes are told.

use mesh_policy::manifest::{
    AuthorizationPolicy, HttpRoute, Manifest, Parent, PolicyTarget, Server, Spec, TrafficSplit,
    Unusable,
};
use mesh_policy::name::ServiceName;
use mesh_policy::plan::outbound::TargetPlan;

use super::effect::Unguarded;
use super::grants::attaches;
use super::outbound::{Routes, target};
use super::world::World;

/// One statement about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Such as `Accepted`.
    pub about: &'static str,
    /// Whether it holds.
    pub holds: Holds,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence, with the remedy; empty where all is well.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// All statements about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Of the object itself.
    Object(Vec<Condition>),
    /// Of a route, towards each of its parents.
    Parents(Vec<(Parent, Vec<Condition>)>),
}

impl Condition {
    fn good(about: &'static str) -> Self {
        Self {
            about,
            holds: Holds::Yes,
            reason: about,
            message: String::new(),
        }
    }

    fn bad(about: &'static str, reason: &'static str, message: String) -> Self {
        let holds = Holds::No;
        Self {
            about,
            holds,
            reason,
            message,
        }
    }
}

const ACCEPTED: &str = "Accepted";
const EFFECTIVE: &str = "Effective";
const RESOLVED: &str = "ResolvedRefs";
const CONFLICTED: &str = "Conflicted";
const NO_TARGET: &str = "NoMatchingTarget";

impl World {
    /// How `manifest`, one of this world's objects, stands in it.
    #[must_use]
    pub fn status(&self, manifest: &Manifest) -> Status {
        Status::Object(match &manifest.spec {
            Spec::HttpRoute(route) => return self.of_route(route),
            Spec::TrafficSplit(split) => self.of_split(manifest, split),
            Spec::Server(server) => self.of_server(manifest, server),
            Spec::AuthorizationPolicy(policy) => self.of_policy(manifest, policy),
            Spec::ServerAuthorization(_) => self.of_authorization(manifest),
            Spec::Service(_) | Spec::MeshTlsAuthentication(_) | Spec::NetworkAuthentication(_) => {
                vec![Condition::good(ACCEPTED)]
            }
        })
    }

    fn of_route(&self, route: &HttpRoute) -> Status {
        let parent = |parent: &Parent| {
            let backends = route.rules.iter().flat_map(|rule| &rule.backends);
            let targets = backends.map(|b| target(&self.services, b));
            let conditions = vec![self.attaches(route, parent), resolved(targets)];
            (parent.clone(), conditions)
        };
        Status::Parents(route.parents.iter().map(parent).collect())
    }

    fn attaches(&self, route: &HttpRoute, parent: &Parent) -> Condition {
        let service = &parent.service;
        let no_parent = |message| Condition::bad(ACCEPTED, "NoMatchingParent", message);
        if !self.services.knows(service) {
            return no_parent(format!(
                "nobody ever applied or served the Service {service}: apply it, or correct parentRefs"
            ));
        }
        if let Some(section) = &parent.section
            && self.services.named(service, section).is_none()
        {
            return no_parent(format!(
                "the Service {service} has no port of the name {section}: correct sectionName, or leave it out"
            ));
        }
        if let Some(filter) = unsupported(route) {
            let message = format!(
                "this version has no filter {filter} here: requests that meet it are answered 500"
            );
            return Condition::bad(ACCEPTED, "UnsupportedValue", message);
        }
        match parent.port {
            Some(port) if !self.services.ports(service).any(|known| known == port) => {
                no_parent(format!(
                    "the Service {service} has no port {port}: correct parentRefs, or leave the port out"
                ))
            }
            _ => Condition::good(ACCEPTED),
        }
    }

    fn of_split(&self, manifest: &Manifest, split: &TrafficSplit) -> Vec<Condition> {
        let service = &split.service;
        let accepted = if self.services.knows(service) {
            Condition::good(ACCEPTED)
        } else {
            let message = format!("nobody ever applied or served the Service {service}: apply it");
            Condition::bad(ACCEPTED, NO_TARGET, message)
        };
        let targets = split.backends.iter();
        let targets = targets.map(|leaf| Routes::leaf(&self.services, split, leaf));
        let mut conditions = vec![accepted, resolved(targets)];
        conditions.extend(self.wins_over(manifest, service).map(|winner| Condition {
            about: CONFLICTED,
            holds: Holds::Yes,
            reason: "Superseded",
            message: format!("{winner} governs {service}: remove one of the two"),
        }));
        conditions
    }

    /// What governs the service in place of this split.
    fn wins_over(&self, split: &Manifest, service: &ServiceName) -> Option<String> {
        if let Some(route) = self.routes.route_of(service) {
            return Some(format!("the HTTPRoute {}", route.meta.name));
        }
        let first = self.routes.split_of(service)?;
        let same =
            first.meta.name == split.meta.name && first.meta.namespace == split.meta.namespace;
        (!same).then(|| format!("the older TrafficSplit {}", first.meta.name))
    }

    fn of_server(&self, manifest: &Manifest, server: &Server) -> Vec<Condition> {
        let effect = self.effects().of(manifest);
        let mut conditions = vec![
            Condition::good(ACCEPTED),
            effective(effect.unguarded(&server.port)),
        ];
        let superseded = effect.superseded();
        conditions.extend(superseded.map(|Unguarded { reason, message }| Condition {
            about: CONFLICTED,
            holds: Holds::Yes,
            reason,
            message,
        }));
        conditions
    }

    /// Whether what the policy `manifest` says holds anywhere; nothing where it names no `Server`.
    fn attached(&self, manifest: &Manifest) -> Option<Condition> {
        let servers = self.policies.servers(manifest.meta.namespace.as_str());
        let servers: Vec<_> = servers
            .filter(|server| attaches(manifest, server.manifest))
            .collect();
        let some = !servers.is_empty();
        some.then(|| effective(self.effects().of_all(&servers)))
    }

    fn of_policy(&self, manifest: &Manifest, policy: &AuthorizationPolicy) -> Vec<Condition> {
        let accepted = match &policy.target {
            PolicyTarget::Server(name) if !self.policies.has_server(manifest, name) => {
                let message = format!(
                    "there is no Server {name} in this namespace: apply it, or correct targetRef"
                );
                Condition::bad(ACCEPTED, NO_TARGET, message)
            }
            PolicyTarget::Route(name) => {
                let message = format!(
                    "routes on a Server, such as {name}, are not served in this version: name the Server"
                );
                Condition::bad(ACCEPTED, NO_TARGET, message)
            }
            PolicyTarget::Server(_) | PolicyTarget::Namespace => Condition::good(ACCEPTED),
        };
        let missing = self.policies.grants.missing(&policy.authentications);
        let resolved = match missing {
            None => Condition::good(RESOLVED),
            Some(reference) => {
                let message = format!(
                    "there is no {} in namespace {}: apply it; until then this policy grants nothing",
                    reference.name, reference.namespace
                );
                Condition::bad(RESOLVED, "AuthenticationNotFound", message)
            }
        };
        let mut conditions = vec![accepted, resolved];
        conditions.extend(self.attached(manifest));
        conditions
    }

    fn of_authorization(&self, manifest: &Manifest) -> Vec<Condition> {
        if let Some(effective) = self.attached(manifest) {
            return vec![Condition::good(ACCEPTED), effective];
        }
        let message = "it names no Server of this namespace: apply one, or correct spec.server";
        vec![Condition::bad(ACCEPTED, NO_TARGET, message.to_owned())]
    }
}

fn effective(unguarded: Option<Unguarded>) -> Condition {
    match unguarded {
        None => Condition::good(EFFECTIVE),
        Some(Unguarded { reason, message }) => Condition::bad(EFFECTIVE, reason, message),
    }
}

/// The first filter of a route that this version does not have.
fn unsupported(route: &HttpRoute) -> Option<&'static str> {
    route.rules.iter().find_map(|rule| {
        let backends = rule.backends.iter();
        let mut of_backends = backends.filter_map(|backend| match backend.unusable {
            Some(Unusable::Filter(filter)) => Some(filter),
            _ => None,
        });
        rule.unsupported.or_else(|| of_backends.next())
    })
}

/// Whether every backend can be called; the first reason stands for all, the message tells each.
fn resolved(targets: impl Iterator<Item = TargetPlan>) -> Condition {
    let mut reasons = Vec::new();
    let mut messages = Vec::new();
    for target in targets {
        // A filter that is not there is no matter of references: `Accepted` tells it.
        if let TargetPlan::Invalid {
            name,
            reason,
            message,
        } = target
            && reason != "UnsupportedFilter"
        {
            reasons.push(reason);
            messages.push(format!("{name}: {message}"));
        }
    }
    match reasons.first().map(String::as_str) {
        None => Condition::good(RESOLVED),
        Some("InvalidKind") => Condition::bad(RESOLVED, "InvalidKind", messages.join("; ")),
        Some(_) => Condition::bad(RESOLVED, "BackendNotFound", messages.join("; ")),
    }
}

#[cfg(test)]
mod tests;
