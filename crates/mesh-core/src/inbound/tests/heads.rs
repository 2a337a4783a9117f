//! Heads of clients that do not measure what they send.

use http::HeaderValue;

use super::*;

fn asking(bytes: usize, byte: u8) -> Request<Body> {
    let value = HeaderValue::from_maybe_shared(Bytes::from(vec![byte; bytes])).expect("a value");
    let request = get("/").header("x-long", value).body(Body::empty());
    request.expect("a request")
}

fn house() -> House {
    let app = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::from("fine")))
    });
    let house = House::serve(app);
    house.govern(vec![ClientPlan::Anyone]);
    house
}

/// How often the listener counted an error of a request.
fn counted(house: &House) -> u64 {
    let text = house.recorder.render();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("inbound_http_errors_total"));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test(start_paused = true)]
async fn h06_a_large_head_over_http2_is_431_for_its_stream_alone() {
    let house = house();
    let mut client = house.http2().await;
    for (errors, (bytes, byte, status)) in [
        (60_000, 0xff, 200),
        (65_600, b'x', 431),
        (100_000, b'x', 431),
        (150_000, b'x', 431),
    ]
    .into_iter()
    .enumerate()
    {
        let response = client.send_request(asking(bytes, byte)).await;
        let response = response.expect("the connection lives");
        assert_eq!(response.status(), status, "{bytes}");
        assert_eq!(counted(&house), errors as u64, "{bytes}");
    }
    assert_eq!(house.calls(), 1);
    assert!(!client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn h06_a_large_head_over_http1_is_431() {
    let house = house();
    for (bytes, byte, status) in [
        (64_000, 0xff, 200),
        (65_600, b'x', 431),
        (100_000, b'x', 431),
    ] {
        let response = house.http1().await.send_request(asking(bytes, byte)).await;
        assert_eq!(response.expect("an answer").status(), status, "{bytes}");
    }
    let many = (0..1_000).fold(get("/"), |request, at| {
        request.header(format!("x-{at}"), "1")
    });
    let many = many.body(Body::empty()).expect("a request");
    let response = house.http1().await.send_request(many).await;
    assert_eq!(response.expect("an answer").status(), 431);
    assert_eq!((house.calls(), counted(&house)), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_parser_refuses_is_counted() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let house = house();
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "x".repeat(200_000));
    for (errors, (head, status)) in [
        ("GET /?d={\"a\":1} HTTP/1.1\r\nHost: a\r\n\r\n", " 400 "),
        ("GET /<b> HTTP/1.1\r\nHost: a\r\n\r\n", " 400 "),
        ("GET / HTTP/3.7\r\nHost: a\r\n\r\n", " 400 "),
        (long.as_str(), " 431 "),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand no frame at all",
            "ENHANCE",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut pipe = house.connect().await;
        let sent = pipe.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let read = pipe.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        if errors < 4 {
            assert!(answer.contains(status), "{sent:?} {read:?} {answer}");
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        assert_eq!(counted(&house), errors as u64 + 1, "{head:.40}");
    }
}
