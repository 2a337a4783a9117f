//! Whatever is written: an answer, and never a panic, a loop or an overflow.

use proptest::prelude::*;

use super::*;

#[test]
fn c06_bombs_are_defused_and_duplicate_keys_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [below.as_str(); 10].join(", ")
        ));
    }
    assert!(problems(&bomb)[0].contains("too large or too complex"));
    let block: String = (0..10_000)
        .map(|n: usize| format!("{}a:\n", " ".repeat(n.min(100))))
        .collect();
    for nested in [
        "[".repeat(10_000),
        "{a: ".repeat(10_000),
        "- ".repeat(10_000),
        block,
    ] {
        assert_eq!(problems(&nested).len(), 1);
    }
    let documents = problems(&"---\na: b\n".repeat(6_000));
    assert!(documents[0].contains("too large"), "{documents:?}");
    let twice = problems("a: 1\na: 2\n");
    assert!(
        twice.len() == 1 && twice[0].contains("duplicate"),
        "{twice:?}"
    );
    let huge = format!("a: {}", "x".repeat(MOST_BYTES));
    assert!(problems(&huge)[0].contains("write at most 16777216"));
}

/// A test's thread has the 2 MiB of a runtime's, so that this shows that the stack is enough.
#[test]
fn c06_the_deepest_document_that_is_read_fits_the_stack() {
    let deepest = |count: usize| {
        let nested: String = (0..count)
            .map(|n| format!("{}a:\n", " ".repeat(n)))
            .collect();
        problems(&nested)
    };
    assert!(deepest(MOST_DEPTH)[0].contains("apiVersion: is missing"));
    assert!(deepest(MOST_DEPTH + 1)[0].contains("too large or too complex"));
}

#[test]
fn c06_a_file_of_nothing_but_mistakes_is_told_in_a_bounded_number_of_them() {
    let fields: String = (0..5_000).map(|n| format!("k{n}: 1\n")).collect();
    let text = format!(
        "{}{fields}",
        document("v1 Service", "{ ports: [{ port: 1 }] }")
    );
    assert_eq!(problems(&text).len(), 200);

    let identities = vec!["NOBODY"; 900].join(", ");
    let spec = format!("{{ identities: [{identities}] }}");
    let text = document("policy.linkerd.io/v1alpha1 MeshTLSAuthentication", &spec);
    assert_eq!(problems(&text).len(), 200);
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let word = prop_oneof![
        Just("apiVersion".to_owned()),
        Just("kind".to_owned()),
        Just("metadata".to_owned()),
        Just("spec".to_owned()),
        Just("v1".to_owned()),
        Just("Service".to_owned()),
        "[a-z]{0,6}",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        word.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn pointers(json: &serde_json::Value, at: String, found: &mut Vec<String>) {
    match json {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{at}/{name}"), found);
            }
        }
        serde_json::Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        drop(parse_yaml("any.yaml", &text));
    }

    /// Random text is refused at its first line; a wound in good text is read deeply.
    #[test]
    fn no_wound_in_good_text_makes_it_panic(from in 0..EVERYDAY.len(), cut in 0_usize..40, put in "[-a-z0-9:{}\\[\\]&*!|>'\"#%@,? \n]{0,8}") {
        let until = (from + cut).min(EVERYDAY.len());
        let wounded = format!("{}{put}{}", &EVERYDAY[..from], &EVERYDAY[until..]);
        match parse_yaml("wounded.yaml", &wounded) {
            Ok(parsed) => for manifest in parsed.manifests {
                let again = parse_json(&manifest.raw).expect("what YAML took, JSON takes");
                prop_assert_eq!(again.spec, manifest.spec);
            },
            Err(Problems(problems)) => prop_assert!(!problems.is_empty()),
        }
    }

    /// Any value in the place of any other: read, or refused with a problem.
    #[test]
    fn no_foreign_value_in_a_good_object_makes_it_panic(object in 0_usize..6, place in any::<prop::sample::Index>(), value in any_json()) {
        let mut raw = parse_yaml("everyday.yaml", EVERYDAY).expect("good").manifests[object].raw.clone();
        let mut places = Vec::new();
        pointers(&raw, String::new(), &mut places);
        *raw.pointer_mut(&places[place.index(places.len())]).expect("it is there") = value;
        if let Err(Problems(problems)) = parse_json(&raw) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn no_json_makes_it_panic(json in any_json()) {
        drop(parse_json(&json));
    }
}
