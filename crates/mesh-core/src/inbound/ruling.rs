//! What one policy means for one connection, worked out once.
//!
//! Identity and address do not change while a connection lives, so a verdict and
//! its metric handles hold until the policy changes. Each request loads the
//! policy once, and carries the ruling that belongs to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Request};
use mesh_policy::name::ObjectRef;
use mesh_policy::report::traffic::{Direction, FlowKey};
use metrics::{Counter, Label};
use tower_layer::Layer;
use tower_service::Service;

use super::case::Case;
use super::policy::Policy;
use crate::layers::authorize::{Denials, Refused};
use crate::peer::Peer;
use crate::telemetry::inbound::ListenerMetrics;
use crate::telemetry::tcp::TransportMetrics;
use crate::telemetry::{Recorder, RequestMetrics};
use crate::transport::Limits;

/// Sets of labels in use at once that have series of their own; further clients share
/// `client_id="other"`.
const MAX_SERIES: usize = 1_000;

/// A policy as it applies to one connection.
#[derive(Debug)]
pub(crate) struct Ruling {
    policy: Arc<Policy>,
    verdict: Result<ObjectRef, Refused>,
    metrics: Arc<Series>,
    authority: Option<HeaderValue>,
}

/// The series of one client and verdict.
#[derive(Debug)]
struct Series {
    requests: Arc<RequestMetrics>,
    /// Requests that authorization decided so.
    decided: Counter,
}

impl Ruling {
    /// Whether the request is let in, which is counted.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        self.metrics.decided.increment(1);
        match &self.verdict {
            Ok(_) => Ok(()),
            Err(refused) => Err(refused.clone()),
        }
    }

    /// The series of this client and verdict.
    pub(crate) fn metrics(&self) -> &Arc<RequestMetrics> {
        &self.metrics.requests
    }

    /// What a client means that names no host.
    pub(crate) const fn authority(&self) -> Option<&HeaderValue> {
        self.authority.as_ref()
    }

    /// Whether it is what `policy` says, and not an earlier one.
    pub(super) fn is_by(&self, policy: &Arc<Policy>) -> bool {
        Arc::ptr_eq(&self.policy, policy)
    }

    /// Whether the client is let in.
    pub(super) fn allows(&self) -> bool {
        self.verdict.is_ok()
    }

    /// Whether an understood policy refuses the client.
    pub(super) fn denies(&self) -> bool {
        matches!(self.verdict, Err(Refused::Denied(_)))
    }

    /// Whether a policy refuses the client, be it because nobody here understands it.
    pub(super) fn refuses(&self) -> bool {
        let closed = matches!(self.verdict, Err(Refused::Closed { .. }));
        closed || self.denies()
    }

    /// How long a request body may be silent, where `default` is the process's own limit.
    pub(crate) fn body_silence(&self, default: Option<Duration>) -> Option<Duration> {
        self.policy.body_silence(default)
    }
}

/// Handles that connections share by their labels. They are the connections': those of
/// clients that are gone go, and their series after them.
type Shelf<T> = HashMap<Vec<Label>, Weak<T>>;

