mod balancing;
mod filters;
mod grpc;
mod heads;
mod retries;
mod series;
mod timeouts;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_policy::name::{ObjectRef, ServiceName, ServicePort};
use mesh_policy::plan::endpoint::{Endpoint as Facts, EndpointSet, HttpVersions};
use mesh_policy::plan::outbound::{
    BackendPlan, MatchPlan, PathPlan, PortPlan, RoutePlan, RulePlan, ServicePlan, TargetPlan,
    TimeoutsPlan,
};
use mesh_policy::plan::part::Part;
use mesh_tls::config::Alpn;
use metrics::Counter;
use tower_service::Service as _;

use super::*;
use crate::answer::Cause;
use crate::plans::{Answer, Backend, Endpoint as Place, Outfit, Service};
use crate::telemetry::{Metrics, Recorder, Workload};
use crate::transport::ConnectFailed;
use crate::transport::connect::{Dial, Opened, open};
use crate::transport::pool::{Pool, PoolLimits};
use crate::{Body, BoxError};

/// An endpoint in memory that answers with its name, or not at all.
#[derive(Clone, Debug)]
struct Memory {
    name: &'static str,
    behaviour: Behaviour,
    seen: Arc<Mutex<Vec<(http::Uri, HeaderMap)>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Answers,
    Fails,
    IsSilent,
    CannotBeReached,
    /// Sends a byte of its body each so many milliseconds.
    Drips(u64),
    /// Answers after so many milliseconds.
    Takes(u64),
    /// Sends the head of its answer, and never the body.
    HeadOnly,
    /// Sends a gRPC status that is no success, after the head.
    Refuses,
}

impl Dial for Memory {
    fn dial(&self) -> BoxFuture<'static, Result<Opened, ConnectFailed>> {
        let this = self.clone();
        Box::pin(async move {
            if this.behaviour == Behaviour::CannotBeReached {
                return Err(ConnectFailed::refused());
            }
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(this.serve(theirs));
            Ok(open(ours, Alpn::Http2)
                .await
                .expect("the other end is there"))
        })
    }

    fn version(&self) -> Alpn {
        Alpn::Http2
    }

    fn address(&self) -> std::net::SocketAddr {
        facts().address
    }
}

