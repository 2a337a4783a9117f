//! Names to plans: what has been asked, and what discovery answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use mesh_policy::address::{self, Destination, InvalidAuthority};
use mesh_policy::budget::{Budget, BudgetLimits};
use mesh_policy::name::{Label, ServiceAddress, ServiceName};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Service;
use super::cow_map::CowMap;

/// How long the first use of a name waits for discovery's answer.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// Names kept that discovery does not know; the least recently used go.
const MAX_UNKNOWN: usize = 1_000;
/// Spellings kept of names; further ones are parsed each time.
const MAX_SPELLINGS: usize = 4_096;

/// Names to plans. Read by requests without a lock; new names and answers are written.
#[derive(Debug)]
pub(crate) struct Plans {
    namespace: Label,
    services: CowMap<ServiceName, Arc<Entry>>,
    spellings: CowMap<Arc<str>, Spelling>,
    /// Whether there is room for another spelling.
    takes_spellings: AtomicBool,
    /// Held while any of the above is written.
    kept: Mutex<Kept>,
    /// Ticks with each use of an unknown name, to know which was used last.
    uses: AtomicU64,
    /// Woken when there is a name to subscribe to, or one to let go.
    changed: Arc<Notify>,
}

#[derive(Clone, Debug)]
struct Spelling {
    entry: Arc<Entry>,
    port: Option<u16>,
}

/// The names as their writers see them.
#[derive(Debug, Default)]
struct Kept {
    names: HashMap<ServiceName, Name, RandomState>,
    spellings: usize,
    /// The names without a plan by a use of theirs. The first one is the least recently used
    /// if it was not used since.
    unknown: BTreeMap<u64, ServiceName>,
    /// Names that were ever entered.
    entered: u64,
}

#[derive(Debug)]
struct Name {
    entry: Arc<Entry>,
    spellings: Vec<Arc<str>>,
    /// Its key in `unknown`.
    used: Option<u64>,
}

/// One name that was asked for.
#[derive(Debug)]
pub(crate) struct Entry {
    name: ServiceName,
    /// How many names were entered before it.
    number: u64,
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
            services: CowMap::default(),
            spellings: CowMap::default(),
            takes_spellings: AtomicBool::new(true),
            kept: Mutex::default(),
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
        let known = |known: &Spelling| (Arc::clone(&known.entry), known.port);
        let (entry, port) = match self.spellings.get(authority, known) {
            Some(known) => known,
            None => match address::resolve(authority, &self.namespace)? {
                Destination::Service(address) => self.read(authority, address),
                Destination::External(name) => return Err(NotInMesh::External { name }),
            },
        };
        self.touch(&entry);
        Ok((entry, port))
    }

    /// A spelling that is not kept. Only a new name, or a spelling for which there is room, is written.
    fn read(&self, spelling: &str, address: ServiceAddress) -> (Arc<Entry>, Option<u16>) {
        let ServiceAddress { service, port } = address;
        let known = self.services.get(&service, Arc::clone);
        let entry = match known {
            Some(entry) if !self.takes_spellings.load(Ordering::Relaxed) => entry,
            _ => self.enter(spelling, service, port),
        };
        (entry, port)
    }

    fn enter(&self, spelling: &str, service: ServiceName, port: Option<u16>) -> Arc<Entry> {
        let mut kept = self.kept();
        let known = kept.names.get(&service).map(|name| Arc::clone(&name.entry));
        let is_new = known.is_none();
        let entry = match known {
            Some(entry) => entry,
            None => self.add(&mut kept, service),
        };
        self.keep_spelling(&mut kept, spelling, &entry, port);
        drop(kept);
        if is_new {
            // Only now: whoever is woken must find the name.
            self.changed.notify_one();
        }
        entry
    }

    /// Adds a name for which nothing was asked yet.
    fn add(&self, kept: &mut Kept, service: ServiceName) -> Arc<Entry> {
        self.make_room(kept);
        let entry = Arc::new(Entry::new(service.clone(), kept.entered));
        kept.entered += 1;
        self.touch(&entry);
        let used = entry.used.load(Ordering::Relaxed);
        kept.unknown.insert(used, service.clone());
        let name = Name {
            entry: Arc::clone(&entry),
            spellings: Vec::new(),
            used: Some(used),
        };
        kept.names.insert(service.clone(), name);
        self.services.insert(service, Arc::clone(&entry));
        entry
    }

    fn keep_spelling(
        &self,
        kept: &mut Kept,
        spelling: &str,
        entry: &Arc<Entry>,
        port: Option<u16>,
    ) {
        let is_known = self.spellings.get(spelling, |_| ()).is_some();
        let Some(name) = kept.names.get_mut(&entry.name) else {
            return;
        };
        if is_known || kept.spellings >= MAX_SPELLINGS {
            return;
        }
        let spelling: Arc<str> = spelling.into();
        name.spellings.push(Arc::clone(&spelling));
        kept.spellings += 1;
        let entry = Arc::clone(entry);
        self.spellings.insert(spelling, Spelling { entry, port });
        self.note_room(kept);
    }

    fn note_room(&self, kept: &Kept) {
        let has_room = kept.spellings < MAX_SPELLINGS;
        self.takes_spellings.store(has_room, Ordering::Relaxed);
    }

    /// Lets the least recently used unknown names go if there are too many.
    fn make_room(&self, kept: &mut Kept) {
        while kept.unknown.len() >= MAX_UNKNOWN {
            let Some((was_used, service)) = kept.unknown.pop_first() else {
                return;
            };
            let Some(name) = kept.names.get_mut(&service) else {
                continue;
            };
            let used = name.entry.used.load(Ordering::Relaxed);
            if used > was_used {
                name.used = Some(used);
                kept.unknown.insert(used, service);
                continue;
            }
            self.services.remove(&service);
            for spelling in &name.spellings {
                self.spellings.remove(&**spelling);
            }
            kept.spellings -= name.spellings.len();
            kept.names.remove(&service);
            self.note_room(kept);
        }
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
        self.kept().names.keys().cloned().collect()
    }

    /// Names that were ever entered: those that come later have this number or a higher one.
    pub(crate) fn entered(&self) -> u64 {
        self.kept().entered
    }

    /// The names that were entered at number `first` or later and wait for their first answer.
    pub(crate) fn asked_since(&self, first: u64) -> BTreeSet<ServiceName> {
        let kept = self.kept();
        let asked = kept.names.values().map(|name| &name.entry);
        let asked = asked.filter(|entry| entry.number >= first && entry.is_waiting());
        asked.map(|entry| entry.name.clone()).collect()
    }

    /// Discovery has answered; a name that is no longer wanted is passed over.
    pub(crate) fn answer(&self, name: &ServiceName, answer: Answer) {
        let mut kept = self.kept();
        let Kept { names, unknown, .. } = &mut *kept;
        let Some(name) = names.get_mut(name) else {
            return;
        };
        let is_known = matches!(answer, Answer::Known(_));
        name.entry.answer.store(Arc::new(answer));
        match name.used {
            Some(used) if is_known => {
                unknown.remove(&used);
                name.used = None;
            }
            None if !is_known => {
                self.touch(&name.entry);
                let used = name.entry.used.load(Ordering::Relaxed);
                unknown.insert(used, name.entry.name.clone());
                name.used = Some(used);
            }
            Some(_) | None => {}
        }
        name.entry.answered.notify_waiters();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(name: ServiceName, number: u64) -> Self {
        Self {
            name,
            number,
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

    fn is_waiting(&self) -> bool {
        matches!(**self.answer.load(), Answer::Asked)
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
mod tests;
