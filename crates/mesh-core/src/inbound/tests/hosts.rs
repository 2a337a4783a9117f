//! One host, whatever was sent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Answers with the hosts that the application sees, of its URI and of its headers.
fn house() -> House {
    let app = tower::service_fn(|request: Request<Body>| async move {
        let mut seen = vec![request.uri().host().unwrap_or("-").to_owned()];
        let headers = request.headers().get_all("host").iter();
        seen.extend(headers.map(|host| host.to_str().expect("text").to_owned()));
        Ok::<_, Infallible>(Response::new(Body::from(seen.join(" "))))
    });
    let house = House::serve(app);
    house.govern(vec![ClientPlan::Anyone]);
    house
}

/// Status and body of the answer to a head as it stands.
async fn raw(house: &House, head: &str) -> (String, String) {
    let mut pipe = house.connect().await;
    let head = format!("{head}connection: close\r\n\r\n");
    pipe.write_all(head.as_bytes()).await.expect("a pipe");
    let mut answer = Vec::new();
    pipe.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    (status, body.to_owned())
}

#[tokio::test(start_paused = true)]
async fn z08_over_http1_the_application_sees_one_host() {
    let house = house();
    for (head, expected) in [
        ("GET / HTTP/1.1\r\nHost: api.shop\r\n", "- api.shop"),
        ("GET / HTTP/1.1\r\nHost: API.Shop.:80\r\n", "- api.shop:80"),
        (
            "GET http://b.shop/x HTTP/1.1\r\nHost: evil.shop\r\n",
            "b.shop b.shop",
        ),
        ("GET / HTTP/1.0\r\n", "- api.shop"),
        ("GET / HTTP/1.0\r\nHost: b.shop\r\n", "- b.shop"),
    ] {
        let (status, body) = raw(&house, head).await;
        assert_eq!(
            (status.as_str(), body.as_str()),
            ("200", expected),
            "{head}"
        );
    }
    let before = house.calls();
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET http://b.shop/ HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n",
        "GET / HTTP/1.1\r\nHost: api.shop@evil\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n",
        "GET / HTTP/1.1\r\nHost: a\tb\r\n",
        "GET / HTTP/1.1\r\nHost: a:b\r\n",
        "GET http://u:p@b.shop/ HTTP/1.1\r\nHost: b.shop\r\n",
    ] {
        assert_eq!(raw(&house, head).await.0, "400", "{head}");
    }
    assert_eq!(
        house.calls(),
        before,
        "none of them reached the application"
    );
}

#[tokio::test(start_paused = true)]
async fn z08_over_http2_the_application_sees_one_host() {
    let house = house();
    let mut client = house.http2().await;
    for (uri, hosts, expected) in [
        (
            "http://b.shop/",
            &["evil.shop"] as &[_],
            (200, "b.shop b.shop"),
        ),
        ("http://B.Shop./", &[], (200, "b.shop")),
        ("http://b.shop/", &["b.shop"], (200, "b.shop b.shop")),
        ("http://b.shop/", &["b.shop", "b.shop"], (400, "")),
        ("http://b.shop/", &["a b"], (400, "")),
        ("http://u@b.shop/", &[], (400, "")),
    ] {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = client.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        assert_eq!((status, text(response).await.as_str()), expected, "{uri}");
    }
}
