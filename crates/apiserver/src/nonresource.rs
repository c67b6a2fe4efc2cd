//! Paths that name no resource: health, version, discovery, OpenAPI, keys for service account tokens.

use std::sync::Arc;

use api::{Status, discovery};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use net::Body;
use parking_lot::Mutex;

use crate::{
    Server,
    auth::UserInfo,
    negotiate::{Accept, Format},
    request::{Query, RequestInfo},
    rest::{Answer, respond, respond_json},
};

/// Documents that are made once and kept, compressed where they are large.
#[derive(Default)]
pub(crate) struct Documents {
    made: Mutex<std::collections::HashMap<String, Document>>,
}

#[derive(Clone)]
struct Document {
    body: Bytes,
    etag: String,
    gzip: bool,
}

pub(crate) async fn serve(server: &Arc<Server>, info: &RequestInfo, query: &Query, _user: &UserInfo, request: Request<Body>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Status::failure(api::status::Reason::MethodNotAllowed, "the server does not allow this method on the requested resource"));
    }
    let path = info.path.trim_end_matches('/');
    match path {
        "/healthz" | "/livez" | "/readyz" => health(server, path, query).await,
        "/version" => json(&version(server)),
        "/openid/v1/jwks" | "/.well-known/openid-configuration" => Err(Status::no_such_resource()),
        "" => json(&serde_json::json!({"paths": root_paths(server)})),
        _ => match path.strip_prefix("/healthz/").or_else(|| path.strip_prefix("/livez/")).or_else(|| path.strip_prefix("/readyz/")) {
            Some(check) => single_check(server, check).await,
            None => document(server, path, query, &request),
        },
    }
}

fn json(value: &serde_json::Value) -> Answer {
    let text = serde_json::to_vec_pretty(value).map_err(Status::internal)?;
    respond_json(StatusCode::OK, Format::Json, text.into())
}

fn version(server: &Server) -> serde_json::Value {
    let git = &server.config.git_version;
    let mut numbers = git.trim_start_matches('v').split('.');
    serde_json::json!({
        "major": numbers.next().unwrap_or_default(),
        "minor": numbers.next().unwrap_or_default(),
        "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": git,
        "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "rust", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other }),
    })
}

fn root_paths(server: &Server) -> Vec<String> {
    let mut paths: Vec<String> =
        ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"].map(str::to_owned).to_vec();
    for group in server.resources.load().groups.iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.name)));
    }
    paths.sort();
    paths
}

/// Checks by name, with what went wrong.
async fn checks(server: &Server) -> Vec<(&'static str, Result<(), String>)> {
    let store = server.store.revision().await.map(|_| ()).map_err(|error| error.to_string());
    let fed = server.cache.wait_until_current().await.map_err(|error| error.to_string());
    vec![("ping", Ok(())), ("etcd", store), ("watch-cache", fed)]
}

