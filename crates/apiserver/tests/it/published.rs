//! What the server publishes of itself: metrics, health, documents and their caching, and the keys of its tokens.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header::HeaderName};
use http_body_util::BodyExt;
use net::{
    Body,
    server::{Handler, ServeOptions, serve_plain, serve_tls},
    tls::{Identity, Pem, ServerTls, server_config},
};
use sha2::{Digest, Sha512};
use tokio_util::sync::CancellationToken;

use crate::harness::Harness;

/// The value of the one series that has all these labels.
fn series(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let mut found = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    let line = found.next()?;
    assert_eq!(found.next(), None, "{name} {labels:?}");
    line.rsplit(' ').next()?.parse().ok()
}

async fn metrics(server: &Harness) -> String {
    let (code, text) = server.get("/metrics").await;
    assert_eq!(code, StatusCode::OK);
    text.as_str().expect("text").to_owned()
}

#[tokio::test]
async fn requests_are_counted_under_upstreams_names() {
    let server = Harness::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    server.post(maps, r#"{"metadata":{"name":"a"}}"#).await;
    server.post(maps, r#"{"metadata":{"name":"a"}}"#).await;
    server.post(&format!("{maps}?dryRun=All"), r#"{"metadata":{"name":"b"}}"#).await;
    server.get(maps).await;
    server.get(&format!("{maps}/none")).await;
    server.get("/api/v1/nonsense-1").await;
    server.get(&format!("{maps}/a/nonsense-2")).await;
    server.get("/nonsense-3").await;
    server.get("/readyz").await;
    server.call(Method::GET, &format!("{maps}?watch=1&timeoutSeconds=1"), "", "").await;
    let open = server.send(http::Request::get("/api/v1/pods?watch=1").body(Default::default()).expect("request")).await;
    let text = metrics(&server).await;
    let request = |verb, code, dry_run, scope| {
        let labels = [
            ("verb", verb),
            ("code", code),
            ("dry_run", dry_run),
            ("scope", scope),
            ("resource", "configmaps"),
            ("version", "v1"),
            ("component", "apiserver"),
        ];
        series(&text, "apiserver_request_total", &labels)
    };
    assert_eq!(request("POST", "201", "", "resource"), Some(1.0));
    assert_eq!(request("POST", "409", "", "resource"), Some(1.0));
    assert_eq!(request("POST", "201", "All", "resource"), Some(1.0));
    assert_eq!(request("LIST", "200", "", "namespace"), Some(1.0));
    assert_eq!(request("GET", "404", "", "resource"), Some(1.0));
    assert_eq!(request("WATCH", "200", "", "namespace"), Some(1.0));
    let took = [("verb", "POST"), ("resource", "configmaps"), ("dry_run", "")];
    assert_eq!(series(&text, "apiserver_request_duration_seconds_count", &took), Some(2.0));
    let watching =
        |resource| series(&text, "apiserver_longrunning_requests", &[("verb", "WATCH"), ("resource", resource)]);
    assert_eq!((watching("pods"), watching("configmaps")), (Some(1.0), Some(0.0)));
    assert!(series(&text, "apiserver_watch_events_total", &[("resource", "configmaps")]) >= Some(1.0));
    assert_eq!(series(&text, "apiserver_current_inflight_requests", &[("request_kind", "readOnly")]), Some(1.0));
    assert_eq!(series(&text, "apiserver_request_total", &[("subresource", "/readyz")]), Some(1.0));
    assert!(series(&text, "process_resident_memory_bytes", &[]).is_some_and(|bytes| bytes > 1e6));
    assert!(series(&text, "process_start_time_seconds", &[]).is_some());
    assert_eq!(
        series(&text, "apiserver_response_sizes_count", &[("verb", "LIST"), ("resource", "configmaps")]),
        Some(1.0)
    );
    let stored = [("operation", "create"), ("group", ""), ("resource", "configmaps")];
    assert!(series(&text, "etcd_request_duration_seconds_count", &stored) >= Some(1.0));
    assert!(
        series(&text, "apiserver_storage_objects", &[("resource", "clusterroles.rbac.authorization.k8s.io")])
            > Some(10.0)
    );
    assert!(!text.contains("nonsense"), "labels do not come from the request");
    drop(open);
    let labels = [("verb", "WATCH"), ("resource", "pods")];
    assert_eq!(series(&metrics(&server).await, "apiserver_longrunning_requests", &labels), Some(0.0));
}

#[tokio::test]
async fn tokens_are_signed_with_a_published_key() {
    let server = Harness::start().await;
    let (code, configuration) = server.get("/.well-known/openid-configuration").await;
    assert_eq!(code, StatusCode::OK, "{configuration}");
    assert_eq!(configuration["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(configuration["jwks_uri"], "https://192.0.2.1:6443/openid/v1/jwks");
    assert_eq!(configuration["id_token_signing_alg_values_supported"], serde_json::json!(["ES256"]));
    let (_, set) = server.get("/openid/v1/jwks").await;
    let key = &set["keys"][0];
    assert_eq!(
        (&key["kty"], &key["use"], &key["alg"], &key["crv"]),
        (&"EC".into(), &"sig".into(), &"ES256".into(), &"P-256".into())
    );
    let (code, answer) = server.post("/api/v1/namespaces/default/serviceaccounts/default/token", "{}").await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let token = answer["status"]["token"].as_str().expect("a token");
    let header = jsonwebtoken::decode_header(token).expect("header");
    assert_eq!(header.kid.as_deref(), key["kid"].as_str());
    assert!(header.kid.is_some_and(|id| id.len() == 43));
    let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.clone()).expect("a key");
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.validate_aud = false;
    let public = jsonwebtoken::DecodingKey::from_jwk(&jwk).expect("a public key");
    let claims = jsonwebtoken::decode::<serde_json::Value>(token, &public, &validation).expect("a valid token").claims;
    assert_eq!(claims["sub"], "system:serviceaccount:default:default");
}

async fn get(server: &Harness, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    server.send(request.body(Default::default()).expect("request")).await
}

fn header(response: &Response<Body>, name: &'static str) -> String {
    let value = response.headers().get(HeaderName::from_static(name));
    value.map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn aggregated_discovery_is_kept_by_its_tag() {
    let server = Harness::start().await;
    let accept = ("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    for path in ["/api", "/apis"] {
        let first = get(&server, path, &[accept]).await;
        let tag = header(&first, "etag");
        assert_eq!((first.status(), header(&first, "vary").as_str()), (StatusCode::OK, "Accept"), "{path}");
        assert_eq!(header(&first, "cache-control"), "public");
        assert_eq!(tag.len(), 130, "{tag}");
        let again = get(&server, path, &[accept, ("if-none-match", &tag)]).await;
        assert_eq!((again.status(), header(&again, "etag")), (StatusCode::NOT_MODIFIED, tag));
        let other = get(&server, path, &[accept, ("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status(), StatusCode::OK);
        assert_eq!(get(&server, path, &[("accept", "text/plain")]).await.status(), StatusCode::NOT_ACCEPTABLE);
    }
}

#[tokio::test]
async fn documents_of_version_3_are_kept_by_their_hash() {
    let server = Harness::start().await;
    let (_, index) = server.get("/openapi/v3").await;
    for key in ["api/v1", "apis/apps/v1", "apis/apps", "version", ".well-known/openid-configuration"] {
        let url = index["paths"][key]["serverRelativeURL"].as_str().unwrap_or_else(|| panic!("no {key}"));
        let (path, hash) = url.split_once("?hash=").expect("a hash");
        assert_eq!(path, format!("/openapi/v3/{key}"));
        let hashed = get(&server, url, &[]).await;
        assert_eq!((hashed.status(), header(&hashed, "etag")), (StatusCode::OK, format!("\"{hash}\"")), "{key}");
        assert_eq!(header(&hashed, "cache-control"), "public, immutable");
        assert!(header(&hashed, "expires").ends_with(" GMT"), "{key}");
        let written = hashed.into_body().collect().await.expect("a document").to_bytes();
        let digest: String = Sha512::digest(&written).iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(hash, digest, "the document itself is said to never change under its hash");
        let plain = get(&server, path, &[]).await;
        assert_eq!((plain.status(), header(&plain, "expires").as_str()), (StatusCode::OK, ""));
        let stale = get(&server, &format!("{path}?hash=OLD"), &[]).await;
        assert_eq!((stale.status(), header(&stale, "location").as_str()), (StatusCode::MOVED_PERMANENTLY, url));
        let tag = format!("\"{hash}\"");
        assert_eq!(get(&server, path, &[("if-none-match", &tag)]).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get(&server, path, &[("accept", "text/html")]).await.status(), StatusCode::NOT_ACCEPTABLE);
    }
    assert_eq!(get(&server, "/openapi/v2", &[("accept", "text/html")]).await.status(), StatusCode::NOT_ACCEPTABLE);
    let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = get(&server, "/openapi/v2", &[("accept", protobuf)]).await;
    assert_eq!(header(&answer, "content-type"), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let server = Harness::start().await;
    for (path, expected) in [
        ("/healthz", "ok"),
        ("/livez?verbose", "[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n"),
        (
            "/readyz?verbose&exclude=etcd&exclude=none",
            "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n[+]shutdown ok\n\
             warn: some health checks cannot be excluded: no matches for \"none\"\nreadyz check passed\n",
        ),
        ("/readyz/informer-sync", "ok"),
    ] {
        let (code, text) = server.get(path).await;
        assert_eq!((code, text.as_str()), (StatusCode::OK, Some(expected)), "{path}");
    }
    let (code, _) = server.get("/livez/informer-sync").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    let (_, slis) = server.get("/metrics/slis").await;
    let slis = slis.as_str().expect("text");
    assert_eq!(series(slis, "kubernetes_healthcheck", &[("name", "etcd"), ("type", "livez")]), Some(1.0));
    let passed = [("name", "informer-sync"), ("status", "success"), ("type", "readyz")];
    assert_eq!(series(slis, "kubernetes_healthchecks_total", &passed), Some(2.0));
    let (code, status) = server.get("/debug/pprof/heap").await;
    assert_eq!((code, &status["kind"]), (StatusCode::NOT_FOUND, &"Status".into()));
}

#[tokio::test]
async fn a_proxys_root_is_a_directory() {
    let server = Harness::start().await;
    let node = r#"{"metadata":{"name":"n"},"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}]}}"#;
    server.post("/api/v1/nodes", node).await;
    let pod = r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}"#;
    let (code, answer) = server.post("/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let path = "/api/v1/namespaces/default/pods/p";
    let status = r#"{"status":{"phase":"Running","podIP":"127.0.0.1","podIPs":[{"ip":"127.0.0.1"}]}}"#;
    let (code, answer) = server.patch(&format!("{path}/status"), "merge", status).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    for (method, uri, location) in
        [(Method::GET, "/proxy?method=GET", "/proxy/?method=GET"), (Method::HEAD, "/proxy", "/proxy/")]
    {
        let request = Request::builder().method(method).uri(format!("{path}{uri}")).body(Default::default());
        let response = server.send(request.expect("request")).await;
        assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY, "{uri}");
        assert_eq!(header(&response, "location"), format!("{path}{location}"));
    }
    // Everything else is passed on as the client wrote it, over TLS too, whatever the backend's certificate.
    for is_tls in [false, true] {
        let (port, scheme) = (echo(is_tls, server.stop()).await, if is_tls { "https:" } else { "" });
        for (method, rest, reached) in [
            (Method::POST, "?a=b", "POST /?a=b"),
            (Method::OPTIONS, "/", "OPTIONS /"),
            (Method::GET, "/x%20y/%2F/?q=%26", "GET /x%20y/%2F/?q=%26"),
        ] {
            let uri = format!("/api/v1/namespaces/default/pods/{scheme}p:{port}/proxy{rest}");
            let (code, text) = server.call(method, &uri, "", "").await;
            assert_eq!((code, text), (StatusCode::OK, reached.into()), "{uri}");
        }
    }
}

/// A server that answers with the request's method and path.
async fn echo(is_tls: bool, stop: CancellationToken) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let port = listener.local_addr().expect("address").port();
    let handler: Handler = Arc::new(|request| {
        let text = format!("{} {}", request.method(), request.uri());
        Box::pin(std::future::ready(Response::new(net::full(text))))
    });
    if is_tls {
        let made = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).expect("certificate");
        let identity = Identity {
            certificate: Pem::Inline(made.cert.pem().into_bytes().into()),
            key: Pem::Inline(made.signing_key.serialize_pem().into_bytes().into()),
        };
        let tls = server_config(ServerTls { identity, client_cas: Vec::new() }).expect("configuration");
        tokio::spawn(serve_tls(listener, tls, handler, ServeOptions::default(), stop));
    } else {
        tokio::spawn(serve_plain(listener, handler, ServeOptions::default(), stop));
    }
    port
}

#[tokio::test]
async fn components_are_asked_how_they_are() {
    let server = Harness::start().await;
    let (code, list) = server.get("/api/v1/componentstatuses").await;
    assert_eq!((code, &list["kind"]), (StatusCode::OK, &"ComponentStatusList".into()));
    let names: Vec<_> = list["items"].as_array().expect("items").iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["controller-manager", "scheduler", "etcd-0"]);
    let (code, one) = server.get("/api/v1/componentstatuses/etcd-0").await;
    let healthy = serde_json::json!([{"type": "Healthy", "status": "True", "message": "ok"}]);
    assert_eq!((code, &one["conditions"]), (StatusCode::OK, &healthy));
    let (_, none) = server.get("/api/v1/componentstatuses?labelSelector=a").await;
    assert_eq!(none["items"], serde_json::json!([]));
    let table = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let answer = get(&server, "/api/v1/componentstatuses?fieldSelector=metadata.name%3Detcd-0", &[table]).await;
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("body").to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["rows"][0]["cells"], serde_json::json!(["etcd-0", "Healthy", "ok", ""]));
    let (code, status) = server.get("/api/v1/componentstatuses/none").await;
    assert_eq!((code, &status["details"]["name"]), (StatusCode::NOT_FOUND, &"none".into()));
}
