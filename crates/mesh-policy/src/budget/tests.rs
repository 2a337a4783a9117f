use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "a test may start its own clock")]
fn start() -> Instant {
    Instant::now()
}

fn limits(ratio_per_mille: u32, min_per_second: u32, seconds: u64) -> BudgetLimits {
    BudgetLimits::from(Some(BudgetPlan {
        ratio_per_mille,
        min_per_second,
        window_ms: seconds * 1_000,
    }))
}

/// How many of `wanted` retries are granted at `now`.
fn granted(budget: &Budget, wanted: u32, now: Instant) -> u32 {
    let grants = (0..wanted).filter(|_| budget.withdraw(now));
    u32::try_from(grants.count()).unwrap()
}

#[test]
fn a_fifth_of_the_requests_and_a_floor_are_granted() {
    let now = start();
    let budget = Budget::new(BudgetLimits::default(), now);
    assert_eq!(
        granted(&budget, 1_000, now),
        100,
        "the floor of ten seconds"
    );
    for _ in 0..50 {
        budget.deposit(now);
    }
    assert_eq!(granted(&budget, 1_000, now), 10, "a fifth of 50");
}

#[test]
fn requests_and_retries_are_forgotten_after_the_window() {
    let now = start();
    let budget = Budget::new(limits(1_000, 1, 10), now);
    for _ in 0..20 {
        budget.deposit(now);
    }
    let at = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(granted(&budget, 100, at(9)), 30);
    assert_eq!(
        granted(&budget, 100, at(10)),
        0,
        "both are still in the ring"
    );
    assert_eq!(
        granted(&budget, 100, at(12)),
        0,
        "the requests are gone first"
    );
    assert_eq!(
        granted(&budget, 100, at(20)),
        10,
        "a window after the retries"
    );
}

#[test]
fn nothing_permitted_is_nothing_granted() {
    let now = start();
    let budget = Budget::new(limits(0, 0, 10), now);
    budget.deposit(now);
    assert!(!budget.withdraw(now));
}

#[test]
fn a_budget_that_was_idle_for_long_grants_as_a_new_one() {
    let now = start();
    let budget = Budget::new(BudgetLimits::default(), now);
    for _ in 0..1_000 {
        budget.deposit(now);
    }
    let hour = Duration::from_secs(3_600);
    for days in [1, 7, 13, 100, 400] {
        let later = now + hour * 24 * days + hour;
        assert_eq!(granted(&budget, 1_000, later), 100, "after {days} days");
        budget.deposit(later);
    }
}

#[test]
fn a_thread_whose_clock_is_behind_counts_all_the_same() {
    let now = start();
    let budget = Budget::new(limits(1_000, 0, 10), now);
    let later = now + Duration::from_secs(15);
    for _ in 0..10 {
        budget.deposit(later);
    }
    budget.deposit(now + Duration::from_secs(4));
    assert_eq!(granted(&budget, 100, later), 11);
    assert_eq!(granted(&budget, 100, later - Duration::from_secs(2)), 0);
}

#[test]
fn o01_threads_together_are_granted_no_more_than_one() {
    let now = start();
    let budget = Budget::new(limits(100, 10, 10), now);
    for _ in 0..1_000 {
        budget.deposit(now);
    }
    let grants: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| granted(&budget, 1_000, now)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert!(grants <= 200, "{grants}");
    assert_eq!(grants + granted(&budget, 1_000, now), 200);
}

proptest! {
    /// Every request fails and asks for five retries. The bound holds from any moment on.
    #[test]
    fn o01_attempts_stay_within_the_ratio_and_the_floor(
        ratio in 0u32..1_000, floor in 0u32..30, seconds in 1u64..20,
        bursts in prop::collection::vec((0u64..4_000, 0u32..60), 1..60),
    ) {
        let limits = limits(ratio, floor, seconds);
        let begun = start();
        let budget = Budget::new(limits, begun);
        let mut now = begun;
        let mut seen: Vec<(Instant, u64, u64)> = Vec::new();
        for (millis, requests) in bursts {
            now += Duration::from_millis(millis);
            for _ in 0..requests {
                budget.deposit(now);
            }
            let retries = granted(&budget, requests * 5, now);
            seen.push((now, requests.into(), retries.into()));
        }
        for from in 0..seen.len() {
            // A retry may be paid for by requests of up to a ring before.
            let reach = Duration::from_millis(seconds * 1_100);
            let paying = seen.iter().filter(|(at, ..)| *at + reach >= seen[from].0);
            let requests: u64 = paying.map(|(_, requests, _)| requests).sum();
            let retries: u64 = seen[from..].iter().map(|(.., retries)| retries).sum();
            let took = now - seen[from].0 + Duration::from_secs(seconds);
            let most = u128::from(requests) * u128::from(ratio)
                + u128::from(floor) * took.as_millis();
            prop_assert!(u128::from(retries) * 1_000 <= most, "{retries} of {requests} in {took:?}");
        }
    }
}
