use proptest::prelude::*;

use super::*;

fn policy(plan: &RetryPlan) -> RetryPolicy {
    RetryPolicy::from(Some(plan))
}

/// Two retries of 5xx, and of gRPC's UNAVAILABLE.
fn plan() -> RetryPlan {
    RetryPlan {
        attempts: 2,
        codes: vec![StatusRange { from: 500, to: 599 }],
        grpc: vec![14],
        ..RetryPlan::default()
    }
}

const fn answered(status: u16) -> Outcome {
    Outcome::Answered { status, grpc: None }
}

const fn facts(outcome: Outcome) -> Facts<'static> {
    Facts {
        method: &Method::GET,
        call: CallKind::Http,
        outcome,
        replay: Replay::Possible,
        tries: Tries {
            retries: 0,
            unprocessed: 0,
        },
        pushback: None,
        left: None,
    }
}

const fn post(outcome: Outcome) -> Facts<'static> {
    Facts {
        method: &Method::POST,
        ..facts(outcome)
    }
}

const fn grpc(outcome: Outcome) -> Facts<'static> {
    Facts {
        call: CallKind::Grpc,
        ..post(outcome)
    }
}

const UNPROCESSED: [Failure; 3] = [Failure::Connect, Failure::Refused, Failure::GoAway];

fn decide(policy: &RetryPolicy, facts: &Facts<'_>) -> Decision {
    policy.decide(facts, Draw(0))
}

/// `Ok` with the wait in milliseconds, or why not.
fn after(policy: &RetryPolicy, facts: &Facts<'_>) -> Result<u128, Decision> {
    match decide(policy, facts) {
        Decision::Retry(retry) => Ok(retry.after.as_millis()),
        other => Err(other),
    }
}

#[test]
fn p09_what_no_server_processed_is_sent_again_whatever_it_is() {
    for failure in UNPROCESSED {
        let decision = decide(&RetryPolicy::default(), &post(Outcome::Failed(failure)));
        let retry = Retry {
            after: Duration::ZERO,
            charge: Charge::Free,
            tries: Tries {
                retries: 0,
                unprocessed: 1,
            },
        };
        assert_eq!(decision, Decision::Retry(retry), "{failure:?}");
    }
}

#[test]
fn p09_it_is_sent_again_three_times_and_a_refused_one_is_free_once() {
    for failure in UNPROCESSED {
        let of = |unprocessed| Facts {
            tries: Tries {
                retries: 9,
                unprocessed,
            },
            ..post(Outcome::Failed(failure))
        };
        let charges = [0, 1, 2].map(|earlier| {
            let decision = decide(&RetryPolicy::default(), &of(earlier));
            let Decision::Retry(retry) = decision else {
                panic!("{failure:?} {earlier} {decision:?}");
            };
            (retry.after.as_millis(), retry.charge)
        });
        let later = match failure {
            Failure::Refused => Charge::Budget,
            _ => Charge::Free,
        };
        assert_eq!(charges, [(0, Charge::Free), (25, later), (50, later)]);
        let last = decide(&RetryPolicy::default(), &of(MOST_UNPROCESSED));
        assert_eq!(last, Decision::Stop(Why::Limit));
    }
}

#[test]
fn p09_what_ended_its_connection_by_an_error_is_sent_again_once_and_charged() {
    let of = |unprocessed| Facts {
        tries: Tries {
            retries: 0,
            unprocessed,
        },
        ..facts(Outcome::Failed(Failure::GoAwayForError))
    };
    for policy in [RetryPolicy::default(), policy(&plan())] {
        let Decision::Retry(retry) = decide(&policy, &of(0)) else {
            panic!("it may be no fault of the request");
        };
        assert_eq!(
            (retry.after, retry.charge),
            (Duration::ZERO, Charge::Budget)
        );
        assert_eq!(decide(&policy, &of(1)), Decision::Stop(Why::Limit));
    }
}

