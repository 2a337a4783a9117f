//! Outcomes as they are kept: a count, and the buckets of their latencies in few bytes.
//!
//! Most buckets that hold anything lie close together and hold little. So each is written as the
//! distance from the bucket before and its count, seven bits a byte (LEB128): about two and a
//! half bytes, where a tree takes forty.

use mesh_policy::report::latency::Latencies;
use mesh_policy::report::traffic::Outcomes;

/// How many bytes a bucket takes at most: three for a distance, ten for a count.
pub(super) const MAX_BUCKET_BYTES: usize = 13;

/// Requests that ended alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed {
    count: u64,
    latency: Box<[u8]>,
}

impl Packed {
    /// How many requests there are.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// How many bytes it has beside itself.
    pub(super) const fn heap_bytes(&self) -> usize {
        self.latency.len()
    }

    /// Adds others.
    pub(super) fn add(&mut self, outcomes: &Outcomes) {
        self.count = self.count.saturating_add(outcomes.count);
        if outcomes.latency != Latencies::default() {
            let mut latency = self.latency();
            latency.merge(&outcomes.latency);
            self.latency = pack(&latency);
        }
    }

    /// Adds another.
    pub(super) fn merge(&mut self, other: &Self) {
        self.add(&Outcomes {
            count: other.count,
            latency: other.latency(),
        });
    }

    /// The latencies of those that had an answer.
    pub(super) fn latency(&self) -> Latencies {
        let mut latency = Latencies::default();
        let mut rest = &*self.latency;
        let mut bucket = 0;
        while !rest.is_empty() {
            let (distance, count) = (read(&mut rest), read(&mut rest));
            bucket += usize::try_from(distance).expect("a distance is below the number of buckets");
            latency.add(bucket, count);
        }
        latency
    }
}

fn pack(latency: &Latencies) -> Box<[u8]> {
    let mut bytes = Vec::new();
    let mut last = 0;
    for (bucket, count) in latency.buckets() {
        write(&mut bytes, u64::from(bucket - last));
        write(&mut bytes, count);
        last = bucket;
    }
    bytes.into()
}

fn write(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits fit");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn read(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    let mut shift = 0;
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use mesh_policy::report::latency::BUCKETS;
    use proptest::prelude::*;

    use super::*;

    fn outcomes(counts: &[(usize, u64)]) -> Outcomes {
        let mut latency = Latencies::default();
        for (bucket, count) in counts {
            latency.add(*bucket, *count);
        }
        Outcomes {
            count: latency.count(),
            latency,
        }
    }

    #[test]
    fn what_is_packed_is_small() {
        let near: Vec<_> = (100..130).map(|bucket| (bucket, 90)).collect();
        let mut packed = Packed::default();
        packed.add(&outcomes(&near));
        assert_eq!(packed.heap_bytes(), 60);
        let widest = outcomes(&[(BUCKETS - 1, u64::MAX)]);
        let mut packed = Packed::default();
        packed.add(&widest);
        assert!(packed.heap_bytes() <= MAX_BUCKET_BYTES);
        assert_eq!(packed.latency(), widest.latency);
    }

    proptest! {
        #[test]
        fn packing_and_adding_loses_nothing(
            one in prop::collection::vec((0..BUCKETS, 1..u64::from(u32::MAX)), 0..40),
            two in prop::collection::vec((0..BUCKETS, 1..u64::from(u32::MAX)), 0..40),
        ) {
            let (one, two) = (outcomes(&one), outcomes(&two));
            let mut packed = Packed::default();
            packed.add(&one);
            let mut other = Packed::default();
            other.add(&two);
            packed.merge(&other);
            let mut sum = one;
            sum.merge(&two);
            prop_assert_eq!(packed.count(), sum.count);
            prop_assert_eq!(packed.latency(), sum.latency);
        }
    }
}
