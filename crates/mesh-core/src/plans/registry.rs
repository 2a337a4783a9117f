//! Names to plans: what has been asked, and what discovery answered.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use mesh_policy::address::{self, Destination, InvalidAuthority};
use mesh_policy::budget::{Budget, BudgetLimits};
use mesh_policy::name::{Label, ServiceAddress, ServiceName};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Service;

/// How long the first use of a name waits for discovery's answer.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// Names kept that discovery does not know; the least recently used go.
const MAX_UNKNOWN: usize = 1_000;
/// Spellings kept of names; further ones are parsed each time.
const MAX_SPELLINGS: usize = 4_096;

/// Names to plans. Read by requests, written by the control thread.
#[derive(Debug)]
pub(crate) struct Plans {
    namespace: Label,
    names: ArcSwap<Names>,
    /// Held while `names` is replaced.
    writing: Mutex<()>,
    /// Ticks with each use of an unknown name, to know which was used last.
    uses: AtomicU64,
    /// Woken when there is a name to subscribe to, or one to let go.
    changed: Arc<Notify>,
}

#[derive(Clone, Debug, Default)]
struct Names {
    services: HashMap<ServiceName, Arc<Entry>, RandomState>,
    spellings: HashMap<Box<str>, Spelling, RandomState>,
}

#[derive(Clone, Debug)]
struct Spelling {
    entry: Arc<Entry>,
    port: Option<u16>,
}

/// One name that was asked for.
#[derive(Debug)]
pub(crate) struct Entry {
    name: ServiceName,
    answer: ArcSwap<Answer>,
    asked: Instant,
    answered: Notify,
    used: AtomicU64,
    /// What pays for retries. It outlives a change of plans that leaves its limits alone.
    budget: ArcSwap<Budget>,
}

/// What discovery says of a name.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Nothing yet.
    Asked,
    /// There is no such service.
    Unknown,
    /// Its plan.
    Known(Arc<Service>),
}

impl Plans {
    /// No names yet. `namespace` is what a bare name means; `changed` is woken when
    /// [`Plans::wanted`] changes.
    pub(crate) fn new(namespace: Label, changed: Arc<Notify>) -> Self {
        Self {
            namespace,
            names: ArcSwap::default(),
            writing: Mutex::new(()),
            uses: AtomicU64::new(0),
            changed,
        }
    }

    /// The service that an authority names, and the port it says. The first use subscribes.
    ///
    /// # Errors
    ///
    /// [`NotInMesh`] for an authority that names no service of the mesh.
    pub(crate) fn find(&self, authority: &str) -> Result<(Arc<Entry>, Option<u16>), NotInMesh> {
        if let Some(known) = self.names.load().spellings.get(authority) {
            self.touch(&known.entry);
            return Ok((Arc::clone(&known.entry), known.port));
        }
        match address::resolve(authority, &self.namespace)? {
            Destination::Service(address) => Ok(self.enter(authority, address)),
            Destination::External(name) => Err(NotInMesh::External { name }),
        }
    }

    fn enter(&self, spelling: &str, address: ServiceAddress) -> (Arc<Entry>, Option<u16>) {
        let ServiceAddress { service, port } = address;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Names::clone(&self.names.load());
        let known = names.services.get(&service).map(Arc::clone);
        let is_new = known.is_none();
        let entry = match known {
            Some(entry) => entry,
            None => {
                names.make_room();
                let entry = Arc::new(Entry::new(service.clone()));
                names.services.insert(service, Arc::clone(&entry));
                entry
            }
        };
        if names.spellings.len() < MAX_SPELLINGS {
            let known = Spelling {
                entry: Arc::clone(&entry),
                port,
            };
            names.spellings.insert(spelling.into(), known);
        }
        self.names.store(Arc::new(names));
        if is_new {
            // Only now: whoever is woken must find the name.
            self.changed.notify_one();
        }
        self.touch(&entry);
        (entry, port)
    }

    /// Notes a use; those of known names cost nothing.
    fn touch(&self, entry: &Entry) {
        if !matches!(**entry.answer.load(), Answer::Known(_)) {
            let use_number = self.uses.fetch_add(1, Ordering::Relaxed);
            entry.used.store(use_number, Ordering::Relaxed);
        }
    }

    /// The names to be subscribed to.
    pub(crate) fn wanted(&self) -> BTreeSet<ServiceName> {
        self.names.load().services.keys().cloned().collect()
    }

    /// Discovery has answered; a name that is no longer wanted is passed over.
    pub(crate) fn answer(&self, name: &ServiceName, answer: Answer) {
        if let Some(entry) = self.names.load().services.get(name) {
            entry.answer.store(Arc::new(answer));
            entry.answered.notify_waiters();
        }
    }
}

impl Names {
    /// Lets the least recently used unknown name go if there are too many.
    fn make_room(&mut self) {
        let unknown = self
            .services
            .values()
            .filter(|entry| !matches!(**entry.answer.load(), Answer::Known(_)));
        if unknown.clone().count() < MAX_UNKNOWN {
            return;
        }
        let oldest = unknown.min_by_key(|entry| entry.used.load(Ordering::Relaxed));
        if let Some(name) = oldest.map(|entry| entry.name.clone()) {
            self.services.remove(&name);
            self.spellings.retain(|_, known| known.entry.name != name);
        }
    }
}

