//! What the reader of one watch wants to be told, until its stream takes it.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_policy::name::{ServiceName, ServicePort};
use mesh_policy::plan::watch::Subscriptions;

/// How many sets a watch can name to be told whole; who wants more is told all of them.
const MAX_RESEND: usize = 4_000;

/// What a reader wants to be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) subscriptions: Arc<Subscriptions>,
    /// Sets to be told whole; those of several requests until they are taken.
    pub(super) resend: Resend,
    /// Services that were let go since they were taken: those of them that are wanted again
    /// are told again, since the reader has forgotten what it was told.
    pub(super) left: BTreeSet<ServiceName>,
}

/// Sets to be told whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resend {
    These(BTreeSet<ServicePort>),
    /// More were asked for than are remembered.
    All,
}

/// What is wanted, and what of it was taken.
#[derive(Debug, Default)]
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
}

impl Wants {
    /// What is wanted now.
    pub(super) fn subscriptions(&self) -> &Subscriptions {
        &self.now.subscriptions
    }

    /// Replaces what is wanted.
    pub(super) fn replace(&mut self, mut subscriptions: Subscriptions) {
        let resend = std::mem::take(&mut subscriptions.resend);
        self.now.resend.add(resend);
        // No more than were taken once, however often a reader that never reads changes its mind.
        let left = self.taken.services.difference(&subscriptions.services);
        self.now.left.extend(left.cloned());
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
        assert_eq!(wants.take().left, BTreeSet::new());
        // Between two looks of the stream: it would never see that the name was gone.
        wants.replace(services(&["b.shop"]));
        wants.replace(services(&["a.shop", "b.shop"]));
        let wanted = wants.take();
        assert_eq!(wanted.left, BTreeSet::from(["a.shop".parse().unwrap()]));
        assert_eq!(wanted.subscriptions.services.len(), 2);
        assert_eq!(wants.take().left, BTreeSet::new());
        for number in 0..2_000 {
            wants.replace(services(&[&format!("n{number}.shop")]));
        }
        assert_eq!(wants.take().left.len(), 2, "it grows");
    }
}