#[test]
fn without_a_policy_nothing_that_a_server_saw_is_tried_again() {
    let none = RetryPolicy::default();
    for outcome in [
        answered(503),
        Outcome::Failed(Failure::Reset),
        Outcome::Failed(Failure::Timeout),
    ] {
        let decision = decide(&none, &facts(outcome));
        assert_eq!(decision, Decision::Stop(Why::NoPolicy), "{outcome:?}");
    }
    assert_eq!(decide(&none, &facts(answered(200))), Decision::Keep);
    assert_eq!(decide(&none, &facts(answered(429))), Decision::Keep);
}

#[test]
fn listed_statuses_and_broken_tries_are_tried_again_and_charged() {
    let policy = policy(&plan());
    for outcome in [
        answered(500),
        answered(599),
        Outcome::Failed(Failure::Reset),
        Outcome::Failed(Failure::Timeout),
    ] {
        let Decision::Retry(retry) = decide(&policy, &facts(outcome)) else {
            panic!("{outcome:?}");
        };
        assert_eq!(retry.charge, Charge::Budget);
        assert_eq!(retry.tries.retries, 1);
        assert_eq!(retry.after, Duration::from_millis(25));
    }
    for status in [200, 404, 499] {
        assert_eq!(decide(&policy, &facts(answered(status))), Decision::Keep);
    }
    let other = RetryPlan {
        codes: vec![StatusRange { from: 503, to: 503 }],
        ..plan()
    };
    let decision = decide(&RetryPolicy::from(Some(&other)), &facts(answered(500)));
    assert_eq!(decision, Decision::Stop(Why::NotListed));
}

#[test]
fn p08_only_idempotent_methods_are_tried_again_unless_the_rule_allows_all() {
    let all = RetryPlan {
        methods: RetryMethods::All,
        ..plan()
    };
    for (method, idempotent) in [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::OPTIONS, true),
        (Method::PUT, true),
        (Method::DELETE, true),
        (Method::TRACE, true),
        (Method::POST, false),
        (Method::PATCH, false),
        (Method::from_bytes(b"MKCOL").unwrap(), false),
    ] {
        let facts = Facts {
            method: &method,
            ..facts(answered(503))
        };
        let expected = if idempotent {
            Ok(25)
        } else {
            Err(Decision::Stop(Why::Method))
        };
        assert_eq!(after(&policy(&plan()), &facts), expected, "{method}");
        assert_eq!(after(&policy(&all), &facts), Ok(25), "{method}");
    }
}

#[test]
fn a_listed_grpc_status_allows_its_calls_though_each_is_a_post() {
    let policy = policy(&plan());
    let code = |code| {
        grpc(Outcome::Answered {
            status: 200,
            grpc: Some(code),
        })
    };
    assert_eq!(after(&policy, &code(14)), Ok(25));
    assert_eq!(decide(&policy, &code(0)), Decision::Keep);
    assert_eq!(decide(&policy, &code(13)), Decision::Stop(Why::NotListed));
    // What is no gRPC response, by gRPC's own mapping.
    assert_eq!(after(&policy, &grpc(answered(503))), Ok(25));
    assert_eq!(
        after(&policy, &grpc(answered(500))),
        Err(Decision::Stop(Why::Method))
    );
    assert_eq!(
        after(&policy, &grpc(Outcome::Failed(Failure::Reset))),
        Ok(25)
    );
    let timeout = grpc(Outcome::Failed(Failure::Timeout));
    assert_eq!(after(&policy, &timeout), Err(Decision::Stop(Why::Method)));
    // A status beside an HTTP response is none of gRPC's.
    let http = Facts {
        call: CallKind::Http,
        ..code(14)
    };
    assert_eq!(decide(&policy, &http), Decision::Stop(Why::NotListed));
}

