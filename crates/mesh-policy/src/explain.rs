//! Why a request goes where it goes, and whether it may.
//!
//! Nothing is decided here a second time: each step asks the code that live
//! traffic asks, in the order in which a request passes the layers, and writes
//! down what it says. Where a port may have one policy or another, the strictest
//! verdict stands, so that no explanation lets in whom live traffic refuses.
//!
//! ```text
//!  path ─▶ port ─▶ rule ─▶ the rule's filters ─▶ each backend: its filters ─▶ its authorization
//! ```

pub mod answer;
mod edits;

use std::borrow::Cow;

use http::{HeaderMap, Method};

use crate::address::select_port;
use crate::authorize::{Client, Policy, Verdict};
use crate::filter::Target as Asked;
use crate::name::{ObjectRef, ServiceAddress, ServicePort};
use crate::path::canonical;
use crate::plan::inbound::InboundPlan;
use crate::plan::outbound::{PortPlan, RulePlan, ServicePlan};
use crate::plan::part::Part;
use crate::route::{Facts, Found, Rule, Table};
use crate::split::Target;
use answer::{
    Authorization, Backend, Explanation, Headers, Object, Other, Outcome, RequestForm,
    ResponseForm, RuleName,
};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The service, and the port if one was said.
    pub to: ServiceAddress,
    /// The method.
    pub method: Method,
    /// The path, as the caller wrote it, without its query.
    pub path: &'a str,
    /// The query without its `?`; empty if there is none.
    pub query: &'a str,
    /// The headers.
    pub headers: HeaderMap,
    /// Who calls; `None` asks for no authorization.
    pub client: Option<Client<'a>>,
}

/// What processes are told, as far as an explanation needs it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a, F> {
    /// The plan of the service that is asked for; `None` if nobody knows the service.
    pub service: Option<&'a ServicePlan>,
    /// The policies that a backend may have, the likeliest first; never none.
    pub inbound: F,
}

/// A policy that a port may have.
#[derive(Clone, Debug)]
pub struct Possible {
    /// The policy.
    pub plan: Part<InboundPlan>,
    /// What has to be so for it to hold; empty for the likeliest.
    pub guess: String,
}

/// Explains what becomes of a request.
///
/// # Panics
///
/// Never: the rule that is found was made of the plan.
pub fn explain<F>(asked: &Question<'_>, known: &Known<'_, F>) -> Explanation
where
    F: Fn(&ServicePort) -> Vec<Possible>,
{
    let (path, bad) = match canonical(asked.path) {
        Ok(path) => (path, false),
        Err(_) => (Cow::Borrowed(asked.path), true),
    };
    let mut answer = empty(asked, &path);
    if bad {
        return respond(answer, 400, "invalid-request");
    }
    let Some(service) = known.service else {
        return respond(answer, 503, "unknown-service");
    };
    let numbers: Vec<_> = service.ports.iter().map(|port| port.port).collect();
    let Ok(number) = select_port(&numbers, asked.to.port) else {
        return respond(answer, 503, "unknown-port");
    };
    let port = service.ports.iter().find(|port| port.port == number);
    let port = port.expect("the number is one of these");
    let Ok(table) = Table::compile(port) else {
        return respond(answer, 503, "plan-not-understood");
    };
    let facts = Facts {
        method: &asked.method,
        path: &path,
        query: asked.query,
        headers: &asked.headers,
    };
    let found = table.find(&facts);
    answer.considered = considered(&table, &facts, found);
    let Some(found) = found else {
        return respond(answer, 404, "no-route");
    };
    let rule = &table.rules()[found.rule];
    let plan = plan_of(port, rule);
    answer.route = written(&rule.source);
    answer.rule = Some(name_of(rule));
    answer.matched = found.matched;
    answer.timeouts = plan.timeouts;
    answer.retry.clone_from(&plan.retry);
    let decided = Decided { asked, rule, plan };
    decided.go_on(answer, &known.inbound)
}

/// A request that has its rule.
#[derive(Clone, Copy, Debug)]
struct Decided<'a> {
    asked: &'a Question<'a>,
    rule: &'a Rule,
    plan: &'a RulePlan,
}

