//! What is kept of reports, for how long and at what cost.

use mesh_policy::report::traffic::{Direction, Flow};

use super::reporter::MAX_PER_SECOND;
use super::*;

const SLOT: Duration = window::SLOT;

fn statistics() -> Statistics {
    Statistics::new(Gauge::noop())
}

fn identity(account: &str) -> Identity {
    let text = format!("spiffe://mesh.local/ns/shop/sa/{account}");
    text.parse().unwrap()
}

fn web() -> Identity {
    identity("web")
}

fn flow(service: &str, count: u64) -> Flow {
    let mut flow = Flow::new(FlowKey {
        direction: Direction::Outbound,
        service: service.parse().unwrap(),
        backend: None,
        peer: None,
    });
    flow.success.count = count;
    flow
}

fn of(sequence: u64, flows: Vec<Flow>) -> Traffic {
    let source = "a".into();
    Traffic {
        source,
        sequence,
        flows,
    }
}

fn traffic(sequence: u64, service: &str) -> Traffic {
    of(sequence, vec![flow(service, 1)])
}

fn counted(statistics: &Statistics, seconds: u64) -> u64 {
    let mut sum = Sum::default();
    let window = Duration::from_secs(seconds);
    statistics.within(window, |_| true, |_, _, part| sum.merge(&part));
    sum.requests()
}

#[tokio::test(start_paused = true)]
async fn what_is_told_twice_counts_once() {
    let statistics = statistics();
    for sequence in [1, 1, 2, 1, 2] {
        statistics.add(&web(), traffic(sequence, "api.shop:80"), 1);
    }
    assert_eq!(counted(&statistics, 60), 2);
    let other = Traffic {
        source: "b".into(),
        ..traffic(1, "api.shop:80")
    };
    statistics.add(&web(), other, 1);
    assert_eq!(counted(&statistics, 60), 3);
}

#[tokio::test(start_paused = true)]
async fn a_window_holds_its_time_and_ten_minutes_at_most() {
    let statistics = statistics();
    for sequence in 1..=100 {
        statistics.add(&web(), traffic(sequence, "api.shop:80"), 1);
        tokio::time::advance(SLOT).await;
    }
    // The slot of this moment is empty yet.
    assert_eq!(counted(&statistics, 10), 1);
    assert_eq!(counted(&statistics, 60), 6);
    assert_eq!(counted(&statistics, 180), 18);
    assert_eq!(counted(&statistics, 600), 60);
    assert_eq!(counted(&statistics, 3_600), 60);
    tokio::time::advance(LONGEST + SLOT * 6).await;
    assert_eq!(counted(&statistics, 3_600), 0);
}

#[tokio::test(start_paused = true)]
async fn what_one_report_tells_is_in_the_window_of_that_time_whole() {
    let statistics = statistics();
    tokio::time::advance(Duration::from_secs(123)).await;
    let told = of(1, vec![flow("api.shop:80", 2_000)]);
    statistics.add(&web(), told, 1);
    for _ in 0..50 {
        assert_eq!(counted(&statistics, 60), 2_000);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    tokio::time::advance(Duration::from_secs(20)).await;
    assert_eq!(counted(&statistics, 60), 0);
    assert_eq!(counted(&statistics, 180), 2_000);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_believed_than_a_process_can_carry() {
    let statistics = statistics();
    let slot = MAX_PER_SECOND * SLOT.as_secs();
    let mut made_up = flow("api.shop:80", 0);
    made_up.failure.count = u64::MAX;
    assert_eq!(statistics.add(&web(), of(1, vec![made_up]), 1), 1);
    let most = of(
        2,
        vec![flow("api.shop:80", slot - 1), flow("api.shop:80", 2)],
    );
    assert_eq!(statistics.add(&web(), most, 1), 1);
    assert_eq!(counted(&statistics, 60), slot - 1);
    // Two processes carry twice as much; a slot later there is room again.
    let more = of(3, vec![flow("api.shop:80", slot)]);
    assert_eq!(statistics.add(&web(), more, 2), 0);
    tokio::time::advance(SLOT).await;
    let more = of(4, vec![flow("api.shop:80", slot)]);
    assert_eq!(statistics.add(&web(), more, 1), 0);
    // An answer has one latency.
    let mut unsound = flow("api.shop:80", 1);
    unsound.success.latency.add(3, 2);
    assert_eq!(statistics.add(&web(), of(5, vec![unsound]), 1), 1);
}

#[tokio::test(start_paused = true)]
async fn what_one_identity_reports_is_bounded_in_bytes_and_takes_nobody_elses_room() {
    let statistics = statistics();
    let (mut kept, mut dropped) = (0, 0);
    for number in 0..12_000 {
        let mut flow = flow("api.shop:80", 1);
        let peer = format!("spiffe://mesh.local/{number:0>1000}");
        flow.key.peer = Some(peer.parse().unwrap());
        match statistics.add(&web(), of(number + 1, vec![flow]), 1) {
            0 => kept += 1,
            _ => dropped += 1,
        }
    }
    assert!(kept > 4_000 && dropped > 4_000, "{kept} {dropped}");
    assert!(statistics.quota.kept() <= BYTES.one);
    let other = statistics.add(&identity("other"), traffic(1, "api.shop:80"), 1);
    assert_eq!(other, 0);
    // Once they are old, and nobody reports any more, nothing is left.
    tokio::time::advance(LONGEST + SLOT * 12).await;
    statistics.sweep();
    assert_eq!(statistics.quota.kept(), 0);
    assert!(lock(&statistics.reporters).is_empty());
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_of_fifty_flows_take_a_quarter_of_a_megabyte() {
    let statistics = statistics();
    for sequence in 1..=61 {
        let flows = (0..50).map(|number| {
            let mut flow = flow(&format!("s{number}.shop:80"), 300);
            for bucket in 0..30 {
                flow.success.latency.add(150 + bucket, 10);
            }
            flow
        });
        statistics.add(&web(), of(sequence, flows.collect()), 1);
        tokio::time::advance(SLOT).await;
    }
    assert_eq!(counted(&statistics, 600), 60 * 50 * 300);
    let kept = statistics.quota.kept();
    assert!(kept < 256 * 1024, "{kept}");
}

#[tokio::test(start_paused = true)]
async fn no_lock_is_held_while_sums_are_made() {
    let statistics = statistics();
    statistics.add(&web(), traffic(1, "api.shop:80"), 1);
    let mut sequence = 1;
    let window = Duration::from_secs(60);
    let report_meanwhile = |_: &Identity, _: &FlowKey, _| {
        sequence += 1;
        statistics.add(&web(), traffic(sequence, "api.shop:80"), 1);
    };
    statistics.within(window, |_| true, report_meanwhile);
    assert_eq!(counted(&statistics, 60), 2);
}
