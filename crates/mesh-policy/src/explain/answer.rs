//! What an explanation says, in the form that `mesh explain -o json` prints.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::name::ObjectRef;
use crate::plan::outbound::{HeaderValuePlan, RetryPlan, TimeoutsPlan};

/// Why a request goes where it goes, and whether it may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The service and port that were asked for.
    pub to: String,
    /// What becomes of the request.
    pub outcome: Outcome,
    /// The route that governs; `None` where nobody wrote one, or none matches.
    pub route: Option<Object>,
    /// Which of its rules.
    pub rule: Option<RuleName>,
    /// Which of the rule's matches, from 0; `None` for a rule without any.
    #[serde(rename = "match")]
    pub matched: Option<usize>,
    /// The request after the rule's filters.
    pub request: RequestForm,
    /// Where it may go, in the written order.
    pub backends: Vec<Backend>,
    /// Who gets a copy; nobody yet.
    pub mirrors: Vec<Mirror>,
    /// What the caller gets from the mesh itself, where the request goes nowhere.
    pub response: Option<ResponseForm>,
    /// How long things may take.
    pub timeouts: TimeoutsPlan,
    /// What is tried again, beyond what no server ever processed.
    pub retry: Option<RetryPlan>,
    /// The matches of all other rules of the port, in the order of precedence.
    pub considered: Vec<Other>,
    /// Whether nothing of this rests on a guess.
    pub certain: bool,
    /// What it rests on, each as a sentence.
    pub guesses: Vec<String>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It goes to a backend.
    Forward,
    /// The caller is sent elsewhere.
    Redirect,
    /// The mesh answers itself.
    Respond,
}

/// An object that people wrote, or a built-in default of the kind `default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for built-in defaults.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl From<&ObjectRef> for Object {
    fn from(object: &ObjectRef) -> Self {
        Self {
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        }
    }
}

/// A rule of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleName {
    /// Which rule, from 0.
    pub index: usize,
    /// Its name, if it has one.
    pub name: Option<String>,
}

/// A request on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestForm {
    /// The method.
    pub method: String,
    /// Host and port as the caller wrote them.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: Headers,
}

/// Values by name.
pub type Headers = BTreeMap<String, Vec<String>>;

/// One place a rule sends to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its port; `None` where it cannot be called.
    pub port: Option<u16>,
    /// Its share is this over the sum of all.
    pub weight: u32,
    /// Whether it can be called.
    pub valid: bool,
    /// Why it cannot, in Gateway API's word, and what to do.
    pub reason: Option<String>,
    /// The request after the backend's filters.
    pub request: RequestForm,
    /// What is done to the headers of its response.
    pub response_headers: HeaderChange,
    /// Whether it lets the caller in; `None` where nobody said who calls.
    pub authorization: Option<Authorization>,
}

/// How headers are changed: first set, then added to, then removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderChange {
    /// Headers that have this one value afterwards, but for what is added.
    pub set: Vec<HeaderValuePlan>,
    /// Values beside those that are there.
    pub add: Vec<HeaderValuePlan>,
    /// Headers that are gone afterwards.
    pub remove: Vec<String>,
}

/// Whether a caller is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authorization {
    /// The `Server` that governs the port, or the built-in default policy.
    pub server: Option<Object>,
    /// What was decided.
    pub verdict: Verdict,
    /// The object that grants it.
    pub by: Option<Object>,
    /// Why not.
    pub reason: Option<String>,
}

/// What was decided of a caller, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Let in.
    Allow,
    /// Let in, and counted: enforcement would not have.
    Audit,
    /// Not let in.
    Deny,
}

/// Who gets a copy of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Mirror {}

/// An answer of the mesh itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResponseForm {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Headers,
}

/// A match that does not govern the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Other {
    /// The route.
    pub route: Option<Object>,
    /// Which of its rules.
    pub rule: RuleName,
    /// Which of the rule's matches.
    #[serde(rename = "match")]
    pub matched: Option<usize>,
    /// Why not.
    pub why_not: String,
}

impl Explanation {
    /// Notes what this rests on.
    pub fn guess(&mut self, guess: String) {
        self.certain = false;
        if !self.guesses.contains(&guess) {
            self.guesses.push(guess);
        }
    }

    /// Whether all of the request's shares arrive for certain: it is forwarded or redirected,
    /// every backend with a weight can be called and lets the caller in, and nothing is guessed.
    #[must_use]
    pub fn arrives(&self) -> bool {
        if !self.certain {
            return false;
        }
        let refuses = |backend: &Backend| {
            let denied = backend.authorization.as_ref();
            !backend.valid || denied.is_some_and(|one| one.verdict == Verdict::Deny)
        };
        let mut weighty = self.backends.iter().filter(|backend| backend.weight > 0);
        match self.outcome {
            Outcome::Redirect => true,
            Outcome::Respond => false,
            Outcome::Forward => !weighty.any(refuses),
        }
    }
}
