//! Typed requests: one [`Api`] per kind and namespace.

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use net::Body;

use crate::{Error, Kind, Result, Transport, TransportError};

/// One component's way to the API. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user_agent: Arc<str>,
}

/// The requests of one kind, in one namespace or in all.
pub struct Api<K> {
    client: Client,
    namespace: Option<String>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Api { client: self.client.clone(), namespace: self.namespace.clone(), kind: PhantomData }
    }
}

#[derive(Clone, Debug, Default)]
pub struct ListParams {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// Page size; `None` is everything at once.
    pub limit: Option<u32>,
    pub continue_token: Option<String>,
    /// `Some("0")`: any state the server has at hand; `None`: the newest.
    pub resource_version: Option<String>,
}

/// A list's items with the revision it shows.
#[derive(Debug)]
pub struct Page<K> {
    pub items: Vec<K>,
    pub resource_version: String,
    pub continue_token: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// One event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent<K> {
    Added(K),
    Modified(K),
    Deleted(K),
    /// Everything up to this resourceVersion has been delivered. `initial_events_end` marks the end of a streamed list.
    Bookmark {
        resource_version: String,
        initial_events_end: bool,
    },
}

/// Ends when the server closes the watch (its time-out); an `Error` event of the watch is an `Err`.
pub type WatchEvents<K> = BoxStream<'static, Result<WatchEvent<K>>>;

impl<K> WatchEvent<K> {
    /// The same event with its object, where it has one, changed.
    pub fn map<L>(self, change: impl FnOnce(K) -> L) -> WatchEvent<L> {
        match self {
            WatchEvent::Added(object) => WatchEvent::Added(change(object)),
            WatchEvent::Modified(object) => WatchEvent::Modified(change(object)),
            WatchEvent::Deleted(object) => WatchEvent::Deleted(change(object)),
            WatchEvent::Bookmark { resource_version, initial_events_end } => {
                WatchEvent::Bookmark { resource_version, initial_events_end }
            }
        }
    }
}

impl Client {
    /// `user_agent` as upstream's components send it, for example `kube-scheduler/v1.36.0`.
    pub fn new(transport: Arc<dyn Transport>, user_agent: &str) -> Client {
        Client { transport, user_agent: user_agent.into() }
    }

    /// What carries the requests, for those that no method here makes.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// Requests over all namespaces, or on an object of the cluster.
    pub fn all<K: Kind>(&self) -> Api<K> {
        Api { client: self.clone(), namespace: None, kind: PhantomData }
    }

    /// Requests in one namespace; for a kind of the cluster the namespace is ignored.
    pub fn namespaced<K: Kind>(&self, namespace: &str) -> Api<K> {
        let namespace = (K::NAMESPACED && !namespace.is_empty()).then(|| namespace.to_owned());
        Api { client: self.clone(), namespace, kind: PhantomData }
    }

    /// Any request: `path` with its query. A status outside 200..=299 becomes [`Error::Status`].
    pub async fn raw(&self, method: Method, path: &str, content_type: Option<&str>, body: Bytes) -> Result<Bytes> {
        let response = self.send(method, path, content_type, body).await?;
        collect(response).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Response<Body>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, &*self.user_agent);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request
            .body(body)
            .map_err(|source| TransportError { server: path.to_owned(), source: Box::new(source) })?;
        Ok(self.transport.send(request).await?)
    }
}

async fn collect(response: Response<Body>) -> Result<Bytes> {
    let status = response.status();
    let bytes = response
        .into_body()
        .collect()
        .await
        .map_err(|source| TransportError { server: "response body".into(), source })?
        .to_bytes();
    if status.is_success() { Ok(bytes) } else { Err(failure(status, &bytes)) }
}

/// A failed answer as an error: the server's `Status`, or one made from the HTTP code where a proxy answered.
fn failure(code: StatusCode, body: &[u8]) -> Error {
    use api::status::{Reason, Status};
    let status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| {
        let reason = match code.as_u16() {
            401 => Reason::Unauthorized,
            403 => Reason::Forbidden,
            404 => Reason::NotFound,
            409 => Reason::Conflict,
            410 => Reason::Expired,
            429 => Reason::TooManyRequests,
            503 => Reason::ServiceUnavailable,
            504 => Reason::Timeout,
            _ => Reason::Unknown,
        };
        let text = String::from_utf8_lossy(body);
        let mut status = Status::failure(reason, format!("{code}: {}", text.trim()));
        status.code = code.as_u16();
        status
    });
    Error::Status(Box::new(status))
}

fn decode<K: Kind>(json: &[u8]) -> Result<K> {
    K::decode(json).map_err(|error| Error::Decode { what: K::KIND.into(), message: error.to_string() })
}

impl<K: Kind> Api<K> {
    /// The path of the collection: `/api/v1/namespaces/NS/pods`.
    pub fn path(&self) -> String {
        let mut path = match K::GROUP {
            "" => format!("/api/{}", K::VERSION),
            group => format!("/apis/{group}/{}", K::VERSION),
        };
        if let Some(namespace) = &self.namespace {
            path.push_str("/namespaces/");
            path.push_str(&escape(namespace));
        }
        path.push('/');
        path.push_str(K::URL_PATH_SEGMENT);
        path
    }

    fn item(&self, name: &str, subresource: Option<&str>) -> String {
        match subresource {
            None => format!("{}/{}", self.path(), escape(name)),
            Some(subresource) => format!("{}/{}/{subresource}", self.path(), escape(name)),
        }
    }

    pub async fn get(&self, name: &str) -> Result<K> {
        decode(&self.client.raw(Method::GET, &self.item(name, None), None, Bytes::new()).await?)
    }

