//! ComponentStatus, which is found out when it is asked for: the store, and the scheduler and the controller manager that
//! answer on this machine (`pkg/registry/core/componentstatus/rest.go`; `pkg/registry/core/rest/storage_core.go`).

use std::time::Duration;

use api::{
    Status, Value,
    selector::{FieldSelector, LabelSelector},
    value::Map,
};
use futures_util::future::BoxFuture;
use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt;

use crate::{
    Server,
    connect::forward::{ForwardError, Target, send},
    negotiate::Form,
    rest::{Answer, Call, partial, respond_json},
    table::Rows,
};

/// Components that are asked over TLS, whatever their certificate, and the ports that they are at.
const PROBED: [(&str, u16); 2] = [("controller-manager", 10257), ("scheduler", 10259)];
const STORE: &str = "etcd-0";

const WITHIN: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 4096;

/// GET of one or of all.
pub(crate) fn serve<'c>(call: &'c Call<'c>) -> BoxFuture<'c, Answer> {
    Box::pin(answer(call))
}

async fn answer(call: &Call<'_>) -> Answer {
    let mut names: Vec<&'static str> = PROBED.iter().map(|(name, _)| *name).chain([STORE]).collect();
    if call.info.verb == "get" {
        let name = names.into_iter().find(|name| *name == call.info.name);
        let name = name.ok_or_else(|| Status::not_found("", "componentstatus", &call.info.name))?;
        return one(call, status(call.server, name).await);
    }
    let labels = LabelSelector::parse(call.query.get("labelSelector").unwrap_or_default())
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let fields = FieldSelector::parse(call.query.get("fieldSelector").unwrap_or_default())
        .map_err(|error| Status::bad_request(error.to_string()))?;
    names.retain(|name| {
        labels.matches_with(|_| None) && fields.matches(|field| (field == "metadata.name").then_some(*name))
    });
    let mut statuses = Vec::new();
    for name in names {
        statuses.push(status(call.server, name).await);
    }
    list(call, statuses)
}

fn one(call: &Call<'_>, status: Value) -> Answer {
    let shown = match call.accept.form {
        Form::Object | Form::Discovery => status,
        Form::PartialMetadata => partial(&status),
        Form::Table => call.as_table(&[status], Rows::One),
    };
    respond_json(StatusCode::OK, call.accept.format, shown.to_json().into())
}

fn list(call: &Call<'_>, statuses: Vec<Value>) -> Answer {
    let of = |kind: &str, version: &str, items: Vec<Value>| {
        let head = [("kind", kind.into()), ("apiVersion", version.into()), ("metadata", Value::object())];
        object(head.into_iter().chain([("items", Value::from(items))]))
    };
    let shown = match call.accept.form {
        Form::Object | Form::Discovery => of(&call.resource.list_kind(), "v1", statuses),
        Form::PartialMetadata => {
            of("PartialObjectMetadataList", "meta.k8s.io/v1", statuses.iter().map(partial).collect())
        }
        Form::Table => call.as_table(&statuses, Rows::List { meta: Value::object() }),
    };
    respond_json(StatusCode::OK, call.accept.format, shown.to_json().into())
}

fn object<'n>(members: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    members.into_iter().collect::<Map>().into()
}

async fn status(server: &Server, name: &str) -> Value {
    let port = PROBED.iter().find(|(probed, _)| *probed == name).map(|(_, port)| *port);
    let (is_healthy, message, error) = match port {
        Some(port) => match tokio::time::timeout(WITHIN, probe(server, port)).await {
            Ok(Ok((code, text))) => (code == StatusCode::OK, text, String::new()),
            Ok(Err(error)) => (false, String::new(), error.to_string()),
            Err(_) => (false, String::new(), format!("no answer within {} s", WITHIN.as_secs())),
        },
        None => match server.store.revision().await {
            Ok(_) => (true, "ok".to_owned(), String::new()),
            Err(error) => (false, String::new(), error.to_string()),
        },
    };
    let mut condition = object([
        ("type", "Healthy".into()),
        ("status", if is_healthy { "True" } else { "False" }.into()),
        ("message", message.into()),
    ]);
    if !error.is_empty() {
        condition.set(&["error"], error);
    }
    object([
        ("kind", "ComponentStatus".into()),
        ("apiVersion", "v1".into()),
        ("metadata", object([("name", name.into())])),
        ("conditions", vec![condition].into()),
    ])
}

#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("Get \"https://127.0.0.1:{port}/healthz\": {source}")]
    Forward { port: u16, source: ForwardError },
    #[error("reading the answer: {0}")]
    Body(net::BoxError),
    #[error("{0}")]
    Request(#[from] http::Error),
}

fn probe(server: &Server, port: u16) -> BoxFuture<'static, Result<(StatusCode, String), ProbeError>> {
    Box::pin(ask(Target::tls("127.0.0.1", port, server.unverified.clone()), port))
}

async fn ask(target: Target, port: u16) -> Result<(StatusCode, String), ProbeError> {
    let request = Request::get("/healthz").body(net::empty())?;
    let answer = send(request, target, Uri::from_static("/healthz")).await;
    let answer = answer.map_err(|source| ProbeError::Forward { port, source })?;
    let code = answer.status();
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ProbeError::Body)?.into_data() else { continue };
        text.extend_from_slice(&data);
        if text.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok((code, String::from_utf8_lossy(&text).into_owned()))
}
