//! Whether a client may call, and by which object.
//!
//! Any authorization lets a client in; inside one, its network and its identity
//! must both fit. There is no way to say "no": what no authorization grants is
//! denied, so an empty policy denies everyone.
//!
//! Where it is uncertain whether a `Server` means a port, it narrows: a client is
//! let in where that `Server` *and* whatever certainly governs the port do so. A
//! guess can then close what it should not, and never open it.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::identity::Identity;
use crate::name::{ObjectRef, ServicePort};
use crate::plan::inbound::{
    AuthorizationPlan, ClientPlan, EffectPlan, InboundPlan, NetworkPlan, PatternPlan,
};
use crate::plan::part::{NotUnderstood, Part};

/// The policy of one served port, ready to be asked.
#[derive(Clone, Debug)]
pub struct Policy {
    port: ServicePort,
    governs: Guard,
    narrowed_by: Vec<Guard>,
}

/// A `Server` and its authorizations.
#[derive(Clone, Debug)]
struct Guard {
    server: ObjectRef,
    authorizations: Vec<Authorization>,
}

/// What is known of a client when it calls.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Who it proved to be; `None` over plaintext.
    pub identity: Option<&'a Identity>,
    /// The address of its socket.
    pub address: IpAddr,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Let in.
    Allow {
        /// The object that grants it.
        by: &'a ObjectRef,
    },
    /// Let in, to be counted and logged: enforcement would not have.
    Audit {
        /// The object that asks for it.
        by: &'a ObjectRef,
    },
    /// Not let in.
    Deny {
        /// The `Server` that does not, or the built-in default policy.
        server: &'a ObjectRef,
        /// Why.
        reason: DenyReason,
    },
}

/// Why a client was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The policy has no authorization at all.
    NoAuthorization,
    /// None of them fits this client.
    NoneFits,
}

impl DenyReason {
    /// The word for headers and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoAuthorization => "no-authorization",
            Self::NoneFits => "none-fits",
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAuthorization => "nobody is authorized",
            Self::NoneFits => "no authorization fits",
        })
    }
}

#[derive(Clone, Debug)]
struct Authorization {
    source: ObjectRef,
    effect: EffectPlan,
    networks: Vec<Network>,
    client: Clients,
}

#[derive(Clone, Debug)]
struct Network {
    net: IpNet,
    except: Vec<IpNet>,
}

#[derive(Clone, Debug)]
enum Clients {
    Anyone,
    Identities {
        exact: HashSet<Identity>,
        patterns: Vec<PatternPlan>,
    },
}

impl Policy {
    /// Compiles what a process was told of one port.
    ///
    /// # Errors
    ///
    /// [`ClosedListener`] when a part is beyond this library or a network is none;
    /// then nobody may be let in by what is left.
    ///
    /// # Panics
    ///
    /// Never: no network is longer than its family's addresses.
    pub fn compile(plan: &InboundPlan) -> Result<Self, ClosedListener> {
        let narrowed_by = plan.narrowed_by.iter();
        let narrowed_by = narrowed_by.map(|one| Guard::compile(&one.server, &one.authorizations));
        Ok(Self {
            port: plan.port.clone(),
            governs: Guard::compile(&plan.server, &plan.authorizations)?,
            narrowed_by: narrowed_by.collect::<Result<_, _>>()?,
        })
    }

    /// The logical port it governs.
    #[must_use]
    pub fn port(&self) -> &ServicePort {
        &self.port
    }

    /// The `Server` it comes from, or the built-in default policy.
    #[must_use]
    pub fn server(&self) -> &ObjectRef {
        &self.governs.server
    }

    /// The objects that let clients in where `server` guards.
    pub fn rules(&self, server: &ObjectRef) -> impl ExactSizeIterator<Item = &ObjectRef> {
        let guard = self.guards().find(|guard| guard.server == *server);
        let rules = guard.map_or(&[][..], |guard| &guard.authorizations);
        rules.iter().map(|rule| &rule.source)
    }

    /// Whether it could let any client in that proved no identity.
    #[must_use]
    pub fn admits_plaintext(&self) -> bool {
        self.admits(None)
    }

    fn guards(&self) -> impl Iterator<Item = &Guard> {
        std::iter::once(&self.governs).chain(&self.narrowed_by)
    }

    /// Whether it lets `identity` in from some network, wherever that may be.
    #[must_use]
    pub fn admits(&self, identity: Option<&Identity>) -> bool {
        self.guards().all(|guard| guard.admits(identity))
    }

