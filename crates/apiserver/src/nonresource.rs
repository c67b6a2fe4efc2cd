//! Paths that name no resource: health, version, discovery, OpenAPI, keys for service account tokens.

mod documents;

use std::sync::Arc;

use api::Status;
use http::{Method, Request, StatusCode, header};
use net::Body;

use crate::{
    Server,
    auth::keyset,
    metrics,
    negotiate::Format,
    request::{Query, RequestInfo},
    rest::{Answer, respond, respond_json},
};

pub(crate) use documents::Documents;

pub(crate) async fn serve(server: &Arc<Server>, info: &RequestInfo, query: &Query, request: Request<Body>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    let path = info.path.trim_end_matches('/');
    let answer = match path {
        path if HEALTH.contains(&path) => health(server, path, query).await,
        "/version" => json(&version(server)),
        "/metrics/slis" => Ok(respond(StatusCode::OK, metrics::CONTENT_TYPE, server.metrics.slis())),
        "/metrics" => Ok(respond(StatusCode::OK, metrics::CONTENT_TYPE, server.metrics.text(server))),
        keyset::KEYS_PATH => public("application/jwk-set+json", &server.authentication.tokens.keyset.keys()),
        keyset::CONFIGURATION_PATH => {
            let host = format!("{}:{}", server.config.advertise_address, server.config.secure_port);
            let configuration = server.authentication.tokens.keyset.configuration(&host);
            public("application/json", &configuration.ok_or_else(Status::no_such_resource)?)
        }
        "/debug" | "/debug/pprof" => Err(profiling()),
        path if path.starts_with("/debug/") => Err(profiling()),
        "" => json(&serde_json::json!({"paths": root_paths(server)})),
        _ => match HEALTH.iter().find_map(|base| Some((*base, path.strip_prefix(base)?.strip_prefix('/')?))) {
            Some((base, check)) => single_check(server, base, check).await,
            None => documents::serve(server, path, query, &request),
        },
    };
    match answer {
        // What upstream's router says of a path that nothing is behind.
        Err(status) if status.reason == api::status::Reason::NotFound && !path.starts_with("/debug") => {
            plain(StatusCode::NOT_FOUND, "404 page not found\n")
        }
        answer => answer,
    }
}

fn profiling() -> Status {
    Status::failure(api::status::Reason::NotFound, "this server has no profiles to show")
        .with_details(Default::default())
}

fn json(value: &serde_json::Value) -> Answer {
    let text = serde_json::to_vec_pretty(value).map_err(Status::internal)?;
    respond_json(StatusCode::OK, Format::Json, text.into())
}

/// What anybody may keep for an hour: keys change with a restart only.
fn public(content_type: &'static str, value: &serde_json::Value) -> Answer {
    let mut response = respond(StatusCode::OK, content_type, value.to_string());
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("public, max-age=3600"));
    Ok(response)
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
    let mut paths: Vec<String> = [
        keyset::CONFIGURATION_PATH,
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        keyset::KEYS_PATH,
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .to_vec();
    for group in server.resources.load().groups.iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{}", group.name, version.name)));
    }
    paths.sort();
    paths
}

const HEALTH: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Checks of `/healthz`, `/livez` or `/readyz` by name, with what went wrong.
async fn checks(server: &Server, path: &str) -> Vec<(&'static str, Result<(), String>)> {
    let store = server.store.revision().await.map(|_| ()).map_err(|error| error.to_string());
    let mut checks = vec![("ping", Ok(())), ("log", Ok(())), ("etcd", store.clone())];
    if path == "/readyz" {
        let fed = server.cache.wait_until_current().await.map_err(|error| error.to_string());
        let stays = if server.peers.is_leaving() { Err("this server is shutting down".to_owned()) } else { Ok(()) };
        checks.extend([("etcd-readiness", store), ("informer-sync", fed), ("shutdown", stays)]);
    }
    for (name, result) in &checks {
        server.metrics.checked(name, path.trim_start_matches('/'), result.is_ok());
    }
    checks
}

/// apiserver `pkg/server/healthz/healthz.go`, handleRootHealth
async fn health(server: &Server, path: &str, query: &Query) -> Answer {
    let mut lines = String::new();
    let mut failed = false;
    let mut unknown: Vec<&str> = query.all("exclude").iter().map(String::as_str).collect();
    for (name, result) in checks(server, path).await {
        if query.all("exclude").iter().any(|excluded| excluded == name) {
            unknown.retain(|excluded| *excluded != name);
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
    if !unknown.is_empty() {
        unknown.sort_unstable();
        unknown.dedup();
        let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
    }
    let name = path.trim_start_matches('/');
    if failed {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{name} check failed\n"));
    }
    let verbose = query.get("verbose").is_some();
    plain(StatusCode::OK, if verbose { format!("{lines}{name} check passed\n") } else { "ok".to_owned() })
}

async fn single_check(server: &Server, path: &str, name: &str) -> Answer {
    match checks(server, path).await.into_iter().find(|(check, _)| *check == name) {
        Some((_, Ok(()))) => plain(StatusCode::OK, "ok"),
        Some((_, Err(_))) => plain(StatusCode::INTERNAL_SERVER_ERROR, "internal server error: reason withheld\n"),
        None => Err(Status::no_such_resource()),
    }
}

/// Text that no browser takes for anything else.
fn plain(status: StatusCode, text: impl Into<bytes::Bytes>) -> Answer {
    let mut response = respond(status, "text/plain; charset=utf-8", text);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    Ok(response)
}
