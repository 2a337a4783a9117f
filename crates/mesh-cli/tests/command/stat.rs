//! `mesh stat`: what callers report, as a table and as JSON.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use mesh_core::{Body, BoxError};
use mesh_test::TestMesh;
use serde_json::Value;

use crate::{admin, alone};

/// 500 to `/fail`.
async fn answer(request: Request<Body>) -> Result<Response<Body>, BoxError> {
    let mut response = Response::new(Body::from("x"));
    if request.uri().path() == "/fail" {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_shows_what_its_callers_saw() {
    let mesh = TestMesh::start().await.expect("a mesh");
    let app = tower::service_fn(answer);
    let served = mesh.serve("shop/api", "api.shop", app).await;
    let _served = served.expect("it serves");
    let web = mesh.join("shop/web").await.expect("it joins");
    let client = web.client();
    for number in 0..40 {
        let path = if number % 4 == 0 { "/fail" } else { "/" };
        let request = Request::get(format!("http://api.shop{path}"));
        let request = request.body(Body::empty()).expect("a request");
        let response = client.send(request).await.expect("an answer");
        mesh_test::text(response).await.expect("a body");
    }
    let row = async |more: &[&str]| {
        let stat = ["stat", "-n", "shop", "-o", "json"];
        let text = admin(&mesh, &[&stat[..], more].concat()).await.ok();
        let rows: Value = serde_json::from_str(&text).expect("JSON");
        rows[0].clone()
    };
    // The window is of whole slots of 10 s and the one that has begun.
    let few = 40.0 / 70.0;
    let told = async || row(&[]).await["rps"].as_f64().filter(|rps| *rps >= few);
    let limit = Duration::from_secs(20);
    let all_told = async { while told().await.is_none() {} };
    let in_time = tokio::time::timeout(limit, all_told).await;
    in_time.expect("processes report every few seconds");

    let all = row(&["svc/api"]).await;
    assert_eq!(all["kind"], "service");
    assert_eq!(all["meshed"], "1/1");
    assert_eq!(all["success"], 0.75);
    assert!(all["latency_ms_p99"].as_u64().expect("a number") >= 1);
    assert_eq!(row(&["--from", "svc/api"]).await["success"], Value::Null);
    assert_eq!(row(&["--to", "api"]).await["success"], Value::Null);
    // By the service account, and as itself, also once it is gone.
    let identity = "spiffe://mesh.local/ns/shop/sa/web";
    for from in ["shop/web", identity] {
        assert_eq!(row(&["--from", from]).await["success"], 0.75, "{from}");
    }
    assert_eq!(all["counted_by"], "callers");
    assert_eq!(all["callers"][0]["identity"], identity);
    let table = admin(&mesh, &["stat", "svc", "-A"]).await.ok();
    let mut lines = table.lines().map(|line| line.split_whitespace());
    let head = lines.next().expect("a head").collect::<Vec<_>>().join(" ");
    let columns = "NAME MESHED SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 TCP_CONN";
    assert_eq!(head, format!("NAMESPACE {columns}"));
    let cells: Vec<&str> = lines.next().expect("a row").collect();
    assert_eq!(cells[..4], ["shop", "api", "1/1", "75.00%"]);
    assert!(["0.6rps", "0.7rps"].contains(&cells[4]), "{table}");
    let none = admin(&mesh, &["stat", "svc/nobody"]).await;
    assert_eq!(none.err.trim(), "No traffic found.");
}

#[tokio::test]
async fn what_stat_does_not_know_is_wrong_usage_and_says_what_it_knows() {
    for arguments in [
        &["stat", "httproute"][..],
        &["stat", "server/api"],
        &["stat", "deploy"],
        &["stat", "nonsense"],
    ] {
        let error = alone(arguments).await.ends(64);
        assert!(error.contains("svc/NAME"), "{error}");
        assert!(
            !error.contains("httproutes"),
            "kinds that stat refuses too: {error}"
        );
    }
    alone(&["stat", "-t", "60"]).await.ends(64);
}