/// What `labels` gives for `peer` if the shelf has it or has room, else for all others.
fn key<T>(
    shelf: &mut Shelf<T>,
    peer: &Peer,
    labels: impl Fn(Client<'_>) -> Vec<Label>,
) -> Vec<Label> {
    let key = labels(Client::of(peer));
    if shelf.len() < MAX_SERIES || shelf.contains_key(&key) {
        return key;
    }
    shelf.retain(|_, handles| handles.strong_count() > 0);
    if shelf.len() < MAX_SERIES {
        return key;
    }
    labels(Client::Known("other"))
}

/// The handles at `key`, made if nobody has them.
fn shared<T>(shelf: &mut Shelf<T>, key: Vec<Label>, new: impl FnOnce(Vec<Label>) -> T) -> Arc<T> {
    if let Some(known) = shelf.get(&key).and_then(Weak::upgrade) {
        return known;
    }
    let new = Arc::new(new(key.clone()));
    shelf.insert(key, Arc::downgrade(&new));
    new
}

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Docket {
    policy: Arc<ArcSwap<Policy>>,
    limits: Limits,
    metrics: ListenerMetrics,
    authority: Option<HeaderValue>,
    pub(super) denials: Arc<Denials>,
    series: Mutex<Shelf<Series>>,
    connections: Mutex<Shelf<TransportMetrics>>,
}

impl Docket {
    pub(super) fn new(
        policy: Arc<ArcSwap<Policy>>,
        limits: Limits,
        metrics: ListenerMetrics,
        authority: Option<HeaderValue>,
    ) -> Self {
        Self {
            policy,
            limits,
            metrics,
            authority,
            denials: Arc::default(),
            series: Mutex::default(),
            connections: Mutex::default(),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn metrics(&self) -> &ListenerMetrics {
        &self.metrics
    }

    /// Whether the policy of this moment refuses all that `peer` may ask for.
    pub(super) fn denies(&self, peer: &Peer) -> bool {
        self.policy.load().denies(peer)
    }

    pub(super) fn policy(&self) -> &ArcSwap<Policy> {
        &self.policy
    }

    pub(super) fn rule(&self, policy: Arc<Policy>, peer: &Peer) -> Ruling {
        let verdict = policy.admit(peer);
        let metrics = self.series(&policy, &verdict, peer);
        Ruling {
            policy,
            verdict,
            metrics,
            authority: self.authority.clone(),
        }
    }

    fn series(
        &self,
        policy: &Policy,
        verdict: &Result<ObjectRef, Refused>,
        peer: &Peer,
    ) -> Arc<Series> {
        let labels = |client: Client<'_>| {
            let mut labels = self.metrics.labels().to_vec();
            labels.extend(client_labels(client));
            labels.extend(server_labels(policy));
            labels.extend(route_labels());
            labels.extend(verdict.as_ref().ok().into_iter().flat_map(authz_labels));
            labels
        };
        let recorder = self.metrics.recorder();
        let decided = match verdict {
            Ok(_) => Some("inbound_http_authz_allow_total"),
            Err(Refused::Denied(_)) => Some("inbound_http_authz_deny_total"),
            // A listener without a policy that it understands has decided nothing.
            Err(_) => None,
        };
        let mut shelf = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(&mut shelf, peer, labels);
        shared(&mut shelf, key, |key| Series {
            decided: decided.map_or_else(Counter::noop, |name| recorder.counter(name, key.clone())),
            requests: Arc::new(
                requests(recorder, key, (policy, peer))
                    .with_errors(Arc::clone(&self.metrics.errors)),
            ),
        })
    }

    /// The series of connections of `peer` under the policy of this moment.
    pub(super) fn connections(&self, peer: &Peer) -> Arc<TransportMetrics> {
        let policy = self.policy.load();
        let labels = |client: Client<'_>| {
            let mut labels = self.metrics.labels().to_vec();
            labels.push(Label::from_static_parts("peer", "src"));
            labels.extend(client_labels(client));
            labels.extend(server_labels(&policy));
            labels
        };
        let shelf = self.connections.lock();
        let mut shelf = shelf.unwrap_or_else(PoisonError::into_inner);
        let key = key(&mut shelf, peer, labels);
        let recorder = self.metrics.recorder();
        shared(&mut shelf, key, |key| TransportMetrics::new(recorder, key))
    }
}

/// The series of `labels`, told to discovery where it is known what is served.
fn requests(
    recorder: &Recorder,
    labels: Vec<Label>,
    (policy, peer): (&Policy, &Peer),
) -> RequestMetrics {
    let requests = RequestMetrics::new(recorder, labels);
    match policy.service() {
        Some(service) => requests.reported(FlowKey {
            direction: Direction::Inbound,
            service: service.clone(),
            backend: None,
            peer: peer.identity().cloned(),
        }),
        None => requests,
    }
}

#[derive(Clone, Copy)]
enum Client<'a> {
    Known(&'a str),
    Unknown,
}

impl<'a> Client<'a> {
    fn of(peer: &'a Peer) -> Self {
        peer.identity()
            .map_or(Self::Unknown, |identity| Self::Known(identity.as_str()))
    }
}

fn client_labels(client: Client<'_>) -> [Label; 2] {
    match client {
        Client::Known(id) => [
            Label::from_static_parts("tls", "true"),
            Label::new("client_id", id.to_owned()),
        ],
        Client::Unknown => [
            Label::from_static_parts("tls", "no_identity"),
            Label::from_static_parts("no_tls_reason", "no_tls_from_remote"),
        ],
    }
}

/// The `Server` of the port; nothing of a listener without a policy.
fn server_labels(policy: &Policy) -> Vec<Label> {
    let Some((server, port)) = policy.server() else {
        return Vec::new();
    };
    vec![
        Label::new("srv_group", server.group.clone()),
        Label::new("srv_kind", server.kind.to_lowercase()),
        Label::new("srv_name", server.name.clone()),
        Label::new("srv_port", port.to_string()),
    ]
}

fn route_labels() -> [Label; 3] {
    [
        Label::from_static_parts("route_group", ""),
        Label::from_static_parts("route_kind", "default"),
        Label::from_static_parts("route_name", "default"),
    ]
}

/// The object that lets a client in.
fn authz_labels(by: &ObjectRef) -> [Label; 3] {
    [
        Label::new("authz_group", by.group.clone()),
        Label::new("authz_kind", by.kind.to_lowercase()),
        Label::new("authz_name", by.name.clone()),
    ]
}

/// Gives each request the [`Ruling`] of its connection under the policy of this moment.
#[derive(Clone, Debug)]
pub(super) struct RulingLayer(Arc<Case>);

impl RulingLayer {
    pub(super) const fn new(case: Arc<Case>) -> Self {
        Self(case)
    }
}

impl<S> Layer<S> for RulingLayer {
    type Service = Ruled<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Ruled {
            inner,
            case: Arc::clone(&self.0),
        }
    }
}

