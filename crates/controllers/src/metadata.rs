//! Objects of any resource by their metadata alone, as lists, reads and watches of `PartialObjectMetadata`.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use client::{Error, Transport, apimachinery::pkg::apis::meta::v1::OwnerReference};
use futures_util::{Stream, stream};
use http::{Method, Request, header};
use http_body_util::BodyExt;
use serde::Deserialize;

use crate::plan::ResourceId;

const ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// What of an object's metadata the graph needs. Reads whole objects as well, where a server knows nothing shorter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub deletion_timestamp: Option<String>,
    pub finalizers: Vec<String>,
    pub owner_references: Vec<OwnerReference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Object {
    pub metadata: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ListMeta {
    pub resource_version: String,
    #[serde(rename = "continue")]
    pub continue_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct List {
    pub metadata: ListMeta,
    pub items: Vec<Object>,
}

#[derive(Debug)]
pub enum Event {
    Changed(Meta),
    Deleted(Meta),
    /// Everything up to this resourceVersion has come.
    Bookmark(String),
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    object: serde_json::Value,
}

/// Reads metadata through the manager's transport.
#[derive(Clone)]
pub struct MetadataClient {
    transport: Arc<dyn Transport>,
}

impl MetadataClient {
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        MetadataClient { transport }
    }

    async fn get(
        &self,
        path: &str,
        accept: &'static str,
    ) -> client::Result<
        http::Response<
            impl http_body_util::BodyExt<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
            + Send
            + Unpin
            + use<>,
        >,
    > {
        let failed = |source: http::Error| client::TransportError { server: path.to_owned(), source: Box::new(source) };
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, "kube-controller-manager/metadata")
            .body(Bytes::new())
            .map_err(failed)?;
        let response = self.transport.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await;
        let body = body.map_err(|source| client::TransportError { server: path.to_owned(), source })?.to_bytes();
        let reason = api::status::Status::failure(reason(status.as_u16()), String::from_utf8_lossy(&body));
        Err(Error::Status(Box::new(serde_json::from_slice(&body).unwrap_or(reason))))
    }

    async fn read<T: for<'a> Deserialize<'a>>(&self, path: &str, accept: &'static str) -> client::Result<T> {
        let body = self.get(path, accept).await?.into_body().collect().await;
        let body = body.map_err(|source| client::TransportError { server: path.to_owned(), source: source.into() })?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| undecodable(path, &error))
    }

    pub async fn find(&self, resource: &ResourceId, namespace: &str, name: &str) -> client::Result<Option<Meta>> {
        match self.read::<Object>(&format!("{}/{name}", resource.path(namespace)), ONE).await {
            Ok(object) => Ok(Some(object.metadata)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page; an empty `token` asks for the first.
    pub async fn list(&self, resource: &ResourceId, namespace: &str, token: &str) -> client::Result<List> {
        let token = token.replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let token = if token.is_empty() { token } else { format!("&continue={token}") };
        self.read(&format!("{}?limit=500{token}", resource.path(namespace)), LIST).await
    }

    pub async fn watch(
        &self,
        resource: &ResourceId,
        revision: &str,
    ) -> client::Result<impl Stream<Item = client::Result<Event>> + Send + Unpin + use<>> {
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds=540&resourceVersion={revision}",
            resource.path("")
        );
        let body = self.get(&path, ONE).await?.into_body();
        let frames = stream::unfold((body, BytesMut::new()), |(mut body, mut buffer)| async move {
            loop {
                if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                    let frame = buffer.split_to(end);
                    buffer.advance(1);
                    return Some((event(&frame), (body, buffer)));
                }
                match body.frame().await? {
                    Ok(frame) => {
                        if let Ok(data) = frame.into_data() {
                            buffer.extend_from_slice(&data);
                        }
                    }
                    Err(source) => {
                        let error = client::TransportError { server: "watch".into(), source: source.into() };
                        return Some((Err(error.into()), (body, buffer)));
                    }
                }
            }
        });
        Ok(Box::pin(frames))
    }
}

fn event(frame: &[u8]) -> client::Result<Event> {
    let frame: Frame = serde_json::from_slice(frame).map_err(|error| undecodable("watch event", &error))?;
    if frame.kind == "ERROR" {
        let status = serde_json::from_value(frame.object).map_err(|error| undecodable("watch error", &error))?;
        return Err(Error::Status(Box::new(status)));
    }
    let object: Object = serde_json::from_value(frame.object).map_err(|error| undecodable("watch event", &error))?;
    Ok(match frame.kind.as_str() {
        "DELETED" => Event::Deleted(object.metadata),
        "BOOKMARK" => Event::Bookmark(object.metadata.resource_version),
        _ => Event::Changed(object.metadata),
    })
}

fn undecodable(what: &str, error: &serde_json::Error) -> Error {
    Error::Decode { what: what.into(), message: error.to_string() }
}

fn reason(code: u16) -> api::status::Reason {
    use api::status::Reason;
    match code {
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        410 => Reason::Expired,
        429 => Reason::TooManyRequests,
        _ => Reason::Unknown,
    }
}