async fn health(server: &Server, path: &str, query: &Query) -> Answer {
    let mut lines = String::new();
    let mut failed = false;
    for (name, result) in checks(server).await {
        if query.all("exclude").iter().any(|excluded| excluded == name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match result {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(error) => {
                failed = true;
                tracing::warn!(check = name, error, "health check failed");
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    let name = path.trim_start_matches('/');
    if failed {
        return respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", format!("{lines}{name} check failed\n"));
    }
    let verbose = query.get("verbose").is_some();
    let text = if verbose { format!("{lines}{name} check passed\n") } else { "ok".to_owned() };
    respond(StatusCode::OK, "text/plain; charset=utf-8", text)
}

async fn single_check(server: &Server, name: &str) -> Answer {
    match checks(server).await.into_iter().find(|(check, _)| *check == name) {
        Some((_, Ok(()))) => respond(StatusCode::OK, "text/plain; charset=utf-8", "ok"),
        Some((_, Err(_))) => respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", "internal server error: reason withheld\n"),
        None => Err(Status::no_such_resource()),
    }
}

/// Whether a client can read the aggregated document in version 2. Those that know `v2beta1` alone get the classic ones.
fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').any(|clause| {
        let has = |wanted: &str| clause.split(';').any(|parameter| parameter.trim() == wanted);
        has("as=APIGroupDiscoveryList") && has("v=v2")
    })
}

/// Discovery and OpenAPI, made on first use.
fn document(server: &Server, path: &str, _query: &Query, request: &Request<Body>) -> Answer {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let aggregated = wants_aggregated(accept);
    let key = if aggregated && matches!(path, "/api" | "/apis") { format!("{path};aggregated") } else { path.to_owned() };
    let known = server.documents.made.lock().get(&key).cloned();
    let document = match known {
        Some(document) => document,
        None => {
            let made = make(server, path, aggregated)?;
            server.documents.made.lock().insert(key, made.clone());
            made
        }
    };
    answer(&document, path, aggregated, request)
}

fn make(server: &Server, path: &str, aggregated: bool) -> Result<Document, Status> {
    let table = server.resources.load();
    if let Some(rest) = path.strip_prefix("/openapi/") {
        return pack(openapi(server, &table, rest)?);
    }
    let value = match path {
        "/api" if aggregated => discovery::aggregated(&table, true),
        "/apis" if aggregated => discovery::aggregated(&table, false),
        "/api" => discovery::core_versions(&table, &format!("{}:{}", server.config.advertise_address, server.config.secure_port)),
        "/apis" => discovery::groups(&table),
        _ => match path.split('/').collect::<Vec<_>>()[..] {
            ["", "api", version] => discovery::resources(&table, "", version).ok_or_else(Status::no_such_resource)?,
            ["", "apis", group] => discovery::group(&table, group).ok_or_else(Status::no_such_resource)?,
            ["", "apis", group, version] => discovery::resources(&table, group, version).ok_or_else(Status::no_such_resource)?,
            _ => return Err(Status::failure(api::status::Reason::NotFound, "the server could not find the requested resource").with_details(Default::default())),
        },
    };
    pack(value.to_json())
}

fn openapi(server: &Server, table: &api::ResourceTable, rest: &str) -> Result<Vec<u8>, Status> {
    match rest {
        "v2" => Ok(api::openapi::v2(table, server.model)),
        // The built-in API changes with the binary, so its version tells whether a document that a client keeps is still good.
        "v3" => Ok(api::openapi::v3_index(table, |key| digest(format!("{} {key}", env!("CARGO_PKG_VERSION")).as_bytes())).to_json()),
        _ => rest
            .strip_prefix("v3/")
            .and_then(|key| api::openapi::v3(table, server.model, key))
            .ok_or_else(Status::no_such_resource),
    }
}

fn pack(json: Vec<u8>) -> Result<Document, Status> {
    let etag = format!("\"{}\"", digest(&json));
    let gzip = json.len() > 64 << 10;
    let body = if gzip { compress(&json)? } else { Bytes::from(json) };
    Ok(Document { body, etag, gzip })
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha512};
    Sha512::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect()
}

fn compress(bytes: &[u8]) -> Result<Bytes, Status> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).map_err(Status::internal)?;
    encoder.finish().map(Bytes::from).map_err(Status::internal)
}

fn decompress(bytes: &[u8]) -> Result<Bytes, Status> {
    use std::io::Read;
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).map_err(Status::internal)?;
    Ok(out.into())
}

fn answer(document: &Document, path: &str, aggregated: bool, request: &Request<Body>) -> Answer {
    let header = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content_type = if aggregated && matches!(path, "/api" | "/apis") {
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    } else {
        "application/json"
    };
    let mut response = Response::builder().header(header::ETAG, &document.etag).header(header::VARY, "Accept").header(header::CONTENT_TYPE, content_type);
    if header(header::IF_NONE_MATCH).split(',').any(|tag| tag.trim() == document.etag) {
        return response.status(StatusCode::NOT_MODIFIED).body(net::empty()).map_err(Status::internal);
    }
    let body = if !document.gzip {
        document.body.clone()
    } else if header(header::ACCEPT_ENCODING).contains("gzip") {
        response = response.header(header::CONTENT_ENCODING, "gzip");
        document.body.clone()
    } else {
        decompress(&document.body)?
    };
    let accept = Accept::negotiate(request.headers()).map_or(Format::Json, |accept| accept.format);
    if accept == Format::Yaml && !document.gzip {
        return respond(StatusCode::OK, accept.content_type(), crate::negotiate::encode(accept, body)?);
    }
    response.body(net::full(body)).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use super::wants_aggregated;

    #[test]
    fn only_version_2_of_the_aggregated_document_is_served() {
        let clause = |version: &str| format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        assert!(wants_aggregated(&format!("{},{},application/json", clause("v2"), clause("v2beta1"))));
        assert!(!wants_aggregated(&format!("{},application/json", clause("v2beta1"))));
        assert!(!wants_aggregated("application/json"));
    }
}
