//! Where requests to one service go.

use serde::{Deserialize, Serialize};

pub use super::filter::{FilterPlan, HeaderEditPlan, HeaderValuePlan, PathEditPlan, RedirectPlan};
pub use super::matching::{FieldPlan, MatchPlan, PathPlan, ValuePlan};
use super::part::Part;
pub use super::resilience::{BudgetPlan, RetryMethods, RetryPlan, StatusRange, TimeoutsPlan};
use crate::name::{ObjectRef, ServicePort};

/// All that a client needs to know of a service, but for its endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Its logical ports, in ascending order.
    pub ports: Vec<PortPlan>,
    /// How much its callers may add by retries; absent means the default.
    /// A reader that lacks this retries nothing either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetPlan>,
}

/// The routes of one logical port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    /// The logical port.
    pub port: u16,
    /// The routes that govern it, oldest first, then by name. Never empty: where
    /// nobody wrote one, the built-in `default` sends everything to the service itself.
    /// One that is not understood closes the port.
    pub routes: Vec<Part<RoutePlan>>,
}

/// One route, from one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutePlan {
    /// The object that people wrote.
    pub source: ObjectRef,
    /// Its rules in their written order.
    pub rules: Vec<RulePlan>,
}

/// What happens to the requests that match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulePlan {
    /// The rule's name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any of these selects the rule; none at all selects everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<MatchPlan>,
    /// What is done on the way, whichever backend is chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterPlan>,
    /// Where matching requests go, by weight.
    pub backends: Vec<BackendPlan>,
    /// How long things may take.
    #[serde(default, skip_serializing_if = "TimeoutsPlan::is_empty")]
    pub timeouts: TimeoutsPlan,
    /// What is tried again; absent means only what no server ever processed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPlan>,
}

impl RoutePlan {
    /// The route as it travels: it requires every feature that it uses, so that a
    /// reader which lacks one closes the port instead of doing half.
    #[must_use]
    pub fn into_part(self) -> Part<Self> {
        let uses = |feature: fn(&RulePlan) -> bool| self.rules.iter().any(feature);
        let features = [
            ("route/1", true),
            ("filters/1", uses(RulePlan::has_filters)),
            (
                "query/1",
                uses(|rule| rule.matches.iter().any(MatchPlan::has_query)),
            ),
            (
                "regex/1",
                uses(|rule| rule.matches.iter().any(MatchPlan::has_regex)),
            ),
            ("retry/1", uses(|rule| rule.retry.is_some())),
            ("timeouts/1", uses(|rule| rule.timeouts.is_beyond_request())),
        ];
        let required = features.into_iter().filter(|(_, used)| *used);
        let requires = required.map(|(name, _)| name.to_owned()).collect();
        Part::Understood {
            requires,
            body: self,
        }
    }
}

impl RulePlan {
    fn has_filters(&self) -> bool {
        let of_backends = self.backends.iter().any(|one| !one.filters.is_empty());
        !self.filters.is_empty() || of_backends
    }
}

/// One place a rule sends to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendPlan {
    /// Its share of the rule's requests is this over the sum; 0 gets none.
    pub weight: u32,
    /// Where that share goes.
    pub target: TargetPlan,
    /// What is done on the way to this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FilterPlan>,
}

/// A backend that can be called, or why it cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TargetPlan {
    /// A port of a service; its endpoints travel as events of their own.
    Service(ServicePort),
    /// Its share is answered 500, as Gateway API says.
    Invalid {
        /// The backend as it was written, `name.namespace`.
        name: String,
        /// Gateway API's reason, such as `BackendNotFound`.
        reason: String,
        /// What is wrong, and the remedy.
        message: String,
    },
}
