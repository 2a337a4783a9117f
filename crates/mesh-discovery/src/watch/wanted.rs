//! What the reader of one watch wants to be told, until its stream takes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_policy::name::{ServiceAddress, ServiceName, ServicePort};
use mesh_policy::plan::watch::Subscriptions;

/// How many sets a watch can name to be told whole; a reader that wants more is told all of them.
const MAX_RESEND: usize = 4_000;
/// What a name costs beside its bytes: its place in a tree, its allocations, what was told of it.
const NAME_BYTES: usize = 128;
/// What the policy of a served name costs.
const INBOUND_BYTES: usize = 1_024;

/// What a reader wants to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) subscriptions: Arc<Subscriptions>,
    /// Sets to be told whole; those of several requests until they are taken.
    pub(super) resend: Resend,
    /// What was let go since it was taken: names of it that are wanted again are told again,
    /// since the reader has forgotten what it was told.
    pub(super) left: Left,
}

/// Sets to be told whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resend {
    These(BTreeSet<ServicePort>),
    /// More were asked for than are remembered.
    All,
}

/// Names that a reader let go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) services: BTreeSet<ServiceName>,
    pub(super) inbound: BTreeSet<ServiceAddress>,
}

/// What is wanted, and what of it was taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Wants {
    now: Wanted,
    taken: Arc<Subscriptions>,
}

impl Default for Resend {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Resend {
    fn add(&mut self, more: BTreeSet<ServicePort>) {
        if let Self::These(ports) = self {
            ports.extend(more);
            if ports.len() > MAX_RESEND {
                *self = Self::All;
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::These(ports) => ports.iter().map(|port| name_bytes(&port.service)).sum(),
            Self::All => 0,
        }
    }
}

impl Wants {
    /// What is wanted now.
    pub(super) const fn subscriptions(&self) -> &Arc<Subscriptions> {
        &self.now.subscriptions
    }

    /// Replaces what is wanted.
    pub(super) fn replace(&mut self, mut subscriptions: Subscriptions) {
        let resend = std::mem::take(&mut subscriptions.resend);
        self.now.resend.add(resend);
        // Bounded by what was taken once, however often a reader that never reads changes its mind.
        let left = &mut self.now.left;
        let services = self.taken.services.difference(&subscriptions.services);
        left.services.extend(services.cloned());
        let inbound = self.taken.inbound.difference(&subscriptions.inbound);
        left.inbound.extend(inbound.cloned());
        if self.now.subscriptions.services != subscriptions.services
            || self.now.subscriptions.inbound != subscriptions.inbound
        {
            self.now.subscriptions = Arc::new(subscriptions);
        }
    }

    /// What is wanted now; what is to be sent again is told once.
    pub(super) fn take(&mut self) -> Wanted {
        let subscriptions = Arc::clone(&self.now.subscriptions);
        self.taken = Arc::clone(&subscriptions);
        let rest = Wanted {
            subscriptions,
            ..Wanted::default()
        };
        std::mem::replace(&mut self.now, rest)
    }

    /// Forgets all but what is wanted: nothing is told any more.
    pub(super) fn end(&mut self) {
        drop(self.take());
    }

    /// How many bytes this may take up, at most and roughly.
    pub(super) fn bytes(&self) -> usize {
        let now = bytes(&self.now.subscriptions);
        let taken = if Arc::ptr_eq(&self.now.subscriptions, &self.taken) {
            0
        } else {
            bytes(&self.taken)
        };
        let Left { services, inbound } = &self.now.left;
        let left: usize = services.iter().map(name_bytes).sum();
        let left = left + inbound.len() * INBOUND_BYTES;
        now + taken + left + self.now.resend.bytes()
    }
}

fn bytes(subscriptions: &Subscriptions) -> usize {
    let services: usize = subscriptions.services.iter().map(name_bytes).sum();
    services + subscriptions.inbound.len() * INBOUND_BYTES
}

/// A name is kept twice where somebody serves it: as wanted, and as told.
fn name_bytes(name: &ServiceName) -> usize {
    NAME_BYTES + 2 * (name.name.as_str().len() + name.namespace.as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(names: &[&str]) -> Subscriptions {
        Subscriptions {
            services: names.iter().map(|name| name.parse().unwrap()).collect(),
            ..Subscriptions::default()
        }
    }

    fn resend(port: &str) -> Subscriptions {
        Subscriptions {
            resend: BTreeSet::from([port.parse().unwrap()]),
            ..Subscriptions::default()
        }
    }

    #[test]
    fn what_a_reader_that_never_reads_asks_for_is_bounded() {
        let mut wants = Wants::default();
        for port in 1..=u16::MAX {
            wants.replace(resend(&format!("a.shop:{port}")));
        }
        assert_eq!(wants.take().resend, Resend::All);
        assert_eq!(wants.take().resend, Resend::default());
    }

    #[test]
    fn what_is_to_be_sent_again_is_taken_once_and_never_lost() {
        let mut wants = Wants::default();
        for port in ["a.shop:80", "b.shop:80"] {
            wants.replace(resend(port));
        }
        let both = ["a.shop:80", "b.shop:80"].map(|port| port.parse().unwrap());
        assert_eq!(wants.take().resend, Resend::These(both.into()));
        assert_eq!(wants.take().resend, Resend::default());
    }

    #[test]
    fn a_service_that_was_let_go_and_is_wanted_again_is_told_again() {
        let mut wants = Wants::default();
        wants.replace(services(&["a.shop", "b.shop"]));
        assert_eq!(wants.take().left, Left::default());
        // Between two looks of the stream: it would never see that the name was gone.
        wants.replace(services(&["b.shop"]));
        wants.replace(services(&["a.shop", "b.shop"]));
        let wanted = wants.take();
        assert_eq!(
            wanted.left.services,
            BTreeSet::from(["a.shop".parse().unwrap()])
        );
        assert_eq!(wanted.subscriptions.services.len(), 2);
        assert_eq!(wants.take().left, Left::default());
        for number in 0..2_000 {
            wants.replace(services(&[&format!("n{number}.shop")]));
        }
        assert_eq!(wants.take().left.services.len(), 2, "it grows");
    }

    #[test]
    fn a_served_name_that_was_let_go_and_is_wanted_again_is_told_again() {
        let inbound = |names: &[&str]| Subscriptions {
            inbound: names.iter().map(|name| name.parse().unwrap()).collect(),
            ..Subscriptions::default()
        };
        let mut wants = Wants::default();
        wants.replace(inbound(&["a.shop"]));
        drop(wants.take());
        wants.replace(inbound(&[]));
        wants.replace(inbound(&["a.shop"]));
        let left = wants.take().left.inbound;
        assert_eq!(left, BTreeSet::from(["a.shop".parse().unwrap()]));
    }

    #[test]
    fn what_is_asked_for_is_counted_until_it_is_forgotten() {
        let mut wants = Wants::default();
        assert_eq!(wants.bytes(), 0);
        wants.replace(services(&["aaaa.shop"]));
        let one = NAME_BYTES + 16;
        assert_eq!(wants.bytes(), one);
        drop(wants.take());
        assert_eq!(wants.bytes(), one, "it is kept once");
        wants.replace(services(&["bbbb.shop"]));
        assert_eq!(
            wants.bytes(),
            3 * one,
            "what was taken, what left, what is wanted"
        );
        wants.replace(resend("cccc.shop:80"));
        assert_eq!(
            wants.bytes(),
            3 * one,
            "nothing is wanted, and one set anew"
        );
        wants.end();
        assert_eq!(wants.bytes(), 0);
    }
}