impl Memory {
    async fn serve(self, stream: tokio::io::DuplexStream) {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let this = self.clone();
            async move {
                let seen = (request.uri().clone(), request.headers().clone());
                this.seen.lock().unwrap().push(seen);
                let mut response = Response::new(Body::from(this.name));
                match this.behaviour {
                    Behaviour::IsSilent => std::future::pending().await,
                    Behaviour::Takes(millis) => {
                        tokio::time::sleep(Duration::from_millis(millis)).await;
                    }
                    Behaviour::Drips(millis) => {
                        *response.body_mut() = timeouts::dripping(Duration::from_millis(millis));
                    }
                    Behaviour::HeadOnly => *response.body_mut() = balancing::silence(),
                    Behaviour::Refuses => *response.body_mut() = balancing::refusal(),
                    Behaviour::Fails => {
                        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                    }
                    Behaviour::Answers | Behaviour::CannotBeReached => {}
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        drop(served.await);
    }
}

/// A mesh with one service, `api.shop`, whose backends are made by hand.
struct World {
    plans: Arc<Plans>,
    outfit: Outfit,
    backends: BTreeMap<ServicePort, Arc<Backend>>,
}

impl World {
    fn new() -> Self {
        let outfit = Outfit::new(
            Arc::default(),
            Recorder::new(Metrics::Own).unwrap(),
            Arc::new(Workload {
                namespace: "shop".into(),
                deployment: "web".into(),
                pod: "web-1".into(),
            }),
        );
        Self {
            plans: Arc::new(Plans::new("shop".parse().unwrap(), Arc::default())),
            outfit,
            backends: BTreeMap::new(),
        }
    }

    fn serve(&mut self, port: &str, endpoints: &[Memory]) {
        let port: ServicePort = port.parse().unwrap();
        let backend = Backend::new(port.clone(), &self.outfit);
        let places = endpoints.iter().map(|memory| {
            let pool = Pool::new(memory.clone(), PoolLimits::default(), Counter::noop());
            let place = Place::reached_by(memory.name, facts(), backend.origin(), pool);
            Arc::new(place)
        });
        backend.replace(places.collect());
        self.backends.insert(port, Arc::new(backend));
    }

    fn plan(&self, rules: Vec<RulePlan>) {
        let name: ServiceName = "api.shop".parse().unwrap();
        let route = RoutePlan {
            source: ObjectRef::builtin("test"),
            rules,
        };
        let plan = ServicePlan {
            ports: vec![PortPlan {
                port: 80,
                routes: vec![Part::new("route/1", route)],
            }],
            ..ServicePlan::default()
        };
        let backend = |port: &ServicePort| Arc::clone(&self.backends[port]);
        let service = Service::compile(&name, &plan, backend);
        drop(self.plans.find("api"));
        self.plans.answer(&name, Answer::Known(Arc::new(service)));
    }

    fn stack(&self) -> Outbound {
        self.stack_that_keeps(64 << 10)
    }

    fn stack_that_keeps(&self, replay_limit: usize) -> Outbound {
        let Outfit {
            recorder, workload, ..
        } = self.outfit.clone();
        stack(
            Arc::clone(&self.plans),
            Arc::new(Series::new(recorder, workload)),
            replay_limit,
        )
    }

    async fn get(&self, uri: &str) -> Result<Response<Body>, BoxError> {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        self.stack().call(request).await
    }

    async fn cause(&self, uri: &str) -> Cause {
        let error = self.get(uri).await.expect_err("it fails");
        Cause::of(error.as_ref())
    }
}

fn facts() -> Facts {
    Facts {
        address: ([127, 0, 0, 1], 1).into(),
        identity: None,
        http: HttpVersions::Both,
        weight: 100,
        workload: "api".into(),
        instance: "api-1".into(),
        zone: None,
    }
}

fn memory(name: &'static str, behaviour: Behaviour) -> Memory {
    Memory {
        name,
        behaviour,
        seen: Arc::default(),
    }
}

fn to(port: &str, weight: u32) -> BackendPlan {
    BackendPlan {
        weight,
        target: TargetPlan::Service(port.parse().unwrap()),
        filters: Vec::new(),
    }
}

fn rule(backends: Vec<BackendPlan>) -> RulePlan {
    RulePlan {
        backends,
        ..RulePlan::default()
    }
}

async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_goes_where_its_rule_says_and_arrives_in_our_words() {
    let mut world = World::new();
    let one = memory("one", Behaviour::Answers);
    world.serve("api.shop:80", std::slice::from_ref(&one));
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    let request = Request::get("http://api.shop/a?b=1")
        .header("x-mesh-client-id", "somebody else")
        .header("l5d-client-id", "somebody else")
        .header("x-kept", "yes");
    let request = request.body(Body::empty()).unwrap();
    let response = world.stack().call(request).await.unwrap();
    assert_eq!(text(response).await, "one");
    let seen = one.seen.lock().unwrap().clone();
    let (uri, headers) = &seen[0];
    assert_eq!(uri, "http://api.shop/a?b=1");
    assert_eq!(headers["x-kept"], "yes");
    assert!(!headers.contains_key("x-mesh-client-id"));
    assert!(!headers.contains_key("l5d-client-id"));
    let metrics = world.outfit.recorder.render();
    let line =
        "request_total{namespace=\"shop\",deployment=\"web\",pod=\"web-1\",direction=\"outbound\"";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_split_follows_its_weights_and_weight_0_gets_nothing() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        let port = format!("{name}.shop:80");
        world.serve(&port, &[memory(name, Behaviour::Answers)]);
    }
    world.plan(vec![rule(vec![
        to("a.shop:80", 3),
        to("b.shop:80", 1),
        to("c.shop:80", 0),
    ])]);
    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        let response = world.get("http://api.shop/").await.unwrap();
        *counts.entry(text(response).await).or_default() += 1;
    }
    // Five deviations of a binomial with p = 1/4 are 43.
    assert!(counts["b"].abs_diff(100) < 43, "{counts:?}");
    assert!(!counts.contains_key("c"), "{counts:?}");
}

