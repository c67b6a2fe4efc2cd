//! Reviews: what is asked and answered, and never kept.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::Harness;

const ASK: &str = r#"{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}"#;

async fn ask(server: &Harness, path: &str, accept: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::post(path).header("accept", accept).header("content-type", "application/json");
    let response = server.send(request.body(Bytes::from(body.to_owned())).expect("request")).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.expect("body").to_bytes();
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

#[tokio::test]
async fn an_answer_says_what_it_is() {
    let server = Harness::start().await;
    for (path, kind, body) in [
        ("authorization.k8s.io/v1/selfsubjectaccessreviews", "SelfSubjectAccessReview", ASK),
        (
            "authorization.k8s.io/v1/selfsubjectrulesreviews",
            "SelfSubjectRulesReview",
            r#"{"spec":{"namespace":"default"}}"#,
        ),
        ("authentication.k8s.io/v1/selfsubjectreviews", "SelfSubjectReview", "{}"),
        ("authentication.k8s.io/v1/tokenreviews", "TokenReview", r#"{"spec":{"token":"x"}}"#),
    ] {
        let (code, answer) = ask(&server, &format!("/apis/{path}"), "application/json", body).await;
        assert_eq!(code, StatusCode::CREATED, "{answer}");
        assert_eq!(
            (&answer["kind"], &answer["apiVersion"]),
            (&json!(kind), &json!(path.rsplit_once('/').expect("a path").0))
        );
    }
}

#[tokio::test]
async fn an_answer_is_no_table() {
    let server = Harness::start().await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let (code, answer) = ask(&server, path, table, ASK).await;
    assert_eq!((code, &answer["reason"]), (StatusCode::NOT_ACCEPTABLE, &json!("NotAcceptable")), "{answer}");
    // Whoever takes something else gets that.
    let (code, answer) = ask(&server, path, &format!("{table},application/json"), ASK).await;
    assert_eq!((code, &answer["status"]["allowed"]), (StatusCode::CREATED, &json!(true)), "{answer}");
    let (code, answer) = ask(&server, path, "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", ASK).await;
    assert_eq!((code, &answer["kind"]), (StatusCode::CREATED, &json!("PartialObjectMetadata")), "{answer}");
}