    /// `None` where there is no such object; every other failure stays a failure.
    pub async fn find(&self, name: &str) -> Result<Option<K>> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn list(&self, params: &ListParams) -> Result<Page<K>> {
        let path = format!("{}?{}", self.path(), params.query());
        let body = self.client.raw(Method::GET, &path, None, Bytes::new()).await?;
        crate::decode_list::<K>(&body)
    }

    pub async fn create(&self, object: &K) -> Result<K> {
        decode(&self.client.raw(Method::POST, &self.path(), Some(JSON), object.encode().into()).await?)
    }

    /// Replaces the object; a conflict where its resourceVersion is not the newest.
    pub async fn update(&self, object: &K) -> Result<K> {
        self.put(object, None).await
    }

    pub async fn update_status(&self, object: &K) -> Result<K> {
        self.put(object, Some("status")).await
    }

    async fn put(&self, object: &K, subresource: Option<&str>) -> Result<K> {
        let path = self.item(object.name(), subresource);
        decode(&self.client.raw(Method::PUT, &path, Some(JSON), object.encode().into()).await?)
    }

    /// `patch` is the JSON text of a patch of this kind.
    pub async fn patch(&self, name: &str, subresource: Option<&str>, kind: PatchKind, patch: Vec<u8>) -> Result<K> {
        let path = self.item(name, subresource);
        decode(&self.client.raw(Method::PATCH, &path, Some(kind.content_type()), patch.into()).await?)
    }

    /// Creates `body` under a subresource (binding, eviction, token) and gives back the answer's bytes.
    pub async fn create_sub(&self, name: &str, subresource: &str, body: Vec<u8>) -> Result<Bytes> {
        self.client.raw(Method::POST, &self.item(name, Some(subresource)), Some(JSON), body.into()).await
    }

    /// Deletes the object; where `uid` is given only if it is still that one.
    pub async fn delete(&self, name: &str, options: &DeleteParams) -> Result<()> {
        let body = options.encode();
        self.client.raw(Method::DELETE, &self.item(name, None), Some(JSON), body.into()).await?;
        Ok(())
    }

    pub async fn delete_collection(&self, options: &DeleteParams, select: &ListParams) -> Result<()> {
        let path = format!("{}?{}", self.path(), select.query());
        self.client.raw(Method::DELETE, &path, Some(JSON), options.encode().into()).await?;
        Ok(())
    }

    /// Watches from behind `resource_version`, with bookmarks, for about `timeout_seconds`.
    pub async fn watch(
        &self,
        params: &ListParams,
        resource_version: &str,
        timeout_seconds: u32,
    ) -> Result<WatchEvents<K>> {
        let params = ListParams { resource_version: Some(resource_version.into()), ..params.clone() };
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={timeout_seconds}&{}",
            self.path(),
            params.query()
        );
        let response = self.client.send(Method::GET, &path, None, Bytes::new()).await?;
        if !response.status().is_success() {
            return Err(collect(response).await.err().unwrap_or_else(|| Error::Decode {
                what: "watch".into(),
                message: "unsuccessful answer without a failure".into(),
            }));
        }
        Ok(crate::watch::events(response.into_body()))
    }
}

const JSON: &str = "application/json";

impl PatchKind {
    pub fn content_type(self) -> &'static str {
        match self {
            PatchKind::Json => "application/json-patch+json",
            PatchKind::Merge => "application/merge-patch+json",
            PatchKind::Strategic => "application/strategic-merge-patch+json",
        }
    }
}

/// What a deletion asks for beyond the name.
#[derive(Clone, Debug, Default)]
pub struct DeleteParams {
    pub grace_period_seconds: Option<u32>,
    pub propagation: Option<Propagation>,
    /// Delete only the object with this UID.
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

impl DeleteParams {
    fn encode(&self) -> Vec<u8> {
        let mut options = serde_json::Map::new();
        options.insert("kind".into(), "DeleteOptions".into());
        options.insert("apiVersion".into(), "v1".into());
        if let Some(seconds) = self.grace_period_seconds {
            options.insert("gracePeriodSeconds".into(), seconds.into());
        }
        if let Some(propagation) = self.propagation {
            options.insert("propagationPolicy".into(), format!("{propagation:?}").into());
        }
        let mut preconditions = serde_json::Map::new();
        if let Some(uid) = &self.uid {
            preconditions.insert("uid".into(), uid.as_str().into());
        }
        if let Some(version) = &self.resource_version {
            preconditions.insert("resourceVersion".into(), version.as_str().into());
        }
        if !preconditions.is_empty() {
            options.insert("preconditions".into(), preconditions.into());
        }
        serde_json::Value::Object(options).to_string().into_bytes()
    }
}

impl ListParams {
    pub fn labels(selector: impl Into<String>) -> ListParams {
        ListParams { label_selector: Some(selector.into()), ..ListParams::default() }
    }

    pub fn fields(selector: impl Into<String>) -> ListParams {
        ListParams { field_selector: Some(selector.into()), ..ListParams::default() }
    }

    fn query(&self) -> String {
        let mut query = String::new();
        let mut add = |name: &str, value: &str| {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(name);
            query.push('=');
            query.push_str(&escape(value));
        };
        if let Some(selector) = &self.label_selector {
            add("labelSelector", selector);
        }
        if let Some(selector) = &self.field_selector {
            add("fieldSelector", selector);
        }
        if let Some(limit) = self.limit {
            add("limit", &limit.to_string());
        }
        if let Some(token) = &self.continue_token {
            add("continue", token);
        }
        if let Some(version) = &self.resource_version {
            add("resourceVersion", version);
        }
        query
    }
}

/// Percent-encodes everything but unreserved characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte as char),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
