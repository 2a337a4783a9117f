//! Who and what a listener counts.

use super::*;

/// Lines of the text that are samples.
fn samples(recorder: &Recorder) -> usize {
    let text = recorder.render();
    let samples = text.lines().filter(|line| !line.is_empty());
    samples.filter(|line| !line.starts_with('#')).count()
}

#[tokio::test(start_paused = true)]
async fn o11_paths_and_hosts_that_a_client_makes_up_make_no_series() {
    let house = House::serve(echo());
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http1().await;
    let mut before = None;
    for _ in 0..80_000 {
        let made_up = fastrand::u64(..);
        let request = Request::get(format!("/{made_up:x}?{made_up:x}"))
            .header("host", format!("{made_up:x}.shop:{}", 1 + made_up % 60_000))
            .body(Body::empty());
        let response = client.send_request(request.expect("a request")).await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), 200);
        text(response).await;
        client.ready().await.expect("the connection lives");
        before.get_or_insert_with(|| samples(&house.recorder));
    }
    assert_eq!(Some(samples(&house.recorder)), before);
}

#[tokio::test(start_paused = true)]
async fn verdicts_and_connections_are_counted_with_their_server_and_object() {
    let house = House::serve(echo());
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http1().await;
    let sent = |path| get(path).body(Body::empty()).expect("a request");
    text(client.send_request(sent("/")).await.expect("an answer")).await;
    house.govern(Vec::new());
    client.ready().await.expect("the connection lives");
    let refused = client.send_request(sent("/")).await.expect("an answer");
    assert_eq!(refused.status(), 403);
    let metrics = house.recorder.render();
    let who = r#"namespace="shop",deployment="api",pod="api-1",direction="inbound",target_addr="127.0.0.1:8080",target_ip="127.0.0.1",target_port="8080""#;
    let tls = r#"tls="no_identity",no_tls_reason="no_tls_from_remote""#;
    let server = r#"srv_group="",srv_kind="default",srv_name="some-server",srv_port="80""#;
    let route = r#"route_group="",route_kind="default",route_name="default""#;
    let authz = r#"authz_group="policy.linkerd.io",authz_kind="authorizationpolicy",authz_name="some-policy""#;
    for line in [
        format!("inbound_http_authz_allow_total{{{who},{tls},{server},{route},{authz}}} 1"),
        format!("inbound_http_authz_deny_total{{{who},{tls},{server},{route}}} 1"),
        format!("tcp_open_total{{{who},peer=\"src\",{tls},{server}}} 1"),
    ] {
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
}
