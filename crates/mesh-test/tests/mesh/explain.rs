//! What `mesh explain` says from files is what the real client and the real server do.

use std::fmt::Write as _;

use fastrand::Rng;
use http::{HeaderValue, Method, Request, Response};
use mesh_core::outbound::Trace;
use mesh_core::{Body, Client};
use mesh_discovery::compile::offline::Offline;
use mesh_policy::authorize::Client as Caller;
use mesh_policy::explain::Question;
use mesh_policy::explain::answer::{Explanation, Outcome, Verdict};
use mesh_policy::identity::Identity;
use mesh_policy::manifest::parse_yaml;
use mesh_test::TestMesh;

use crate::{Handled, get, named, reason};

const TABLES: usize = 20;
const REQUESTS: usize = 20;

fn offline(yaml: &str) -> Offline {
    let manifests = parse_yaml("test.yaml", yaml).expect("valid").manifests;
    Offline::new("mesh.local".parse().expect("a domain"), manifests)
}

fn service(name: &str, namespace: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: {namespace} }}\n\
         spec: {{ ports: [{{ port: 80 }}] }}\n"
    )
}

/// A route of a few rules, any of which may overlap, lead nowhere, or send elsewhere.
fn table(number: usize, random: &mut Rng) -> String {
    let mut yaml = service(&format!("api{number}"), "shop");
    write!(
        yaml,
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{ name: r{number}, namespace: shop }}\nspec:\n  \
         parentRefs: [{{ name: api{number}, group: '', kind: Service }}]\n  rules:\n"
    )
    .expect("a string");
    for _ in 0..random.usize(1..5) {
        let kind = ["Exact", "PathPrefix"][random.usize(..2)];
        let path = ["/", "/a", "/a/b", "/b"][random.usize(..4)];
        let more = [
            "",
            "method: POST",
            "headers: [{ name: x-v, value: '1' }]",
            "headers: [{ name: x-v, value: '[12]', type: RegularExpression }]",
            "queryParams: [{ name: q, value: '1' }]",
        ][random.usize(..5)];
        let matched = format!("{{ path: {{ type: {kind}, value: {path} }}, {more} }}");
        let matched = matched.replace(", }", " }");
        let filter = match random.u8(..6) {
            0 => {
                let filter = "[{ type: RequestRedirect, requestRedirect: { hostname: x.shop, statusCode: 301 } }]";
                writeln!(yaml, "  - matches: [{matched}]\n    filters: {filter}")
                    .expect("a string");
                continue;
            }
            1..=2 => {
                "[{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-seen, value: 's' }] } }]"
            }
            _ => "[]",
        };
        let backends: Vec<_> = (0..random.usize(1..4))
            .map(|_| {
                let name = ["v1", "v2", "gone"][random.usize(..3)];
                let weight = random.u32(..3);
                format!("{{ name: {name}, port: 80, weight: {weight} }}")
            })
            .collect();
        let backends = backends.join(", ");
        writeln!(
            yaml,
            "  - matches: [{matched}]\n    filters: {filter}\n    backendRefs: [{backends}]"
        )
        .expect("a string");
    }
    yaml
}

/// A service that answers with its name and what it saw of a header.
fn seen(
    name: &'static str,
) -> impl tower::Service<
    Request<Body>,
    Response = Response<Body>,
    Error = mesh_core::BoxError,
    Future = impl Future<Output = Result<Response<Body>, mesh_core::BoxError>> + Send + 'static,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |request: Request<Body>| {
        let value = request.headers().get("x-seen");
        let value = value.map_or("", |value| value.to_str().expect("text"));
        let text = format!("{name} {value}");
        async move { Ok(Response::new(Body::from(text))) }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explanation_says_what_the_client_does() {
    let mut random = Rng::with_seed(7);
    let mut yaml = service("v1", "shop") + &service("v2", "shop");
    (0..TABLES).for_each(|number| yaml.push_str(&table(number, &mut random)));
    let offline = offline(&yaml);
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(&yaml).await.expect("tables");
    let _v1 = mesh.serve("shop/v1", "v1.shop", seen("v1")).await;
    let _v2 = mesh.serve("shop/v2", "v2.shop", seen("v2")).await;
    let web = mesh.join("shop/web").await.expect("web joins");
    let mut outcomes = [0; 3];
    for number in 0..TABLES * REQUESTS {
        let paths = ["/", "/a", "/a/", "/a/b", "/%61/b", "//b", "/c", "/a/../b"];
        let to = format!("api{}.shop", number / REQUESTS);
        let asked = Asked {
            to: &to,
            path: paths[random.usize(..paths.len())],
            query: ["", "q=1", "q=2&q=1"][random.usize(..3)],
            method: [Method::GET, Method::POST][random.usize(..2)].clone(),
            version: ["", "1", "2"][random.usize(..3)],
        };
        let told = asked.explained(&offline);
        outcomes[told.outcome as usize] += 1;
        asked.compare(&told, &web.client()).await;
    }
    assert!(outcomes.iter().all(|count| *count > 10), "{outcomes:?}");
}

#[derive(Debug)]
struct Asked<'a> {
    to: &'a str,
    path: &'a str,
    query: &'a str,
    method: Method,
    version: &'static str,
}

