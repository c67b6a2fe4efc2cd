//! Protobuf says what JSON says: objects, lists, watches, failures, discovery, and writes.

use api::{Model, Value, json, protobuf};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use net::Body;

use crate::harness::Harness;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn get(server: &Harness, path: &str, accept: &str) -> Response<Body> {
    server.send(Request::get(path).header(header::ACCEPT, accept).body(Bytes::new()).expect("request")).await
}

async fn bytes(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.expect("body").to_bytes()
}

fn content_type(response: &Response<Body>) -> String {
    response.headers()[header::CONTENT_TYPE].to_str().expect("text").to_owned()
}

fn decode(message: &[u8]) -> Value {
    protobuf::decode(Model::builtin(), None, message).expect("a message")
}

/// What Go makes of a document: members that say nothing are gone.
fn plain(json: &[u8]) -> Value {
    let tree = json::parse(json).expect("JSON");
    decode(&protobuf::encode(Model::builtin(), &tree).expect("a known kind"))
}

async fn objects(server: &Harness) {
    for name in ["a", "b"] {
        let body =
            format!(r#"{{"metadata":{{"name":"{name}","labels":{{"x":"{name}"}}}},"data":{{"z":"1","k":"v"}}}}"#);
        assert_eq!(server.post(MAPS, &body).await.0, StatusCode::CREATED);
    }
    // Large enough to be sent as chunks of its own.
    let large = format!(r#"{{"metadata":{{"name":"large"}},"data":{{"k":"{}"}}}}"#, "v".repeat(200_000));
    assert_eq!(server.post(MAPS, &large).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn every_read_says_the_same_in_both() {
    let server = Harness::start().await;
    objects(&server).await;
    let metadata = "as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let discovery = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (path, form) in [
        (format!("{MAPS}/a"), ""),
        (MAPS.to_owned(), ""),
        (format!("{MAPS}?limit=1"), ""),
        (format!("{MAPS}?labelSelector=x%3Db"), ""),
        (format!("{MAPS}?labelSelector=x%3Dnone"), ""),
        ("/api/v1/namespaces".into(), ""),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles".into(), ""),
        ("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas".into(), ""),
        (MAPS.into(), metadata),
        (format!("{MAPS}/a"), "as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
        (format!("{MAPS}/none"), ""),
        ("/apis/none/v1/things".into(), ""),
        ("/api".into(), ""),
        ("/apis".into(), ""),
        ("/apis/apps".into(), ""),
        ("/apis/apps/v1".into(), ""),
        ("/apis".into(), discovery),
    ] {
        let wish = |media: &str| if form.is_empty() { media.to_owned() } else { format!("{media};{form}") };
        let as_json = get(&server, &path, &wish("application/json")).await;
        for _ in ["made", "kept"] {
            let as_protobuf = get(&server, &path, &format!("{},application/json", wish(PROTOBUF))).await;
            assert_eq!(as_protobuf.status(), as_json.status(), "{path}");
            assert!(content_type(&as_protobuf).starts_with(PROTOBUF), "{path}: {}", content_type(&as_protobuf));
            let message = bytes(as_protobuf).await;
            let expected = bytes(get(&server, &path, &wish("application/json")).await).await;
            assert_eq!(decode(&message), plain(&expected), "{path}");
            assert_eq!(
                message,
                protobuf::encode(Model::builtin(), &json::parse(&expected).expect("JSON")).expect("message"),
                "{path}"
            );
        }
    }
    let table = get(&server, MAPS, &format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1")).await;
    assert_eq!(table.status(), StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn writes_are_taken_and_answered() {
    let server = Harness::start().await;
    let send = async |method: Method, path: &str, content_type: &str, body: Vec<u8>| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, PROTOBUF);
        let response = server.send(request.body(body.into()).expect("request")).await;
        (response.status(), decode(&bytes(response).await))
    };
    let message =
        |text: &str| protobuf::encode(Model::builtin(), &json::parse(text.as_bytes()).expect("JSON")).expect("message");
    let map = message(r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"p"},"data":{"a":"1"}}"#);
    let (code, created) = send(Method::POST, MAPS, PROTOBUF, map.clone()).await;
    assert_eq!((code, created.str_at(&["data", "a"])), (StatusCode::CREATED, "1"));
    let (code, again) = send(Method::POST, MAPS, PROTOBUF, map).await;
    assert_eq!(
        (code, again.str_at(&["kind"]), again.str_at(&["reason"])),
        (StatusCode::CONFLICT, "Status", "AlreadyExists")
    );
    let (_, patched) =
        send(Method::PATCH, &format!("{MAPS}/p"), "application/merge-patch+json", br#"{"data":{"a":"2"}}"#.to_vec())
            .await;
    assert_eq!(patched.str_at(&["data", "a"]), "2");
    let stale = message(r#"{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"other"}}"#);
    let (code, refused) = send(Method::DELETE, &format!("{MAPS}/p"), PROTOBUF, stale).await;
    assert_eq!((code, refused.str_at(&["reason"])), (StatusCode::CONFLICT, "Conflict"));
    let (code, gone) = send(Method::DELETE, &format!("{MAPS}/p"), PROTOBUF, Vec::new()).await;
    assert_eq!((code, gone.str_at(&["status"]), gone.str_at(&["details", "name"])), (StatusCode::OK, "Success", "p"));
}

/// The events that fill a stream of frames, each a WatchEvent behind its length.
fn events(mut stream: &[u8]) -> Vec<(String, Value)> {
    let model = Model::builtin();
    let ty = model.find("meta.v1.WatchEvent").expect("a type");
    let mut found = Vec::new();
    while let Some((length, rest)) = stream.split_at_checked(4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let (frame, rest) = rest.split_at(length);
        stream = rest;
        // type = 1 and object = 2 { raw = 1 }: the object is what begins as every message does.
        let at = frame.windows(4).position(|part| part == protobuf::MAGIC).expect("an enveloped object");
        let kind = protobuf::decode(model, Some(ty), &protobuf::envelope("", "", &frame[..usize::from(frame[1]) + 2]))
            .expect("a type");
        found.push((kind.str_at(&["type"]).to_owned(), decode(&frame[at..])));
    }
    found
}

#[tokio::test]
async fn watches_are_frames_behind_their_length() {
    let server = Harness::start().await;
    objects(&server).await;
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    );
    let accept = format!("{PROTOBUF};stream=watch");
    let response = get(&server, &path, &accept).await;
    assert_eq!(content_type(&response), accept);
    let reading = bytes(response);
    let changing = async {
        server.patch(&format!("{MAPS}/a"), "merge", r#"{"data":{"k":"w"}}"#).await;
        server.delete(&format!("{MAPS}/b")).await;
    };
    let (stream, ()) = tokio::join!(reading, changing);
    let seen: Vec<String> = events(&stream)
        .iter()
        .map(|(kind, object)| format!("{kind} {} {}", object.str_at(&["kind"]), object.str_at(&["metadata", "name"])))
        .collect();
    assert_eq!(
        seen,
        [
            "ADDED ConfigMap a",
            "ADDED ConfigMap b",
            "ADDED ConfigMap large",
            "BOOKMARK ConfigMap ",
            "MODIFIED ConfigMap a",
            "DELETED ConfigMap b"
        ]
    );
    let bookmark = &events(&stream)[3].1;
    assert_eq!(bookmark.str_at(&["metadata", "annotations", "k8s.io/initial-events-end"]), "true");
    assert_eq!(events(&stream)[4].1.str_at(&["data", "k"]), "w");
    // Two watchers of the same change get the same bytes.
    let version = bookmark.str_at(&["metadata", "resourceVersion"]);
    let path = format!("{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1");
    let (one, two) = tokio::join!(async { bytes(get(&server, &path, PROTOBUF).await).await }, async {
        bytes(get(&server, &path, PROTOBUF).await).await
    });
    assert_eq!((events(&one).len(), one == two), (2, true));
}

#[tokio::test]
async fn openapi_is_served_as_gnostics_message() {
    let server = Harness::start().await;
    let json = get(&server, "/openapi/v2", "application/json").await;
    let tag = json.headers()[header::ETAG].clone();
    for accept in [
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    ] {
        let response = get(&server, "/openapi/v2", accept).await;
        assert_eq!(content_type(&response), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
        assert_eq!(
            (&response.headers()[header::ETAG], response.headers().contains_key(header::LAST_MODIFIED)),
            (&tag, true)
        );
        let modified = response.headers()[header::LAST_MODIFIED].clone();
        assert!(bytes(response).await.starts_with(b"\n\x032.0\x12"));
        for (name, value) in [(header::IF_NONE_MATCH, &tag), (header::IF_MODIFIED_SINCE, &modified)] {
            let request = Request::get("/openapi/v2").header(header::ACCEPT, accept).header(name, value);
            let response = server.send(request.body(Bytes::new()).expect("request")).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        }
    }
    assert_eq!(get(&server, "/openapi/v2", "text/html").await.status(), StatusCode::NOT_ACCEPTABLE);
}