impl Decided<'_> {
    fn go_on(
        &self,
        mut answer: Explanation,
        inbound: &impl Fn(&ServicePort) -> Vec<Possible>,
    ) -> Explanation {
        let path = answer.request.path.split('?').next().unwrap_or_default();
        let away = self.rule.filters.redirect.as_ref().and_then(|redirect| {
            let location = redirect.location(&Asked {
                scheme: "http",
                authority: &answer.request.authority,
                path,
                query: self.asked.query,
            })?;
            Some((redirect.status().as_u16(), location))
        });
        if let Some((status, location)) = away {
            answer.outcome = Outcome::Redirect;
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            let headers = [("location".to_owned(), vec![location])].into();
            answer.response = Some(ResponseForm { status, headers });
            return answer;
        }
        let mut headers = self.asked.headers.clone();
        for edit in &self.rule.filters.request {
            edit.apply(&mut headers);
        }
        answer.request.headers = listed(&headers);
        let split = &self.rule.split;
        let places = 0..split.backends().len();
        let mut guesses = Vec::new();
        let mut ask = |port: &ServicePort, client: Client<'_>| {
            let (said, guessed) = strictest(&inbound(port), &client);
            guesses.extend(guessed);
            said
        };
        answer.backends = places
            .map(|place| self.backend(place, &headers, &answer.request, &mut ask))
            .collect();
        guesses.into_iter().for_each(|guess| answer.guess(guess));
        let mut weighty = answer.backends.iter().filter(|one| one.weight > 0);
        match (weighty.clone().next(), weighty.any(|one| one.valid)) {
            (None, _) => respond(answer, 500, "no-backends"),
            (Some(_), false) => respond(answer, 500, "backend-not-found"),
            (Some(_), true) => answer,
        }
    }

    fn backend(
        &self,
        place: usize,
        headers: &HeaderMap,
        request: &RequestForm,
        authorize: &mut impl FnMut(&ServicePort, Client<'_>) -> Authorization,
    ) -> Backend {
        let one = &self.rule.split.backends()[place];
        let mut headers = headers.clone();
        for edit in &self.rule.backend_filters[place].request {
            edit.apply(&mut headers);
        }
        let (name, port, reason) = match &one.target {
            Target::Service(port) => (port.service.to_string(), Some(port), None),
            Target::Invalid {
                name,
                reason,
                message,
            } => (name.clone(), None, Some(format!("{reason}: {message}"))),
        };
        let (name, namespace) = name.split_once('.').unwrap_or((&name, ""));
        // On its way back a response meets the backend's filters first.
        let filters = [&self.plan.backends[place].filters, &self.plan.filters];
        Backend {
            kind: "Service",
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port: port.map(|port| port.port),
            weight: one.weight,
            valid: port.is_some(),
            reason,
            request: RequestForm {
                headers: listed(&headers),
                ..request.clone()
            },
            response_headers: edits::of_response(filters.into_iter().flatten()),
            authorization: port
                .zip(self.asked.client)
                .map(|(port, client)| authorize(port, client)),
        }
    }
}

/// The strictest verdict of all that may hold, and what it rests on where they differ.
fn strictest(possible: &[Possible], client: &Client<'_>) -> (Authorization, Vec<String>) {
    let mut said = possible
        .iter()
        .map(|one| (authorize(&one.plan, client), &one.guess));
    let (likeliest, _) = said
        .next()
        .expect("a port has a policy, if only the default");
    let mut strictest = likeliest.clone();
    let mut guesses = Vec::new();
    for (other, guess) in said {
        if other.verdict != likeliest.verdict {
            guesses.push(guess.clone());
        }
        if other.verdict > strictest.verdict {
            strictest = other;
        }
    }
    (strictest, guesses)
}

fn authorize(plan: &Part<InboundPlan>, client: &Client<'_>) -> Authorization {
    use answer::Verdict as Said;
    let closed = |why: String| Authorization {
        server: None,
        verdict: Said::Deny,
        by: None,
        reason: Some(why),
    };
    let plan = match plan.understood() {
        Ok(plan) => plan,
        Err(error) => return closed(error.to_string()),
    };
    let policy = match Policy::compile(plan) {
        Ok(policy) => policy,
        Err(error) => return closed(error.to_string()),
    };
    let mut server = policy.server();
    let (verdict, by, reason) = match policy.decide(client) {
        Verdict::Allow { by } => (Said::Allow, Some(by.into()), None),
        Verdict::Audit { by } => (Said::Audit, Some(by.into()), None),
        Verdict::Deny { server: by, reason } => {
            server = by;
            (Said::Deny, None, Some(reason.to_string()))
        }
    };
    Authorization {
        server: Some(server.into()),
        verdict,
        by,
        reason,
    }
}

fn empty(asked: &Question<'_>, path: &str) -> Explanation {
    let path = match asked.query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    Explanation {
        to: asked.to.to_string(),
        outcome: Outcome::Forward,
        route: None,
        rule: None,
        matched: None,
        request: RequestForm {
            method: asked.method.to_string(),
            authority: asked.to.to_string(),
            path,
            headers: listed(&asked.headers),
        },
        backends: Vec::new(),
        mirrors: Vec::new(),
        response: None,
        timeouts: crate::plan::outbound::TimeoutsPlan::default(),
        retry: None,
        considered: Vec::new(),
        certain: true,
        guesses: Vec::new(),
    }
}

fn respond(mut answer: Explanation, status: u16, reason: &str) -> Explanation {
    answer.outcome = Outcome::Respond;
    let headers = [("x-mesh-error".to_owned(), vec![reason.to_owned()])].into();
    answer.response = Some(ResponseForm { status, headers });
    answer
}

fn considered(table: &Table, facts: &Facts<'_>, chosen: Option<Found>) -> Vec<Other> {
    let chosen = chosen.map(|found| found.rule);
    let others = table.considered(facts).into_iter();
    let others = others.filter(|other| Some(other.found.rule) != chosen);
    others
        .map(|other| {
            let rule = &table.rules()[other.found.rule];
            Other {
                route: written(&rule.source),
                rule: name_of(rule),
                matched: other.found.matched,
                why_not: other.why_not.to_string(),
            }
        })
        .collect()
}

/// The rule as it was told, for what is shown as it is written.
fn plan_of<'a>(port: &'a PortPlan, rule: &Rule) -> &'a RulePlan {
    let mut routes = port.routes.iter().filter_map(|one| one.understood().ok());
    let route = routes.find(|route| route.source == rule.source);
    let rule = route.and_then(|route| route.rules.get(rule.index));
    rule.expect("the table was made of these")
}

fn written(source: &ObjectRef) -> Option<Object> {
    let builtin = *source == ObjectRef::builtin(&source.name);
    (!builtin).then(|| source.into())
}

fn name_of(rule: &Rule) -> RuleName {
    RuleName {
        index: rule.index,
        name: rule.name.clone(),
    }
}

fn listed(headers: &HeaderMap) -> Headers {
    let mut list = Headers::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        list.entry(name.to_string()).or_default().push(value);
    }
    list
}
