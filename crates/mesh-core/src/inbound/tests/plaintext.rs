//! Who is let in, what the application sees, and what is counted.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn z01_a_server_that_authorizes_nobody_lets_nobody_in() {
    let house = House::serve(echo());
    house.govern(Vec::new());
    let mut client = house.http1().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 403);
    assert_eq!(house.calls(), 0);
}

#[tokio::test]
async fn z01_a_policy_of_the_applications_own_holds_beside_the_listeners() {
    let answers =
        || tower::service_fn(|_| async { Ok::<_, BoxError>(Response::new(Body::empty())) });
    for (own, status) in [(Vec::new(), 403), (vec![ClientPlan::Anyone], 200)] {
        let own = Arc::new(Policy::compile(&plan(own)));
        let app = tower_layer::Layer::layer(&AuthorizeLayer::new(own), answers());
        let house = House::serve(app);
        house.govern(vec![ClientPlan::Anyone]);
        let mut client = house.http1().await;
        let request = get("/").body(Body::empty()).expect("a request");
        let response = client.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn a_listener_without_a_policy_is_closed() {
    let house = House::serve(echo());
    let mut client = house.http1().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 503);
    assert!(
        !response.headers().contains_key("x-mesh-error"),
        "a stranger is told nothing"
    );
    let newer = serde_json::from_str(r#"{"requires":["inbound/9"],"body":{}}"#);
    let newer: Part<InboundPlan> = newer.expect("an event of a newer discovery");
    house.policy.store(Arc::new(Policy::compile(&newer)));
    let request = get("/").body(Body::empty()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 503);
    assert_eq!(house.calls(), 0);
}

#[tokio::test]
async fn z02_a_denied_request_is_403_or_permission_denied_and_its_body_is_not_read() {
    let house = House::serve(echo());
    house.govern(Vec::new());
    let unread = || {
        let never = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, BoxError>>();
        Body::new(http_body_util::StreamBody::new(never))
    };
    let mut client = house.http2().await;
    let request = get("/").method("POST").body(unread()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 403);

    let mut client = house.http2().await;
    let grpc = get("/")
        .method("POST")
        .header("content-type", "application/grpc+proto");
    let request = grpc.body(unread()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["grpc-status"]
        ),
        (200, &"7".parse().expect("a value"))
    );
    assert_eq!(house.calls(), 0);
}

#[tokio::test]
async fn a_denied_stranger_loses_the_connection_after_its_answer() {
    let house = House::serve(echo());
    house.govern(Vec::new());
    let mut client = house.http1().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(response.headers()["connection"], "close");
    drop(response);
    assert!(client.ready().await.is_err());

    let mut client = house.http2().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 403);
    tokio::time::timeout(Duration::from_secs(10), async {
        while !client.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is closed");
}

#[tokio::test]
async fn z11_forged_identity_headers_never_reach_the_application() {
    let house = House::serve(echo());
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http1().await;
    let request = get("/")
        .header("x-mesh-client-id", "spiffe://mesh.local/ns/shop/sa/admin")
        .header("l5d-client-id", "admin")
        .header("X-Forwarded-Client-Cert", "URI=admin")
        .header("x-mesh-timeout", "1s")
        .header("x-mesh-anything", "1")
        .header("connection", "x-mesh-client-id")
        .header("x-kept", "1");
    let request = request.body(Body::empty()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    let seen: Vec<_> = response
        .headers()
        .keys()
        .filter(|name| name.as_str().starts_with("seen-"))
        .collect();
    assert_eq!(seen, ["seen-host", "seen-x-kept"]);
}

#[tokio::test]
async fn z11_a_trailer_names_nobody_either() {
    let house = House::serve(tower::service_fn(|request: Request<Body>| async {
        let read = request.into_body().collect().await?;
        let names = read.trailers().into_iter().flat_map(http::HeaderMap::keys);
        let names: Vec<_> = names.map(http::HeaderName::as_str).collect();
        Ok::<_, BoxError>(Response::new(Body::from(names.join(" "))))
    }));
    house.govern(vec![ClientPlan::Anyone]);
    let mut trailers = http::HeaderMap::new();
    for name in [
        "x-mesh-client-id",
        "l5d-client-id",
        "x-forwarded-client-cert",
        "x-kept",
    ] {
        trailers.insert(name, "admin".parse().expect("a value"));
    }
    let frames = [
        Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(b"a"))),
        Ok(http_body::Frame::trailers(trailers)),
    ];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let mut client = house.http2().await;
    let request = get("/").body(Body::new(body)).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(text(response).await, "x-kept");
}

#[tokio::test]
async fn a_policy_that_changes_holds_for_the_next_request_of_a_connection() {
    let house = House::serve(echo());
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http1().await;
    let ask = || get("/").body(Body::empty()).expect("a request");
    let response = client.send_request(ask()).await.expect("an answer");
    assert_eq!(response.status(), 200);
    drop(text(response).await);
    house.govern(Vec::new());
    client.ready().await.expect("the connection lives");
    let response = client.send_request(ask()).await.expect("an answer");
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn p16_a_panic_fails_its_request_and_no_other_on_the_connection() {
    let house = House::serve(tower::service_fn(|request: Request<Body>| async move {
        assert_ne!(request.uri().path(), "/panic", "on purpose");
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, Infallible>(Response::new(Body::from("fine")))
    }));
    house.govern(vec![ClientPlan::Anyone]);
    let client = house.http2().await;
    let ask = |path| {
        let mut client = client.clone();
        let request = get(path).body(Body::empty()).expect("a request");
        async move { client.send_request(request).await.expect("an answer") }
    };
    let (fine, panicked) = tokio::join!(ask("/"), ask("/panic"));
    assert_eq!(
        (panicked.status().as_u16(), text(fine).await.as_str()),
        (500, "fine")
    );
    assert!(
        house
            .recorder
            .render()
            .contains("mesh_inbound_panics_total")
    );
    let counted = house.recorder.render();
    assert!(
        counted
            .lines()
            .any(|line| line.starts_with("mesh_inbound_panics_total{") && line.ends_with(" 1"))
    );
}

#[tokio::test]
async fn p16_a_panic_of_a_response_body_is_counted_and_no_success() {
    let house = House::serve(tower::service_fn(|_: Request<Body>| async {
        let frames = || -> Result<http_body::Frame<Bytes>, BoxError> { panic!("on purpose") };
        let body = http_body_util::StreamBody::new(futures_util::stream::repeat_with(frames));
        Ok::<_, Infallible>(Response::new(Body::new(body)))
    }));
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http2().await;
    let request = get("/").body(Body::empty()).expect("a request");
    // The reset of a stream may overtake its head.
    if let Ok(response) = client.send_request(request).await {
        assert!(response.into_body().collect().await.is_err());
    }
    let counted = house.recorder.render();
    assert!(counted.contains(r#"status_code="200",classification="failure""#));
    let panics =
        |line: &str| line.starts_with("mesh_inbound_panics_total{") && line.ends_with(" 1");
    assert!(counted.lines().any(panics), "{counted}");
}

#[tokio::test]
async fn what_a_server_receives_is_counted_with_linkerds_labels() {
    let house = House::serve(echo());
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http1().await;
    for path in ["/a", "/b"] {
        let request = get(path).body(Body::from("hello")).expect("a request");
        client.ready().await.expect("the connection lives");
        let response = client.send_request(request).await.expect("an answer");
        assert_eq!(text(response).await, "hello");
    }
    client.ready().await.expect("the connection lives");
    let counted = house.recorder.render();
    let labels = r#"namespace="shop",deployment="api",pod="api-1",direction="inbound",target_addr="127.0.0.1:8080",target_ip="127.0.0.1",target_port="8080",tls="no_identity",no_tls_reason="no_tls_from_remote",srv_group="",srv_kind="default",srv_name="some-server",srv_port="80",route_group="",route_kind="default",route_name="default",authz_group="policy.linkerd.io",authz_kind="authorizationpolicy",authz_name="some-policy""#;
    for line in [
        format!("request_total{{{labels}}} 2"),
        format!(
            r#"response_total{{{labels},status_code="200",classification="success",grpc_status="",error=""}} 2"#
        ),
        format!(r#"response_latency_ms_count{{{labels},status_code="200"}} 2"#),
    ] {
        assert!(counted.contains(&line), "no {line} in\n{counted}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_requests_finish_and_takes_no_more() {
    let mut house = House::serve(tower::service_fn(|_: Request<Body>| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, Infallible>(Response::new(Body::from("late but whole")))
    }));
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http1().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let slow = tokio::spawn(client.send_request(request));
    let idle = house.http2().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.shut_down();
    let response = slow.await.expect("no panic").expect("an answer");
    assert_eq!(text(response).await, "late but whole");
    let started = tokio::time::Instant::now();
    house.task.await.expect("no panic");
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(idle.is_closed());
    assert!(house.pipes.send(tokio::io::duplex(1).0).await.is_err());
}

#[tokio::test]
async fn an_axum_router_is_served_on_a_socket_until_its_shutdown() {
    let router: axum::Router = axum::Router::new().route(
        "/who",
        axum::routing::get(|peer: Peer| async move { peer.name() }),
    );
    let state = state(no_credentials(), Inbound::Detect);
    state
        .policy
        .store(Arc::new(Policy::compile(&plan(vec![ClientPlan::Anyone]))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (shutdown, told) = oneshot::channel::<()>();
    let told = async { told.await.expect("it is told") };
    let serving = tokio::spawn(serve(listener, router, state, told));
    let socket = tokio::net::TcpStream::connect(address)
        .await
        .expect("it listens");
    let (mut client, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .expect("HTTP/1.1");
    tokio::spawn(connection);
    let request = get("/who").body(Body::empty()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(text(response).await, "127.0.0.1");
    shutdown.send(()).expect("it lives");
    serving
        .await
        .expect("no panic")
        .expect("the socket has an address");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn z19_an_application_cannot_say_who_denied_a_request() {
    let house = House::serve(tower::service_fn(|_: Request<Body>| async {
        let response = Response::builder()
            .header("x-mesh-denied-by", "Server/shop/other; reason=none-fits")
            .header("x-other", "kept");
        Ok::<_, Infallible>(response.body(Body::empty()).expect("a response"))
    }));
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http1().await;
    let request = get("/").body(Body::empty()).expect("a request");
    let response = client.send_request(request).await.expect("an answer");
    assert!(!response.headers().contains_key("x-mesh-denied-by"));
    assert_eq!(response.headers()["x-other"], "kept");
}
