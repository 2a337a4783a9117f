use std::fmt;

use http_body_util::BodyExt;

use super::*;
use crate::layers::deadline::Late;

#[derive(Debug)]
struct Wrapped(Late);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call failed")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn a_cause_is_found_by_type_behind_other_errors() {
    assert_eq!(Cause::of(&Wrapped(Late)), Cause::Late);
    assert_eq!(Cause::of(&fmt::Error), Cause::Internal);
}

#[tokio::test]
async fn a_stranger_learns_the_status_and_nothing_else() {
    let answer = respond(&Late, Protocol::Http, Audience::Stranger);
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(answer.headers().is_empty());
    let body = answer.into_body().collect().await.expect("in memory");
    assert!(body.to_bytes().is_empty());
}

#[tokio::test]
async fn the_application_learns_the_reason_and_the_text() {
    let answer = respond(&Late, Protocol::Http, Audience::Application);
    assert_eq!(answer.headers()["x-mesh-error"], "late");
    let body = answer.into_body().collect().await.expect("in memory");
    assert_eq!(body.to_bytes(), Late.to_string());
}

#[test]
fn a_grpc_caller_gets_its_code_on_a_200() {
    let answer = respond(&Late, Protocol::Grpc, Audience::Peer);
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["grpc-status"], "4");
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    assert_eq!(answer.headers()["x-mesh-error"], "late");
    assert_eq!(answer.headers()["grpc-message"], "late");
}

#[test]
fn a_stranger_who_calls_by_grpc_learns_the_code_and_nothing_else() {
    let answer = respond(&Late, Protocol::Grpc, Audience::Stranger);
    assert_eq!(answer.headers()["grpc-status"], "4");
    let mut names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "grpc-status"]);
}

#[test]
fn grpc_is_known_by_the_whole_word() {
    let of = |kind| {
        let kind = HeaderValue::from_static(kind);
        Protocol::of(&HeaderMap::from_iter([(CONTENT_TYPE, kind)]))
    };
    let parameter = "application/grpc;charset=utf-8";
    for grpc in [GRPC, "application/grpc+proto", parameter] {
        assert_eq!(of(grpc), Protocol::Grpc, "{grpc}");
    }
    for other in ["application/grpcfoo", "application/grpc-web", "text/plain"] {
        assert_eq!(of(other), Protocol::Http, "{other}");
    }
}

#[test]
fn a_message_with_bytes_that_no_header_holds_is_escaped() {
    assert_eq!(percent_encode("50% ä\n"), "50%25 %C3%A4%0A");
}
