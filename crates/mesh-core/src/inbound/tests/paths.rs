//! One spelling of a path, whatever was sent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Answers with the target that the application sees.
fn house() -> House {
    let app = tower::service_fn(|request: Request<Body>| async move {
        Ok::<_, Infallible>(Response::new(Body::from(request.uri().to_string())))
    });
    let house = House::serve(app);
    house.govern(vec![ClientPlan::Anyone]);
    house
}

/// Status and body of the answer to a head as it stands.
async fn raw(house: &House, line: &str) -> (String, String) {
    let mut pipe = house.connect().await;
    let head = format!("{line} HTTP/1.1\r\nhost: api.shop\r\nconnection: close\r\n\r\n");
    pipe.write_all(head.as_bytes()).await.expect("a pipe");
    let mut answer = String::new();
    pipe.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    (status, body.to_owned())
}

#[tokio::test(start_paused = true)]
async fn z04_the_application_sees_the_one_spelling_over_http1() {
    let house = house();
    for (line, expected) in [
        ("GET /%61dmin", "/admin"),
        ("GET //admin//x?y=//%61", "/admin/x?y=//%61"),
        ("GET http://api.shop/%61dmin", "http://api.shop/admin"),
        ("GET /admin#x", "/admin"),
        ("GET /%252e%252e/admin", "/%252e%252e/admin"),
    ] {
        let (status, body) = raw(&house, line).await;
        assert_eq!(
            (status.as_str(), body.as_str()),
            ("200", expected),
            "{line}"
        );
    }
    let before = house.calls();
    for line in [
        "GET /x/../admin",
        "GET /x/%2e%2E/admin",
        "GET /x%2f..%2fadmin",
        "GET /admin%00",
        "GET /%zz",
        "GET /x\\admin",
        "OPTIONS *",
        "CONNECT api.shop:80",
        "GET admin",
    ] {
        assert_eq!(raw(&house, line).await.0, "400", "{line}");
    }
    assert_eq!(
        house.calls(),
        before,
        "none of them reached the application"
    );
}

#[tokio::test(start_paused = true)]
async fn z04_the_application_sees_the_one_spelling_over_http2() {
    let house = house();
    let mut client = house.http2().await;
    for (path, status, expected) in [
        ("/%61dmin", 200, "http://api.shop/admin"),
        ("//admin", 200, "http://api.shop/admin"),
        ("/x/../admin", 400, ""),
        ("/x/%2e%2e/admin", 400, ""),
        ("/admin%5c", 400, ""),
    ] {
        let request = get(path).body(Body::empty()).expect("a request");
        let response = client.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(text(response).await, expected, "{path}");
    }
}
