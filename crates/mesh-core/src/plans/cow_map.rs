//! A map that is read without a lock, and copied in small parts when it is written.
//!
//! Readers load one bucket and look through its few entries. A writer replaces one bucket by a
//! copy, so that what a new entry costs does not grow with the map. Writers take turns by
//! themselves.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use arc_swap::ArcSwapOption;
use foldhash::fast::RandomState;

/// With ten thousand entries a bucket has twenty.
const BUCKETS: usize = 512;

type Bucket<K, V> = ArcSwapOption<Vec<(K, V)>>;

/// A map that is read without a lock.
#[derive(Debug)]
pub(super) struct CowMap<K, V> {
    hasher: RandomState,
    buckets: Box<[Bucket<K, V>]>,
}

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            buckets: (0..BUCKETS).map(|_| Bucket::empty()).collect(),
        }
    }
}

impl<K: Clone + Eq, V: Clone> CowMap<K, V> {
    /// What `of` makes of the value of `key`.
    pub(super) fn get<Q, R>(&self, key: &Q, of: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Eq + Hash + ?Sized,
        K: Borrow<Q>,
    {
        let bucket = self.bucket(key).load();
        let mut entries = bucket.as_deref()?.iter();
        let (_, value) = entries.find(|(known, _)| known.borrow() == key)?;
        Some(of(value))
    }

    /// Adds an entry under a key that has none.
    pub(super) fn insert(&self, key: K, value: V)
    where
        K: Hash,
    {
        let bucket = self.bucket(&key);
        let mut entries = bucket.load().as_deref().cloned().unwrap_or_default();
        entries.push((key, value));
        bucket.store(Some(entries.into()));
    }

    /// Removes the entry of `key`.
    pub(super) fn remove<Q>(&self, key: &Q)
    where
        Q: Eq + Hash + ?Sized,
        K: Borrow<Q>,
    {
        let bucket = self.bucket(key);
        let mut entries = bucket.load().as_deref().cloned().unwrap_or_default();
        entries.retain(|(known, _)| known.borrow() != key);
        bucket.store((!entries.is_empty()).then(|| entries.into()));
    }

    fn bucket<Q: Hash + ?Sized>(&self, key: &Q) -> &Bucket<K, V> {
        let hash = self.hasher.hash_one(key) % BUCKETS as u64;
        let place = usize::try_from(hash).expect("there are few buckets");
        &self.buckets[place]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn whatever_is_written_it_reads_as_a_map_does() {
        let map = CowMap::<Arc<str>, usize>::default();
        let mut model = BTreeMap::new();
        let mut random = fastrand::Rng::with_seed(7);
        for step in 0..20_000 {
            let key = random.usize(..2_000).to_string();
            match model.remove(&key) {
                Some(value) if random.bool() => {
                    map.remove(key.as_str());
                    assert_eq!(map.get(key.as_str(), |value| *value), None, "{value}");
                }
                Some(value) => {
                    assert_eq!(map.get(key.as_str(), |value| *value), Some(value));
                    model.insert(key, value);
                }
                None => {
                    map.insert(key.as_str().into(), step);
                    model.insert(key, step);
                }
            }
        }
        for (key, value) in &model {
            assert_eq!(map.get(key.as_str(), |value| *value), Some(*value));
        }
        let kept: usize = map
            .buckets
            .iter()
            .map(|b| b.load().as_ref().map_or(0, |b| b.len()))
            .sum();
        assert_eq!(kept, model.len());
    }

    #[test]
    fn a_new_entry_copies_a_small_part_however_many_there_are() {
        let map = CowMap::<Arc<str>, ()>::default();
        for number in 0..10_000 {
            map.insert(number.to_string().into(), ());
        }
        let longest = map
            .buckets
            .iter()
            .map(|b| b.load().as_ref().map_or(0, |b| b.len()))
            .max();
        assert!(longest < Some(60), "{longest:?} entries are copied for one");
    }
}
