//! What this process serves: the policies it was told, and the leases it holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use mesh_policy::name::ServiceAddress;
use mesh_policy::plan::inbound::InboundPlan;
use mesh_policy::plan::part::Part;
use mesh_policy::report::Rejection;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};

use crate::inbound::Policy;

/// The policy of a listener, as it is told so far.
pub(crate) type CurrentPolicy = Arc<ArcSwap<Policy>>;

/// What this process serves. Read by listeners and the admin port, written by the control thread.
#[derive(Debug)]
pub(crate) struct Served {
    policies: BTreeMap<ServiceAddress, Told>,
    /// Policies of listeners that serve several names: all of them must let a client in. A joint
    /// policy is made under this lock alone, so that none is made of what is in force no more.
    joint: Mutex<Vec<(Vec<ServiceAddress>, CurrentPolicy)>>,
    leases: Mutex<BTreeMap<String, Lease>>,
    /// Counts changes of leases, for whoever waits until one is gone.
    leased: watch::Sender<u64>,
    /// Woken when there is something to tell discovery.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Told {
    policy: CurrentPolicy,
    /// As it was told, for people.
    plan: Mutex<Option<Part<InboundPlan>>>,
}

/// One listener that is, or shall be, registered for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) serves: ServiceAddress,
    pub(crate) address: SocketAddr,
    /// The watch that it was registered with.
    pub(crate) watch: Option<String>,
    /// Whether discovery may have heard of it.
    pub(crate) asked: bool,
    /// Whether it shall be there.
    pub(crate) wanted: bool,
}

impl Served {
    /// Serves `names`; `changed` is woken when leases change.
    pub(crate) fn new(names: &[ServiceAddress], changed: Arc<Notify>) -> Self {
        let told = |name: &ServiceAddress| {
            let told = Told {
                policy: Arc::new(ArcSwap::from_pointee(Policy::Awaited)),
                plan: Mutex::new(None),
            };
            (name.clone(), told)
        };
        Self {
            policies: names.iter().map(told).collect(),
            joint: Mutex::default(),
            leases: Mutex::default(),
            leased: watch::Sender::new(0),
            changed,
        }
    }