/// The service [`RulingLayer`] makes.
#[derive(Clone, Debug)]
pub(super) struct Ruled<S> {
    inner: S,
    case: Arc<Case>,
}

impl<S, B> Service<Request<B>> for Ruled<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> S::Future {
        // Without the peer step before it there is none, and authorization refuses.
        if let Some(peer) = request.extensions_mut().get_mut::<Peer>() {
            peer.set_ruling(self.case.ruling());
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, Workload};

    #[test]
    fn o11_clients_beyond_the_bound_share_one_series() {
        let recorder = Recorder::new(Metrics::Own).expect("an own recorder is always there");
        let workload = Workload {
            namespace: "shop".into(),
            deployment: "api".into(),
            pod: "api-1".into(),
        };
        let address = "127.0.0.1:8080".parse().expect("an address");
        let metrics = ListenerMetrics::new(&recorder, &workload, address);
        let policy = Arc::new(ArcSwap::new(Arc::new(Policy::Awaited)));
        let docket = Docket::new(policy, Limits::default(), metrics, None);
        let connect = |client: usize| {
            let peer = Peer::for_tests(&format!("spiffe://mesh.local/ns/shop/sa/c{client}"));
            let ruling = docket.rule(docket.policy.load_full(), &peer);
            ruling.metrics().count_request();
            ruling
        };
        let connected: Vec<Ruling> = (0..MAX_SERIES + 10).map(connect).collect();
        let text = recorder.render();
        assert_eq!(text.matches("\nrequest_total{").count(), MAX_SERIES + 1);
        let shared = text.lines().find(|line| {
            line.starts_with("request_total{") && line.contains(r#"client_id="other""#)
        });
        assert!(shared.expect("a series").ends_with(" 10"));
        drop(connected);
        connect(MAX_SERIES);
        let text = recorder.render();
        assert!(
            text.contains(&format!("/sa/c{MAX_SERIES}\"")),
            "whoever left makes room"
        );
    }
}