#[test]
fn p08_a_lost_body_is_not_sent_again() {
    for (replay, why) in [
        (Replay::TooLarge, Why::BodyTooLarge),
        (Replay::Streaming, Why::BodyStreaming),
    ] {
        for outcome in [answered(503), Outcome::Failed(Failure::Refused)] {
            let facts = Facts {
                replay,
                ..facts(outcome)
            };
            assert_eq!(decide(&policy(&plan()), &facts), Decision::Stop(why));
        }
    }
}

#[test]
fn the_limit_counts_retries_and_the_wait_grows() {
    let policy = policy(&plan());
    let of = |retries| Facts {
        tries: Tries {
            retries,
            unprocessed: 3,
        },
        ..facts(answered(503))
    };
    assert_eq!(after(&policy, &of(0)), Ok(25));
    assert_eq!(after(&policy, &of(1)), Ok(50));
    assert_eq!(decide(&policy, &of(2)), Decision::Stop(Why::Limit));
    assert!(!policy.is_last(&of(1)) && policy.is_last(&of(2)));
    assert!(RetryPolicy::default().is_last(&of(0)));
    let lost = Facts {
        replay: Replay::TooLarge,
        ..of(0)
    };
    let post = Facts {
        method: &Method::POST,
        ..of(0)
    };
    assert!(policy.is_last(&lost) && policy.is_last(&post));
}

#[test]
fn o03_a_server_is_waited_for_or_left_alone() {
    let policy = policy(&plan());
    let asked = |pushback| Facts {
        pushback: Some(pushback),
        ..facts(answered(503))
    };
    let wait = |seconds| asked(Pushback::After(Duration::from_secs(seconds)));
    assert_eq!(after(&policy, &wait(2)), Ok(2_025));
    assert_eq!(decide(&policy, &wait(60)), Decision::Stop(Why::Pushback));
    let never = asked(Pushback::Never);
    assert_eq!(decide(&policy, &never), Decision::Stop(Why::Pushback));
}

#[test]
fn a_retry_that_would_come_too_late_is_none() {
    let policy = policy(&plan());
    let left = |millis| Facts {
        left: Some(Duration::from_millis(millis)),
        ..facts(answered(503))
    };
    assert_eq!(after(&policy, &left(26)), Ok(25));
    assert_eq!(decide(&policy, &left(25)), Decision::Stop(Why::Deadline));
    let over = Facts {
        left: Some(Duration::ZERO),
        ..facts(Outcome::Failed(Failure::Connect))
    };
    assert_eq!(decide(&policy, &over), Decision::Stop(Why::Deadline));
}

#[test]
fn every_reason_has_its_label() {
    let labels: std::collections::BTreeSet<_> = Why::ALL.map(Why::as_str).into();
    assert_eq!(labels.len(), Why::ALL.len());
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let failures = [
        Failure::Connect,
        Failure::Refused,
        Failure::GoAway,
        Failure::GoAwayForError,
        Failure::Reset,
        Failure::Timeout,
    ];
    prop_oneof![
        (100u16..600, prop::option::of(0u16..20))
            .prop_map(|(status, grpc)| Outcome::Answered { status, grpc }),
        prop::sample::select(failures.to_vec()).prop_map(Outcome::Failed),
    ]
}

proptest! {
    #[test]
    fn p08_whatever_happens_a_request_ends_within_its_tries(
        attempts in 0u32..5, outcomes in prop::collection::vec(outcome(), 20), seed: u64,
    ) {
        let plan = RetryPlan { attempts, methods: RetryMethods::All, ..plan() };
        let policy = policy(&plan);
        let mut tries = Tries::default();
        let mut sent = 1;
        for outcome in outcomes {
            let facts = Facts { tries, ..post(outcome) };
            let Decision::Retry(retry) = policy.decide(&facts, Draw(seed)) else { break };
            prop_assert!(retry.after <= Duration::from_millis(250));
            let more = retry.tries.retries + retry.tries.unprocessed;
            prop_assert_eq!(more, tries.retries + tries.unprocessed + 1);
            tries = retry.tries;
            sent += 1;
        }
        prop_assert!(sent <= 1 + attempts + MOST_UNPROCESSED);
    }
}
