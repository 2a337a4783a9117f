//! Places for clients that have not proved who they are.
//!
//! Why the oldest place gives way and not the newest: a client that means well needs a few round
//! trips, so its place is young. Strangers that stop keep theirs, and a server that refused the
//! newest client would be closed to everybody for as long as strangers hold all places. Why the
//! source with the most places pays: a flood from one address then costs that address alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded number of places, shared fairly among the addresses that clients come from.
#[derive(Debug)]
pub struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    count: usize,
    /// By age, oldest first; no source is empty.
    by_source: HashMap<IpAddr, BTreeMap<u64, Arc<Notify>>>,
}

impl Places {
    /// At most `most` places, and at least one.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            taken: Mutex::default(),
        })
    }

    /// Takes a place for a client at `address`. Where all are taken, the oldest one of the source
    /// with the most places is evicted.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Place {
        let source = source(address);
        let evicted = Arc::new(Notify::new());
        let mut taken = self.taken();
        while taken.count >= self.most && taken.evict() {}
        let id = taken.next;
        taken.next += 1;
        taken.count += 1;
        let held = taken.by_source.entry(source).or_default();
        held.insert(id, Arc::clone(&evicted));
        drop(taken);
        Place {
            id,
            source,
            evicted,
            places: Arc::clone(self),
        }
    }

    /// Evicts the oldest place of the source with the most; false if no place is taken.
    pub fn evict(&self) -> bool {
        self.taken().evict()
    }

    /// How many places are taken.
    #[must_use]
    pub fn count(&self) -> usize {
        self.taken().count
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing under this lock panics half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn evict(&mut self) -> bool {
        let age = |held: &BTreeMap<u64, _>| held.keys().next().copied();
        let busiest = self
            .by_source
            .iter()
            .max_by_key(|(_, held)| (held.len(), Reverse(age(held))));
        let Some((source, id)) = busiest.and_then(|(source, held)| Some((*source, age(held)?)))
        else {
            return false;
        };
        if let Some(evicted) = self.remove(source, id) {
            evicted.notify_one();
        }
        true
    }

    /// Forgets a place, unless it was evicted before.
    fn remove(&mut self, source: IpAddr, id: u64) -> Option<Arc<Notify>> {
        let held = self.by_source.get_mut(&source)?;
        let evicted = held.remove(&id)?;
        if held.is_empty() {
            self.by_source.remove(&source);
        }
        self.count -= 1;
        Some(evicted)
    }
}

/// Which addresses count as one client: each of IPv4, and of IPv6 the /64 that one subscriber has.
fn source(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    id: u64,
    source: IpAddr,
    evicted: Arc<Notify>,
    places: Arc<Places>,
}

impl Place {
    /// Ends when the place is needed for another client: the connection is to be closed.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().remove(self.source, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_evicted(place: &Place) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(place.evicted())
            .poll(&mut context)
            .is_ready()
    }

    #[test]
    fn t26_the_oldest_place_of_the_busiest_source_gives_way() {
        let places = Places::new(4);
        let far = places.take(address("192.0.2.1"));
        let near: Vec<Place> = (0..3).map(|_| places.take(address("127.0.0.1"))).collect();
        let other = places.take(address("192.0.2.2"));
        assert!(is_evicted(&near[0]));
        assert!(!is_evicted(&far), "the oldest of all, but alone");
        for held in [&near[1], &near[2], &other] {
            assert!(!is_evicted(held));
        }
        drop(near);
        let fits = places.take(address("192.0.2.1"));
        assert!(
            !is_evicted(&far) && !is_evicted(&fits),
            "two places are free"
        );
    }

    #[test]
    fn t26_of_sources_with_as_many_places_the_oldest_gives_way() {
        let places = Places::new(2);
        let first = places.take(address("192.0.2.1"));
        let second = places.take(address("192.0.2.2"));
        let third = places.take(address("192.0.2.3"));
        assert!(is_evicted(&first));
        assert!(!is_evicted(&second) && !is_evicted(&third));
    }

    #[test]
    fn t26_the_addresses_of_one_ipv6_network_are_one_source() {
        let places = Places::new(3);
        let alone = places.take(address("192.0.2.1"));
        let first = places.take(address("2001:db8::1"));
        let _second = places.take(address("2001:db8::ffff:0:0:2"));
        let _third = places.take(address("2001:db8:0:0:1::"));
        assert!(is_evicted(&first) && !is_evicted(&alone));
        assert_eq!(source(address("::ffff:192.0.2.1")), address("192.0.2.1"));
    }

    #[test]
    fn a_place_that_was_evicted_is_given_back_once() {
        let places = Places::new(1);
        let first = places.take(address("192.0.2.1"));
        assert!(places.evict() && !places.evict());
        drop(first);
        let second = places.take(address("192.0.2.1"));
        assert!(!is_evicted(&second));
        assert_eq!(places.taken().count, 1);
        drop(second);
        assert!(places.taken().by_source.is_empty());
    }
}
