//! Which workloads an object is about, by their labels.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::{At, each};
use super::meta::labels;

/// All of its requirements must hold; one without any selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    labels: BTreeMap<String, String>,
    expressions: Vec<Expression>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Expression {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// Selects what carries all of these labels.
    #[must_use]
    pub fn of_labels(labels: BTreeMap<String, String>) -> Self {
        Self {
            labels,
            expressions: Vec::new(),
        }
    }

    /// Selects nothing at all.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            labels: BTreeMap::new(),
            expressions: vec![Expression {
                key: String::new(),
                operator: Operator::In,
                values: BTreeSet::new(),
            }],
        }
    }

    /// Whether something with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |(key, value)| labels.get(key) == Some(value);
        self.labels.iter().all(has) && self.expressions.iter().all(|e| e.holds(labels))
    }

    /// Whether something with these labels and perhaps more is selected; `None` if that
    /// depends on what more there is.
    #[must_use]
    pub fn matches_with_more(&self, labels: &BTreeMap<String, String>) -> Option<bool> {
        let equal = self.labels.iter().map(|(key, value)| {
            let found = labels.get(key)?;
            Some(found == value)
        });
        let expressed = self.expressions.iter();
        let expressed = expressed.map(|e| labels.contains_key(&e.key).then(|| e.holds(labels)));
        let mut selected = Some(true);
        for known in equal.chain(expressed) {
            match known {
                Some(true) => {}
                Some(false) => return Some(false),
                None => selected = None,
            }
        }
        selected
    }

    /// Labels that are selected, as few as that takes; `None` if no labels are.
    #[must_use]
    pub fn example(&self) -> Option<BTreeMap<String, String>> {
        let mut labels = self.labels.clone();
        for one in &self.expressions {
            let value = match one.operator {
                Operator::In => one.values.first().cloned(),
                Operator::Exists => Some(String::new()),
                Operator::NotIn | Operator::DoesNotExist => None,
            };
            if let Some(value) = value {
                labels.entry(one.key.clone()).or_insert(value);
            }
        }
        self.matches(&labels).then_some(labels)
    }
}

impl Expression {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

const MOST_EXPRESSIONS: usize = 64;
const MOST_VALUES: usize = 256;

/// Kubernetes' `LabelSelector`.
pub(super) fn read(at: &At<'_>) -> Option<LabelSelector> {
    let mut fields = at.fields();
    let labels = fields.narrowing("matchLabels").map(|at| labels(&at));
    let expressions = fields.items("matchExpressions", MOST_EXPRESSIONS);
    fields.finish();
    Some(LabelSelector {
        labels: labels.unwrap_or_default(),
        expressions: each(&expressions, expression)?,
    })
}

fn expression(at: &At<'_>) -> Option<Expression> {
    let mut fields = at.fields();
    let key = fields.need("key", "name a label").and_then(|at| at.text());
    let operator = fields.need("operator", "write In, NotIn, Exists or DoesNotExist");
    let operator = operator.and_then(|at| {
        at.one_of(&[
            ("In", Operator::In),
            ("NotIn", Operator::NotIn),
            ("Exists", Operator::Exists),
            ("DoesNotExist", Operator::DoesNotExist),
        ])
    });
    let values = fields.items("values", MOST_VALUES);
    fields.finish();
    let values = each(&values, |at| at.text().map(ToOwned::to_owned));
    let (key, operator, values) = (key?.to_owned(), operator?, values?);
    let compares = matches!(operator, Operator::In | Operator::NotIn);
    if compares == values.is_empty() {
        return at.refuse(
            "the operator and the values do not fit",
            "give In and NotIn values, and Exists and DoesNotExist none",
        );
    }
    Some(Expression {
        key,
        operator,
        values: values.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_more_labels_could_change_is_not_known() {
        let one = |operator| Expression {
            key: "tier".into(),
            operator,
            values: ["a".to_owned()].into(),
        };
        let equal = LabelSelector::of_labels([("tier".to_owned(), "a".to_owned())].into());
        let expressed = [
            Operator::In,
            Operator::NotIn,
            Operator::Exists,
            Operator::DoesNotExist,
        ];
        let expressed = expressed.map(|operator| LabelSelector {
            labels: BTreeMap::new(),
            expressions: vec![one(operator)],
        });
        for selector in [equal].iter().chain(&expressed) {
            assert_eq!(selector.matches_with_more(&BTreeMap::new()), None);
            for value in ["a", "b"] {
                let labels = BTreeMap::from([("tier".to_owned(), value.to_owned())]);
                let known = Some(selector.matches(&labels));
                assert_eq!(selector.matches_with_more(&labels), known, "{selector:?}");
            }
            let labels = selector.example().unwrap();
            assert!(selector.matches(&labels), "{selector:?}: {labels:?}");
        }
        let everything = LabelSelector::default();
        assert_eq!(everything.matches_with_more(&BTreeMap::new()), Some(true));
    }

    #[test]
    fn each_operator_is_that_of_kubernetes() {
        let holds = |operator, value: Option<&str>| {
            let one = Expression {
                key: "tier".into(),
                operator,
                values: ["a".to_owned(), "b".to_owned()].into(),
            };
            let labels = value.map(|value| ("tier".to_owned(), value.to_owned()));
            one.holds(&labels.into_iter().collect())
        };
        // With a listed value, with another one, and without the label.
        let table = [
            (Operator::In, [true, false, false]),
            (Operator::NotIn, [false, true, true]),
            (Operator::Exists, [true, true, false]),
            (Operator::DoesNotExist, [false, false, true]),
        ];
        for (operator, expected) in table {
            let found = [Some("a"), Some("c"), None].map(|value| holds(operator, value));
            assert_eq!(found, expected, "{operator:?}");
        }
    }
}
