//! What an application may say instead of an answer.

use super::*;

#[tokio::test(start_paused = true)]
async fn p09_what_was_not_processed_is_a_refused_stream_or_503() {
    let app = tower::service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, BoxError>(crate::Unprocessed.into())
    });
    let house = House::serve(app);
    house.govern(vec![ClientPlan::Anyone]);
    let mut client = house.http2().await;
    let request = || get("/").body(Body::empty()).expect("a request");
    let refused = client.send_request(request()).await.expect_err("no answer");
    let source = std::error::Error::source(&refused).expect("a source");
    let reset = source.downcast_ref::<h2::Error>().expect("a reset");
    assert_eq!(reset.reason(), Some(h2::Reason::REFUSED_STREAM));
    let again = client.send_request(request()).await;
    assert!(again.is_err(), "the connection goes on: {again:?}");
    assert_eq!(house.calls(), 2);
    let answer = house.http1().await.send_request(request()).await;
    assert_eq!(answer.expect("an answer").status(), 503);
}
