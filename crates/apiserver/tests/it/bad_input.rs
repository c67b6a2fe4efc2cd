//! Bad input gets a Status with the right code, and the server goes on.

use http::{Method, StatusCode};

use crate::harness::Harness;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

struct Case {
    name: &'static str,
    method: &'static str,
    path: String,
    content_type: &'static str,
    body: String,
    code: u16,
    reason: &'static str,
    /// Part of the message.
    says: &'static str,
}

fn case(
    name: &'static str,
    method: &'static str,
    path: impl Into<String>,
    content_type: &'static str,
    body: impl Into<String>,
    code: u16,
    reason: &'static str,
    says: &'static str,
) -> Case {
    Case { name, method, path: path.into(), content_type, body: body.into(), code, reason, says }
}

const JSON: &str = "application/json";

fn cases() -> Vec<Case> {
    let post = |name, body: &str, code, reason, says| case(name, "POST", MAPS, JSON, body, code, reason, says);
    let long = "a".repeat(254);
    vec![
        post("empty body", "", 400, "BadRequest", "empty"),
        post("not JSON", "hello", 400, "BadRequest", "not a JSON object"),
        post("cut off", r#"{"metadata":{"name":"a""#, 400, "BadRequest", "unexpected end"),
        post("a list", "[]", 400, "BadRequest", "not a JSON object"),
        post(
            "wrong type",
            r#"{"metadata":{"name":7}}"#,
            400,
            "BadRequest",
            "cannot unmarshal number 7 into field metadata.name of type string",
        ),
        post("data that is no map", r#"{"metadata":{"name":"a"},"data":["x"]}"#, 400, "BadRequest", "of type map"),
        post(
            "wrong kind",
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#,
            400,
            "BadRequest",
            "cannot be handled as a ConfigMap",
        ),
        post(
            "wrong version",
            r#"{"kind":"ConfigMap","apiVersion":"v2","metadata":{"name":"a"}}"#,
            400,
            "BadRequest",
            "does not match the expected API version",
        ),
        post("no name", "{}", 422, "Invalid", "name or generateName is required"),
        post("bad name", r#"{"metadata":{"name":"A_b"}}"#, 422, "Invalid", "RFC 1123 subdomain"),
        post(
            "long name",
            &format!(r#"{{"metadata":{{"name":"{long}"}}}}"#),
            422,
            "Invalid",
            "must be no more than 253",
        ),
        post("bad label", r#"{"metadata":{"name":"a","labels":{"a b":"c"}}}"#, 422, "Invalid", "metadata.labels"),
        post("bad label value", r#"{"metadata":{"name":"a","labels":{"a":"b c"}}}"#, 422, "Invalid", "valid label"),
        post(
            "other namespace",
            r#"{"metadata":{"name":"a","namespace":"b"}}"#,
            400,
            "BadRequest",
            "does not match the namespace",
        ),
        post(
            "a version on create",
            r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#,
            400,
            "BadRequest",
            "resourceVersion should not be set",
        ),
        post(
            "nested too deep",
            &format!("{}{}", r#"{"metadata":"#.repeat(10_000), "1"),
            400,
            "BadRequest",
            "max depth",
        ),
        post(
            "too many bytes",
            &format!(r#"{{"metadata":{{"name":"a"}},"data":{{"k":"{}"}}}}"#, "x".repeat(3 << 20)),
            413,
            "RequestEntityTooLarge",
            "limit is 3145728",
        ),
        post(
            "too much data",
            &format!(r#"{{"metadata":{{"name":"a"}},"data":{{"k":"{}"}}}}"#, "x".repeat((1 << 20) + 1)),
            422,
            "Invalid",
            "Too long",
        ),
        post("bad base64", r#"{"metadata":{"name":"a"},"binaryData":{"k":"%%%"}}"#, 400, "BadRequest", "base64"),
        case(
            "strict",
            "POST",
            format!("{MAPS}?fieldValidation=Strict"),
            JSON,
            r#"{"metadata":{"name":"a","nope":1},"data":{},"data":{}}"#,
            400,
            "BadRequest",
            r#"strict decoding error: unknown field "metadata.nope", duplicate field "data""#,
        ),
        case(
            "unknown field validation",
            "POST",
            format!("{MAPS}?fieldValidation=No"),
            JSON,
            r#"{"metadata":{"name":"a"}}"#,
            422,
            "Invalid",
            "fieldValidation",
        ),
        case("malformed YAML", "POST", MAPS, "application/yaml", "a: [b", 400, "BadRequest", "yaml"),
        case("YAML that is no mapping", "POST", MAPS, "application/yaml", "- a", 400, "BadRequest", "mapping"),
        case("unknown media type", "POST", MAPS, "text/csv", "a,b", 415, "UnsupportedMediaType", "application/json"),
        case(
            "unknown group",
            "GET",
            "/apis/nope/v1/things",
            JSON,
            "",
            404,
            "NotFound",
            "could not find the requested resource",
        ),
        case(
            "unknown resource",
            "GET",
            "/api/v1/things",
            JSON,
            "",
            404,
            "NotFound",
            "could not find the requested resource",
        ),
        case("unknown resource", "GET", "/api/v1/nopes", JSON, "", 404, "NotFound", ""),
        case(
            "unknown namespace",
            "POST",
            "/api/v1/namespaces/nope/configmaps",
            JSON,
            r#"{"metadata":{"name":"a"}}"#,
            404,
            "NotFound",
            "namespaces \"nope\" not found",
        ),
        case(
            "bad label selector",
            "GET",
            format!("{MAPS}?labelSelector=%3D%3D"),
            JSON,
            "",
            400,
            "BadRequest",
            "identifier",
        ),
        case("bad field selector", "GET", format!("{MAPS}?fieldSelector=a"), JSON, "", 400, "BadRequest", ""),
        case(
            "unknown field label",
            "GET",
            format!("{MAPS}?fieldSelector=data.k%3Dv"),
            JSON,
            "",
            400,
            "BadRequest",
            "is not a known field selector",
        ),
        case("bad limit", "GET", format!("{MAPS}?limit=x"), JSON, "", 400, "BadRequest", "strconv.ParseInt"),
        case("bad continue", "GET", format!("{MAPS}?continue=x"), JSON, "", 400, "BadRequest", "continue"),
        case("bad version", "GET", format!("{MAPS}?resourceVersion=x"), JSON, "", 400, "BadRequest", "resourceVersion"),
        case(
            "a version from the future",
            "GET",
            format!("{MAPS}?resourceVersion=999999999"),
            JSON,
            "",
            504,
            "Timeout",
            "Too large resource version",
        ),
        case(
            "match without version",
            "GET",
            format!("{MAPS}?resourceVersionMatch=Exact"),
            JSON,
            "",
            422,
            "Invalid",
            "resourceVersionMatch",
        ),
        case(
            "patch of nothing",
            "PATCH",
            format!("{MAPS}/nope"),
            "application/merge-patch+json",
            "{}",
            404,
            "NotFound",
            "not found",
        ),
        case(
            "patch without a type",
            "PATCH",
            format!("{MAPS}/kube-root-ca.crt"),
            JSON,
            "{}",
            415,
            "UnsupportedMediaType",
            "json-patch",
        ),
        case(
            "pod without containers",
            "POST",
            PODS,
            JSON,
            r#"{"metadata":{"name":"a"},"spec":{}}"#,
            422,
            "Invalid",
            "spec.containers: Required value",
        ),
        case(
            "number out of range",
            "POST",
            PODS,
            JSON,
            r#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":99999999999}]}]}}"#,
            400,
            "BadRequest",
            "of type int32",
        ),
        case(
            "bad quantity",
            "POST",
            PODS,
            JSON,
            r#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"much"}}}]}}"#,
            400,
            "BadRequest",
            "quantities must match",
        ),
        case(
            "unknown service account",
            "POST",
            PODS,
            JSON,
            r#"{"metadata":{"name":"a"},"spec":{"serviceAccountName":"nope","containers":[{"name":"c","image":"i"}]}}"#,
            403,
            "Forbidden",
            "serviceaccount \"nope\" not found",
        ),
        case(
            "a namespace that stays",
            "DELETE",
            "/api/v1/namespaces/default",
            JSON,
            "",
            403,
            "Forbidden",
            "this namespace may not be deleted",
        ),
        case(
            "delete options that are none",
            "DELETE",
            format!("{MAPS}/a"),
            JSON,
            r#"{"propagationPolicy":"Sideways"}"#,
            422,
            "Invalid",
            "propagationPolicy",
        ),
        case("a verb that is not there", "PUT", MAPS, JSON, "{}", 405, "MethodNotAllowed", ""),
    ]
}

#[tokio::test]
async fn every_case_is_refused_with_a_status() {
    let server = Harness::start().await;
    for case in cases() {
        let method: Method = case.method.parse().expect("method");
        let (code, answer) = server.call(method, &case.path, case.content_type, case.body).await;
        assert_eq!(code.as_u16(), case.code, "{}: {answer}", case.name);
        assert_eq!(answer["kind"], "Status", "{}: {answer}", case.name);
        assert_eq!(answer["reason"], case.reason, "{}: {answer}", case.name);
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(case.says), "{}: {message}", case.name);
    }
    assert_eq!(server.get("/nope").await, (StatusCode::NOT_FOUND, "404 page not found\n".into()));
    assert_eq!(server.get("/readyz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn warnings_name_what_was_dropped() {
    let server = Harness::start().await;
    let request =
        http::Request::post(MAPS).header("content-type", JSON).body(r#"{"metadata":{"name":"a"},"nope":1}"#.into());
    let response = server.send(request.expect("request")).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["warning"], r#"299 - "unknown field \"nope\"""#);
}
