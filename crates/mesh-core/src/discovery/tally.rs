//! Traffic on its way to discovery: taken once, told until it is acknowledged.

use std::time::Duration;

use mesh_policy::report::traffic::Traffic;
use tokio::time::Instant;

use crate::telemetry::Recorder;

/// Flows of one report, so that it stays below what discovery reads at once.
const MAX_FLOWS: usize = 100;
/// How often something new is taken: changes of plans are told at once, counts need not be.
const INTERVAL: Duration = Duration::from_secs(4);

/// What discovery has not been told of the traffic.
#[derive(Debug)]
pub(super) struct Tally {
    recorder: Recorder,
    source: String,
    sequence: u64,
    /// Taken, and not acknowledged.
    pending: Option<Traffic>,
    taken: Option<Instant>,
}

impl Tally {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            source: format!("{:032x}", fastrand::u128(..)),
            sequence: 0,
            pending: None,
            taken: None,
        }
    }

    /// What is to be told now: what was not acknowledged, else what is new.
    pub(super) fn told(&mut self) -> Option<&Traffic> {
        let due = self.taken.is_none_or(|taken| taken.elapsed() >= INTERVAL);
        if due {
            return self.take();
        }
        self.pending.as_ref()
    }

    /// The same, however short ago something was taken.
    pub(super) fn take(&mut self) -> Option<&Traffic> {
        if self.pending.is_none() {
            let flows = self.recorder.ledger().take(MAX_FLOWS);
            if !flows.is_empty() {
                self.sequence += 1;
                self.taken = Some(Instant::now());
                self.pending = Some(Traffic {
                    source: self.source.clone(),
                    sequence: self.sequence,
                    flows,
                });
            }
        }
        self.pending.as_ref()
    }

    /// What is to be reported next, and whether that is all that was counted until now.
    pub(super) fn take_rest(&mut self) -> (Option<Traffic>, bool) {
        let is_new = self.pending.is_none();
        let traffic = self.take().cloned();
        let flows = traffic.as_ref().map_or(0, |traffic| traffic.flows.len());
        (traffic, is_new && flows < MAX_FLOWS)
    }

    /// Discovery has what it was told.
    pub(super) fn acknowledged(&mut self) {
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use mesh_policy::classify::Classification;
    use mesh_policy::report::traffic::{Direction, FlowKey};

    use super::*;
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_flush_ends_with_what_was_counted_until_it_began() {
        let recorder = Recorder::new(Metrics::Own).unwrap();
        let key = FlowKey {
            direction: Direction::Outbound,
            service: "api.shop:80".parse().unwrap(),
            backend: None,
            peer: None,
        };
        let flow = recorder.ledger().flow(key).unwrap();
        let mut tally = Tally::new(recorder);
        flow.count(Classification::Success, None);
        drop(tally.take().cloned());
        flow.count(Classification::Success, None);
        let (unacknowledged, is_rest) = tally.take_rest();
        assert!(
            unacknowledged.is_some() && !is_rest,
            "more was counted since"
        );
        tally.acknowledged();
        let (rest, is_rest) = tally.take_rest();
        assert!(rest.is_some() && is_rest);
        // Traffic that goes on does not make the flush go on.
        flow.count(Classification::Success, None);
        tally.acknowledged();
        assert_eq!(tally.take().unwrap().sequence, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_acknowledged_is_told_again_under_its_number() {
        let recorder = Recorder::new(Metrics::Own).unwrap();
        let key = FlowKey {
            direction: Direction::Inbound,
            service: "api.shop:80".parse().unwrap(),
            backend: None,
            peer: None,
        };
        let flow = recorder.ledger().flow(key).unwrap();
        let mut tally = Tally::new(recorder.clone());
        assert_eq!(tally.told(), None);
        flow.count(Classification::Success, None);
        let first = tally.told().unwrap().clone();
        assert_eq!((first.sequence, first.flows[0].success.count), (1, 1));
        flow.count(Classification::Success, None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(tally.told(), Some(&first));
        tally.acknowledged();
        let second = tally.told().unwrap();
        assert_eq!((second.sequence, second.flows[0].success.count), (2, 1));
    }
}