    /// Decides on one request. Allocates nothing.
    #[must_use]
    pub fn decide(&self, client: &Client<'_>) -> Verdict<'_> {
        let mut verdict = self.governs.decide(client);
        for guard in &self.narrowed_by {
            match (verdict, guard.decide(client)) {
                (Verdict::Deny { .. }, _) => break,
                // What the governing policy grants stays named, but for what enforcement would refuse.
                (Verdict::Allow { .. } | Verdict::Audit { .. }, Verdict::Allow { .. })
                | (Verdict::Audit { .. }, Verdict::Audit { .. }) => {}
                (_, stricter) => verdict = stricter,
            }
        }
        verdict
    }
}

impl Guard {
    fn compile(
        server: &ObjectRef,
        authorizations: &[Part<AuthorizationPlan>],
    ) -> Result<Self, ClosedListener> {
        let authorizations = authorizations.iter();
        let authorizations = authorizations.map(|part| Authorization::compile(part.understood()?));
        Ok(Self {
            server: server.clone(),
            authorizations: authorizations.collect::<Result<_, _>>()?,
        })
    }

    fn admits(&self, identity: Option<&Identity>) -> bool {
        let mut authorizations = self.authorizations.iter();
        authorizations.any(|authorization| authorization.client.contain(identity))
    }

    fn decide(&self, client: &Client<'_>) -> Verdict<'_> {
        let mut audit = None;
        for authorization in &self.authorizations {
            if !authorization.admits(client) {
                continue;
            }
            let by = &authorization.source;
            match authorization.effect {
                EffectPlan::Allow => return Verdict::Allow { by },
                EffectPlan::Audit => audit = audit.or(Some(by)),
            }
        }
        let reason = match audit {
            Some(by) => return Verdict::Audit { by },
            None if self.authorizations.is_empty() => DenyReason::NoAuthorization,
            None => DenyReason::NoneFits,
        };
        let server = &self.server;
        Verdict::Deny { server, reason }
    }
}

impl Authorization {
    fn compile(plan: &AuthorizationPlan) -> Result<Self, ClosedListener> {
        Ok(Self {
            source: plan.source.clone(),
            effect: plan.effect,
            networks: plan
                .networks
                .iter()
                .map(Network::compile)
                .collect::<Result<_, _>>()?,
            client: match &plan.client {
                ClientPlan::Anyone => Clients::Anyone,
                ClientPlan::Identities { exact, patterns } => Clients::Identities {
                    exact: exact.iter().cloned().collect(),
                    patterns: patterns.clone(),
                },
            },
        })
    }

    fn admits(&self, client: &Client<'_>) -> bool {
        let anywhere = self.networks.is_empty();
        (anywhere || self.networks.iter().any(|net| net.contains(client.address)))
            && self.client.contain(client.identity)
    }
}

impl Network {
    fn compile(plan: &NetworkPlan) -> Result<Self, ClosedListener> {
        let except = plan.except.iter().map(|cidr| network(cidr));
        Ok(Self {
            net: network(&plan.cidr)?,
            except: except.collect::<Result<_, _>>()?,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        self.net.contains(&address) && !self.except.iter().any(|hole| hole.contains(&address))
    }
}

/// A network or a single address, in the family that its clients are seen in.
///
/// Without that, a hole written as `::ffff:10.9.0.0/112` would keep nobody out.
fn network(text: &str) -> Result<IpNet, ClosedListener> {
    let net = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| ClosedListener::Network { cidr: text.into() })?;
    let IpNet::V6(v6) = net else {
        return Ok(net);
    };
    let mapped = v6.addr().to_ipv4_mapped();
    Ok(match mapped.zip(v6.prefix_len().checked_sub(96)) {
        Some((v4, length)) => Ipv4Net::new(v4, length)
            .map(IpNet::V4)
            .expect("128 - 96 leaves at most 32 bits"),
        None => net,
    })
}

impl Clients {
    fn contain(&self, identity: Option<&Identity>) -> bool {
        match (self, identity) {
            (Self::Anyone, _) => true,
            (Self::Identities { .. }, None) => false,
            (Self::Identities { exact, patterns }, Some(identity)) => {
                exact.contains(identity) || patterns.iter().any(|p| fits(p, identity))
            }
        }
    }
}

/// Whole segments only: the pattern `/ns/a` never fits `/ns/ab`.
fn fits(pattern: &PatternPlan, identity: &Identity) -> bool {
    let domain = pattern.trust_domain.as_ref().map(|domain| domain.as_str());
    if domain.is_some_and(|domain| domain != identity.trust_domain()) {
        return false;
    }
    if pattern.namespace.is_none() && pattern.account.is_none() {
        return true;
    }
    let Some((namespace, account)) = identity.workload() else {
        return false;
    };
    let same = |wanted: &Option<crate::name::Label>, found: &str| {
        wanted
            .as_ref()
            .is_none_or(|wanted| wanted.as_str() == found)
    };
    same(&pattern.namespace, namespace) && same(&pattern.account, account)
}

/// A listener that lets nobody in, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosedListener {
    /// An authorization is beyond this library.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
    /// A network is none.
    #[error("{cidr:?} is no network: write an address and a length, such as 10.0.0.0/8")]
    Network {
        /// As it is written.
        cidr: String,
    },
}

#[cfg(test)]
mod tests;