    /// The names, as they are registered and subscribed to.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ServiceAddress> {
        self.policies.keys()
    }

    /// The policy of a listener that serves `names`. A client says itself which name it
    /// wants, so the weakest of several policies must not decide: all must let it in.
    pub(crate) fn policy(&self, names: &[ServiceAddress]) -> CurrentPolicy {
        if let [name] = names
            && let Some(told) = self.policies.get(name)
        {
            return Arc::clone(&told.policy);
        }
        let mut joint = lock(&self.joint);
        let policy = Arc::new(ArcSwap::from_pointee(self.join(names)));
        joint.push((names.to_vec(), Arc::clone(&policy)));
        policy
    }

    fn join(&self, names: &[ServiceAddress]) -> Policy {
        let told = names.iter().filter_map(|name| self.policies.get(name));
        Policy::every(told.map(|told| told.policy.load_full()).collect())
    }

    /// Discovery has told the policy of a name.
    pub(super) fn tell(&self, name: &ServiceAddress, plan: &Part<InboundPlan>) {
        let Some(told) = self.policies.get(name) else {
            return;
        };
        *lock(&told.plan) = Some(plan.clone());
        told.policy.store(Arc::new(Policy::compile(plan)));
        let mut joint = lock(&self.joint);
        // Those that nobody but us holds belong to listeners that are gone.
        joint.retain(|(_, policy)| Arc::strong_count(policy) > 1);
        for (names, policy) in joint.iter() {
            if names.contains(name) {
                policy.store(Arc::new(self.join(names)));
            }
        }
        drop(joint);
        self.changed.notify_one();
    }

    /// What is closed, and why.
    pub(super) fn rejections(&self) -> Vec<Rejection> {
        let closed = self.policies.iter().filter_map(|(name, told)| {
            let why = told.policy.load().why_closed()?.to_owned();
            let subject = name.to_string();
            Some(Rejection { subject, why })
        });
        closed.collect()
    }

    /// The policies as they were told, for people.
    pub(super) fn show(&self) -> Value {
        let plans = self.policies.iter();
        let plans = plans.map(|(name, told)| (name.to_string(), json!(*lock(&told.plan))));
        Value::Object(plans.collect::<Map<_, _>>())
    }

    /// Why this process should get no traffic yet; empty when it should.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        for (name, told) in &self.policies {
            let policy = told.policy.load();
            if let Some(why) = policy.why_closed() {
                reasons.push(format!("{name} is closed: {why}"));
            } else if matches!(**policy, Policy::Awaited) {
                reasons.push(format!("{name} waits for its inbound policy"));
            }
            let leases = lock(&self.leases);
            let mut own = leases.values().filter(|lease| lease.serves == *name);
            if !own.any(|lease| lease.wanted && lease.watch.is_some()) {
                reasons.push(format!(
                    "{name} is not registered: no listener serves it yet"
                ));
            }
        }
        reasons
    }

    /// A listener at `address` serves `name` from now on.
    pub(crate) fn register(
        self: &Arc<Self>,
        name: ServiceAddress,
        address: SocketAddr,
    ) -> Registered {
        let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let lease = Lease {
            serves: name,
            address,
            watch: None,
            asked: false,
            wanted: true,
        };
        lock(&self.leases).insert(id.clone(), lease);
        self.changed.notify_one();
        Registered {
            id,
            served: Arc::clone(self),
        }
    }

    /// Leases that differ from what discovery was told over `watch`, by id. One that has no
    /// policy yet is not due: its listener could only answer 503.
    ///
    /// Whoever asks is about to tell them.
    pub(super) fn due(&self, watch: &str) -> Vec<(String, Lease)> {
        let mut leases = lock(&self.leases);
        let due = leases.iter_mut().filter(|(_, lease)| {
            let told = self.policies.get(&lease.serves);
            let open = told.is_some_and(|told| matches!(**told.policy.load(), Policy::Open(_)));
            let held = lease.watch.as_deref() == Some(watch);
            !lease.wanted || (open && !held)
        });
        due.map(|(id, lease)| {
            lease.asked = true;
            (id.clone(), lease.clone())
        })
        .collect()
    }

    /// Discovery has taken a registration.
    pub(super) fn held(&self, id: &str, watch: &str) {
        if let Some(lease) = lock(&self.leases).get_mut(id) {
            lease.watch = Some(watch.to_owned());
        }
        self.leased.send_modify(|changes| *changes += 1);
    }

    /// Discovery has let a registration go.
    pub(super) fn gone(&self, id: &str) {
        lock(&self.leases).remove(id);
        self.leased.send_modify(|changes| *changes += 1);
    }

    fn withdraw(&self, id: &str) {
        let mut leases = lock(&self.leases);
        match leases.get_mut(id) {
            // Discovery never heard of it.
            Some(lease) if !lease.asked => {
                leases.remove(id);
            }
            Some(lease) => lease.wanted = false,
            None => {}
        }
        drop(leases);
        self.leased.send_modify(|changes| *changes += 1);
        self.changed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A listener's registration; dropped, it is withdrawn.
#[derive(Debug)]
pub(crate) struct Registered {
    id: String,
    served: Arc<Served>,
}

impl Registered {
    /// Withdraws it, and waits until discovery has heard so.
    pub(crate) async fn withdraw(self) {
        self.served.withdraw(&self.id);
        let mut leased = self.served.leased.subscribe();
        while lock(&self.served.leases).contains_key(&self.id) {
            // The sender lives in `served`, so a change always comes or we wait for it.
            if leased.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.served.withdraw(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> (Arc<Served>, ServiceAddress) {
        let name: ServiceAddress = "orders.shop".parse().unwrap();
        let served = Served::new(std::slice::from_ref(&name), Arc::default());
        (Arc::new(served), name)
    }

    fn policy() -> Part<InboundPlan> {
        let plan = InboundPlan {
            port: "orders.shop:80".parse().unwrap(),
            server: mesh_policy::name::ObjectRef::builtin("all-authenticated"),
            http: mesh_policy::plan::endpoint::HttpVersions::Both,
            authorizations: Vec::new(),
            narrowed_by: Vec::new(),
            request_body_idle_ms: None,
        };
        Part::new("inbound/1", plan)
    }

    fn beyond_us() -> Part<InboundPlan> {
        Part::NotUnderstood {
            requires: std::collections::BTreeSet::new(),
            why: "it is beyond us".to_owned(),
        }
    }

    fn open_to_anyone() -> Part<InboundPlan> {
        use mesh_policy::plan::inbound::{AuthorizationPlan, ClientPlan, EffectPlan};
        let anyone = AuthorizationPlan {
            source: mesh_policy::name::ObjectRef::builtin("all-unauthenticated"),
            effect: EffectPlan::Allow,
            networks: Vec::new(),
            client: ClientPlan::Anyone,
        };
        let Part::Understood { requires, body } = policy() else {
            unreachable!("it is made of a body");
        };
        let body = InboundPlan {
            authorizations: vec![Part::new("authorization/1", anyone)],
            ..body
        };
        Part::Understood { requires, body }
    }

    #[test]
    fn z01_a_listener_of_several_names_lets_in_only_whom_all_policies_let_in() {
        let names: Vec<ServiceAddress> = ["orders.shop", "carts.shop"]
            .map(|name| name.parse().unwrap())
            .to_vec();
        let served = Served::new(&names, Arc::default());
        let policy_of_both = served.policy(&names);
        let peer = crate::Peer::plaintext(([127, 0, 0, 1], 1).into());
        let lets_in = || policy_of_both.load().admit(&peer).is_ok();
        assert!(!lets_in());
        served.tell(&names[0], &open_to_anyone());
        assert!(!lets_in(), "the other policy has not come");
        served.tell(&names[1], &open_to_anyone());
        assert!(lets_in());
        served.tell(&names[0], &policy());
        assert!(!lets_in(), "the weaker policy decided");
    }

    /// Policies of listeners that begin while a policy is told: a listener that takes its joint
    /// policy from what was in force a moment ago would keep it until the next change.
    #[test]
    fn z01_a_listener_that_begins_while_a_policy_is_told_gets_the_policy_in_force() {
        let names: Vec<ServiceAddress> = ["orders.shop", "carts.shop"]
            .map(|name| name.parse().unwrap())
            .to_vec();
        let peer = crate::Peer::plaintext(([127, 0, 0, 1], 1).into());
        let (closed, open) = (policy(), open_to_anyone());
        for round in 0..500 {
            let served = Served::new(&names, Arc::default());
            served.tell(&names[0], &open);
            served.tell(&names[1], &open);
            let start = std::sync::Barrier::new(2);
            let listeners: Vec<_> = std::thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    std::thread::yield_now();
                    served.tell(&names[0], &closed);
                });
                start.wait();
                (0..200).map(|_| served.policy(&names)).collect()
            });
            let stale = listeners.iter().filter(|p| p.load().admit(&peer).is_ok());
            assert_eq!(stale.count(), 0, "in round {round}");
        }
    }

    #[test]
    fn a_listener_without_a_policy_is_not_registered_and_says_why() {
        let (served, name) = served();
        let _registered = served.register(name.clone(), ([127, 0, 0, 1], 1).into());
        assert!(served.due("w1").is_empty());
        let reasons = served.not_ready().join("\n");
        assert!(
            reasons.contains("orders.shop waits for its inbound policy"),
            "{reasons}"
        );
        served.tell(&name, &beyond_us());
        assert!(served.due("w1").is_empty());
        let reasons = served.not_ready().join("\n");
        assert!(
            reasons.contains("orders.shop is closed: it is beyond us"),
            "{reasons}"
        );
        assert_eq!(served.rejections().len(), 1);
    }

    #[tokio::test]
    async fn a_withdrawal_ends_when_discovery_has_heard_of_it() {
        let (served, name) = served();
        let registered = served.register(name, ([127, 0, 0, 1], 1).into());
        let id = registered.id.clone();
        served.tell(&"orders.shop".parse().unwrap(), &policy());
        assert_eq!(served.due("w1").len(), 1);
        served.held(&id, "w1");
        assert!(served.due("w1").is_empty());
        assert_eq!(served.due("w2").len(), 1, "a new watch holds nothing yet");
        let mut withdrawal = tokio_test::task::spawn(registered.withdraw());
        assert!(withdrawal.poll().is_pending());
        let due = served.due("w1");
        assert_eq!(due.len(), 1);
        assert!(!due[0].1.wanted);
        served.gone(&id);
        assert!(withdrawal.is_woken());
        withdrawal.await;
    }

    #[tokio::test]
    async fn what_discovery_never_heard_of_is_withdrawn_at_once() {
        let (served, name) = served();
        let registered = served.register(name, ([127, 0, 0, 1], 1).into());
        registered.withdraw().await;
        assert!(served.due("w1").is_empty());
    }
}