impl Entry {
    fn new(name: ServiceName) -> Self {
        Self {
            name,
            answer: ArcSwap::from_pointee(Answer::Asked),
            asked: Instant::now(),
            answered: Notify::new(),
            used: AtomicU64::new(0),
            budget: ArcSwap::from_pointee(Budget::new(
                BudgetLimits::default(),
                Instant::now().into_std(),
            )),
        }
    }

    /// What pays for retries, opened anew if its limits are no longer `limits`.
    pub(crate) fn budget(&self, limits: BudgetLimits) -> Arc<Budget> {
        let budget = self.budget.load();
        if budget.limits() == limits {
            return Arc::clone(&budget);
        }
        let fresh = Arc::new(Budget::new(limits, Instant::now().into_std()));
        let put = |now: &Arc<Budget>| {
            // Others may have been here first.
            let current = if now.limits() == limits { now } else { &fresh };
            Arc::clone(current)
        };
        self.budget.rcu(put);
        self.budget.load_full()
    }

    /// The name that was asked for.
    pub(crate) fn name(&self) -> &ServiceName {
        &self.name
    }

    /// What is known now.
    pub(crate) fn now(&self) -> arc_swap::Guard<Arc<Answer>> {
        self.answer.load()
    }

    /// The answer, at the latest 1 s after the name was first used.
    pub(crate) async fn answer(&self) -> Answer {
        let limit = self.asked + FIRST_ANSWER;
        loop {
            // Created before the look, so that an answer in between wakes it.
            let answered = self.answered.notified();
            let answer = Answer::clone(&self.answer.load());
            if !matches!(answer, Answer::Asked) {
                return answer;
            }
            if tokio::time::timeout_at(limit, answered).await.is_err() {
                return Answer::Asked;
            }
        }
    }
}

/// An authority names no service of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotInMesh {
    /// It is no authority at all.
    #[error(transparent)]
    Invalid(#[from] InvalidAuthority),
    /// It names something outside, and nothing allows this process to go there.
    #[error(
        "{name:?} is no service of the mesh, and egress is not allowed: name a service as name.namespace"
    )]
    External {
        /// The name or address.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Plans {
        Plans::new("shop".parse().unwrap(), Arc::default())
    }

    #[test]
    fn all_spellings_of_a_service_are_one_name() {
        let plans = plans();
        let (first, port) = plans.find("orders").unwrap();
        assert_eq!(port, None);
        for spelling in [
            "orders.shop",
            "orders.shop.svc.cluster.local",
            "ORDERS.shop.",
        ] {
            let (entry, _) = plans.find(spelling).unwrap();
            assert!(Arc::ptr_eq(&first, &entry), "{spelling}");
        }
        assert_eq!(plans.find("orders.shop:8080").unwrap().1, Some(8080));
        assert_eq!(plans.wanted().len(), 1);
    }

    #[test]
    fn what_is_outside_the_mesh_is_never_subscribed_to() {
        let plans = plans();
        assert!(plans.find("www.example.com").is_err());
        assert!(plans.find("10.0.0.1:80").is_err());
        assert!(plans.wanted().is_empty());
    }

    /// On two threads: a wake before the name can be found lost one name in thirty.
    #[test]
    fn whoever_is_woken_finds_the_new_name() {
        const NAMES: usize = 900;
        let changed: Arc<Notify> = Arc::default();
        let plans = Arc::new(Plans::new("shop".parse().unwrap(), Arc::clone(&changed)));
        let watched = Arc::clone(&plans);
        let (tell, told) = std::sync::mpsc::channel();
        let watcher = std::thread::spawn(move || {
            for known in 1..=NAMES {
                tokio_test::block_on(changed.notified());
                assert_eq!(watched.wanted().len(), known);
                tell.send(()).unwrap();
            }
        });
        for name in 0..NAMES {
            plans.find(&format!("n{name}")).unwrap();
            if told.recv().is_err() {
                break;
            }
        }
        watcher.join().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_use_waits_a_second_and_later_ones_do_not() {
        let plans = plans();
        let (entry, _) = plans.find("orders").unwrap();
        let asked = Instant::now();
        assert!(matches!(entry.answer().await, Answer::Asked));
        assert_eq!(asked.elapsed().as_secs(), 1);
        assert!(matches!(entry.answer().await, Answer::Asked));
        assert_eq!(asked.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_wakes_whoever_waits() {
        let plans = plans();
        let (entry, _) = plans.find("orders").unwrap();
        let mut waiting = tokio_test::task::spawn(entry.answer());
        assert!(waiting.poll().is_pending());
        plans.answer(entry.name(), Answer::Unknown);
        assert!(waiting.is_woken());
        assert!(matches!(waiting.await, Answer::Unknown));
    }

    #[test]
    fn of_too_many_unknown_names_the_least_recently_used_goes() {
        let plans = plans();
        for number in 0..MAX_UNKNOWN {
            plans.find(&format!("n{number}")).unwrap();
        }
        plans.find("n0").unwrap();
        plans.find("one-more").unwrap();
        let wanted = plans.wanted();
        assert_eq!(wanted.len(), MAX_UNKNOWN);
        assert!(wanted.contains(&"n0.shop".parse().unwrap()));
        assert!(!wanted.contains(&"n1.shop".parse().unwrap()));
        assert!(!plans.names.load().spellings.contains_key("n1"));
    }
}