impl Asked<'_> {
    fn request(&self) -> Request<Body> {
        let (to, path, query) = (self.to, self.path, self.query);
        let uri = match query {
            "" => format!("http://{to}{path}"),
            query => format!("http://{to}{path}?{query}"),
        };
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri.parse().expect("a URI");
        *request.method_mut() = self.method.clone();
        if !self.version.is_empty() {
            let value = HeaderValue::from_static(self.version);
            request.headers_mut().insert("x-v", value);
        }
        request
    }

    fn explained(&self, offline: &Offline) -> Explanation {
        let question = Question {
            to: self.to.parse().expect("an address"),
            method: self.method.clone(),
            path: self.path,
            query: self.query,
            headers: self.request().headers().clone(),
            client: None,
        };
        offline.explain(&question, "shop")
    }

    async fn compare(&self, told: &Explanation, client: &Client) {
        let trace = Trace::default();
        let mut request = self.request();
        request.extensions_mut().insert(trace.clone());
        let Ok(response) = client.send(request).await;
        let decided = trace.decided();
        let about = format!("{self:?}\n{told:?}\n{decided:?}");
        let rule = decided.rule.map(|rule| rule.index);
        assert_eq!(rule, told.rule.as_ref().map(|rule| rule.index), "{about}");
        let route = decided.route.map(|route| route.name);
        assert_eq!(
            route,
            told.route.as_ref().map(|route| route.name.clone()),
            "{about}"
        );
        if let Some(expected) = &told.response {
            assert_eq!(response.status().as_u16(), expected.status, "{about}");
            for (name, values) in &expected.headers {
                assert_eq!(response.headers()[name], values[0], "{about}");
            }
            return;
        }
        let weighty = told.backends.iter().filter(|one| one.weight > 0);
        let Some(chosen) = decided.backend else {
            assert_eq!(reason(&response), "backend-not-found", "{about}");
            assert!(weighty.into_iter().any(|one| !one.valid), "{about}");
            return;
        };
        let chosen = chosen.service.name.to_string();
        let backend = weighty.into_iter().find(|one| one.name == chosen);
        let backend = backend.expect(&about);
        assert!(backend.valid && told.outcome == Outcome::Forward, "{about}");
        let headers = &backend.request.headers;
        let seen = headers.get("x-seen").map_or("", |values| &values[0]);
        let (status, text) = crate::read(response).await;
        assert_eq!((status, text), (200, format!("{chosen} {seen}")), "{about}");
    }
}

/// A `Server` of a namespace and what it grants to whom.
fn policy(namespace: &str, random: &mut Rng) -> String {
    let default = ["deny", "all-authenticated", "all-unauthenticated", "audit"];
    let default = default[random.usize(..4)];
    let mut yaml = service("api", namespace);
    write!(
        yaml,
        "---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\n\
         metadata: {{ name: api, namespace: {namespace} }}\n\
         spec: {{ podSelector: {{}}, port: 80, accessPolicy: {default} }}\n"
    )
    .expect("a string");
    for account in ["web", "ops"] {
        if random.bool() {
            write!(
                yaml,
                "---\napiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\n\
                 metadata: {{ name: {account}, namespace: {namespace} }}\nspec:\n  \
                 targetRef: {{ group: policy.linkerd.io, kind: Server, name: api }}\n  \
                 requiredAuthenticationRefs: [{{ kind: ServiceAccount, name: {account}, namespace: shop }}]\n"
            )
            .expect("a string");
        }
    }
    yaml
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explanation_says_whom_servers_let_in() {
    const SERVERS: usize = 12;
    let mut random = Rng::with_seed(3);
    let names: Vec<_> = (0..SERVERS).map(|number| format!("n{number}")).collect();
    let policies = names.iter().map(|name| policy(name, &mut random));
    let yaml: String = policies.collect();
    let offline = offline(&yaml);
    let mesh = TestMesh::start().await.expect("a mesh");
    mesh.apply(&yaml).await.expect("policies");
    let mut served = Vec::new();
    for name in &names {
        let app = named("api", &Handled::default());
        let (identity, address) = (format!("{name}/api"), format!("api.{name}"));
        let one = mesh.serve(&identity, &address, app).await;
        served.push(one.expect("it serves"));
    }
    let mut verdicts = [0; 3];
    for account in ["web", "ops", "other"] {
        let process = mesh
            .join(&format!("shop/{account}"))
            .await
            .expect("a process");
        let identity = format!("spiffe://mesh.local/ns/shop/sa/{account}");
        let identity: Identity = identity.parse().expect("an identity");
        for name in &names {
            let question = Question {
                to: format!("api.{name}").parse().expect("an address"),
                method: Method::GET,
                path: "/",
                query: "",
                headers: http::HeaderMap::new(),
                client: Some(Caller {
                    identity: Some(&identity),
                    address: [127, 0, 0, 1].into(),
                }),
            };
            let told = offline.explain(&question, "shop");
            let verdict = told.backends[0].authorization.as_ref();
            let verdict = verdict.expect("somebody calls").verdict;
            verdicts[verdict as usize] += 1;
            let expected = if verdict == Verdict::Deny { 403 } else { 200 };
            let (status, text) = get(&process.client(), &format!("http://api.{name}/")).await;
            assert_eq!(status, expected, "{text}\n{told:?}");
            assert_eq!(told.arrives(), status == 200);
        }
    }
    assert!(verdicts.iter().all(|count| *count > 0), "{verdicts:?}");
}