#[tokio::test]
async fn an_empty_backend_is_refused_at_once_by_name() {
    let mut world = World::new();
    world.serve("api-canary.shop:80", &[]);
    world.plan(vec![rule(vec![to("api-canary.shop:80", 1)])]);
    let error = world.get("http://api.shop/").await.unwrap_err();
    assert_eq!(Cause::of(error.as_ref()), Cause::NoEndpoints);
    assert!(error.to_string().contains("api-canary.shop:80"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_no_plan_takes_anywhere_has_its_cause() {
    let mut world = World::new();
    world.serve("api.shop:80", &[memory("one", Behaviour::Answers)]);
    let gone = TargetPlan::Invalid {
        name: "gone.shop".into(),
        reason: "BackendNotFound".into(),
        message: "apply it".into(),
    };
    let only = |path: &str, backends| RulePlan {
        matches: vec![MatchPlan {
            path: Some(PathPlan::Exact(path.into())),
            ..MatchPlan::default()
        }],
        ..rule(backends)
    };
    world.plan(vec![
        only("/weightless", vec![to("api.shop:80", 0)]),
        only(
            "/gone",
            vec![BackendPlan {
                weight: 1,
                target: gone,
                filters: Vec::new(),
            }],
        ),
    ]);
    for (uri, cause) in [
        ("http://api.shop/", Cause::NoRoute),
        ("http://api.shop/weightless", Cause::NoBackends),
        ("http://api.shop/gone", Cause::BackendNotFound),
        ("http://api.shop:81/", Cause::UnknownPort),
        ("http://www.example.com/", Cause::UnknownService),
        ("http://never-told.shop/", Cause::UnknownService),
        ("/", Cause::InvalidRequest),
    ] {
        assert_eq!(world.cause(uri).await, cause, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_rules_limit_ends_a_silent_call() {
    let mut world = World::new();
    let silent = memory("silent", Behaviour::IsSilent);
    world.serve("api.shop:80", std::slice::from_ref(&silent));
    let limited = RulePlan {
        timeouts: TimeoutsPlan {
            request_ms: Some(70),
            ..TimeoutsPlan::default()
        },
        ..rule(vec![to("api.shop:80", 1)])
    };
    world.plan(vec![limited]);
    let begun = tokio::time::Instant::now();
    assert_eq!(world.cause("http://api.shop/").await, Cause::Timeout);
    assert_eq!(begun.elapsed(), Duration::from_millis(70));
    let seen = silent.seen.lock().unwrap().clone();
    assert_eq!(seen[0].1["x-mesh-timeout"], "70ms");
}

#[tokio::test]
async fn a_change_of_endpoints_keeps_those_that_stay_and_drops_those_of_weight_0() {
    let world = World::new();
    let backend = Backend::new("api.shop:80".parse().unwrap(), &world.outfit);
    let set = |weights: &[(&str, u32)]| {
        let facts = |weight| Facts { weight, ..facts() };
        let all = weights
            .iter()
            .map(|(id, weight)| ((*id).to_owned(), facts(*weight)));
        all.collect::<EndpointSet>()
    };
    backend.update(&set(&[("a", 100), ("b", 100), ("c", 0)]));
    let before = Arc::clone(&backend.endpoints());
    assert_eq!(before.len(), 2);
    let called = Arc::clone(before[1].pool());
    backend.update(&set(&[("a", 100), ("b", 50)]));
    let after = Arc::clone(&backend.endpoints());
    assert!(
        Arc::ptr_eq(&before[0], &after[0]),
        "unchanged, and yet made anew"
    );
    assert!(
        Arc::ptr_eq(&called, after[1].pool()),
        "lost its connections"
    );
    assert_eq!(after[1].facts().weight, 50);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_the_first_answer_and_then_goes_out() {
    let mut world = World::new();
    world.serve("api.shop:80", &[memory("one", Behaviour::Answers)]);
    let request = Request::get("http://api.shop/")
        .body(Body::empty())
        .unwrap();
    let mut call = tokio_test::task::spawn(world.stack().call(request));
    assert!(call.poll().is_pending());
    world.plan(vec![rule(vec![to("api.shop:80", 1)])]);
    assert_eq!(text(call.await.unwrap()).await, "one");
}
