//! An API server in memory: objects as JSON, revisions, watches, finalizers, and just enough of patches for the controllers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use client::{Client, transport::Local};
use futures_util::{FutureExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use net::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Group version, plural, kind, namespaced.
const RESOURCES: &[(&str, &str, &str, bool)] = &[
    ("v1", "pods", "Pod", true),
    ("v1", "services", "Service", true),
    ("v1", "endpoints", "Endpoints", true),
    ("v1", "namespaces", "Namespace", false),
    ("v1", "nodes", "Node", false),
    ("v1", "configmaps", "ConfigMap", true),
    ("v1", "serviceaccounts", "ServiceAccount", true),
    ("v1", "persistentvolumes", "PersistentVolume", false),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    ("v1", "replicationcontrollers", "ReplicationController", true),
    ("v1", "resourcequotas", "ResourceQuota", true),
    ("v1", "events", "Event", true),
    ("apps/v1", "deployments", "Deployment", true),
    ("apps/v1", "replicasets", "ReplicaSet", true),
    ("apps/v1", "statefulsets", "StatefulSet", true),
    ("apps/v1", "daemonsets", "DaemonSet", true),
    ("apps/v1", "controllerrevisions", "ControllerRevision", true),
    ("batch/v1", "jobs", "Job", true),
    ("batch/v1", "cronjobs", "CronJob", true),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true),
    ("networking.k8s.io/v1", "ipaddresses", "IPAddress", false),
    ("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR", false),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", true),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", false),
    ("certificates.k8s.io/v1", "certificatesigningrequests", "CertificateSigningRequest", false),
    ("coordination.k8s.io/v1", "leases", "Lease", true),
    ("storage.k8s.io/v1", "storageclasses", "StorageClass", false),
    ("storage.k8s.io/v1", "volumeattributesclasses", "VolumeAttributesClass", false),
];

/// Resource (`apps/v1/deployments`), namespace, name.
type Key = (String, String, String);

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    log: Vec<(u64, Key, &'static str, Value)>,
    /// Creations so far, by resource.
    created: BTreeMap<String, usize>,
}

#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

struct Path {
    resource: String,
    kind: &'static str,
    namespace: String,
    name: String,
    sub: String,
}

fn parse(path: &str) -> Option<Path> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (version, rest) = match parts[..] {
        ["api", version, ..] => (version.to_owned(), &parts[2..]),
        ["apis", group, version, ..] => (format!("{group}/{version}"), &parts[3..]),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, tail @ ..] if !tail.is_empty() && !matches!(tail, ["status" | "finalize"]) => {
            (*namespace, tail)
        }
        _ => ("", rest),
    };
    let plural = *rest.first()?;
    let kind = RESOURCES.iter().find(|(gv, name, ..)| *gv == version && *name == plural)?.2;
    let at = |index: usize| rest.get(index).map_or(String::new(), |part| (*part).to_owned());
    Some(Path { resource: format!("{version}/{plural}"), kind, namespace: namespace.into(), name: at(1), sub: at(2) })
}

fn answer(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(net::full(value.to_string()));
    *response.status_mut() = code;
    response
}

fn failure(code: StatusCode, reason: &str) -> Response<Body> {
    answer(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16()}),
    )
}

impl FakeApi {
    pub fn new() -> Self {
        FakeApi { state: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        let handler = move |request: Request<Bytes>| {
            let api = api.clone();
            async move { api.serve(&request) }.boxed()
        };
        Client::new(Arc::new(Local::new(Arc::new(handler))), "test")
    }

    pub fn list(&self, resource: &str) -> Vec<Value> {
        let state = self.state.lock();
        state.objects.iter().filter(|((of, ..), _)| of == resource).map(|(_, object)| object.clone()).collect()
    }

    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state.lock().objects.get(&(resource.into(), namespace.into(), name.into())).cloned()
    }

    pub fn created(&self, resource: &str) -> usize {
        self.state.lock().created.get(resource).copied().unwrap_or(0)
    }

    pub fn create(&self, path: &str, object: Value) {
        let request = Request::post(path).body(Bytes::from(object.to_string())).expect("request");
        let status = self.serve(&request).status();
        assert!(status.is_success(), "create at {path}: {status}");
    }

    pub fn patch(&self, path: &str, patch: Value) -> bool {
        self.serve(&Request::patch(path).body(Bytes::from(patch.to_string())).expect("request")).status().is_success()
    }

    pub fn delete(&self, path: &str, options: Value) -> bool {
        self.serve(&Request::delete(path).body(Bytes::from(options.to_string())).expect("request"))
            .status()
            .is_success()
    }

    /// Waits until `holds`; panics with `what` after 20 s.
    pub async fn until(&self, what: &str, holds: impl Fn(&FakeApi) -> bool) {
        let mut changes = self.changed.subscribe();
        let wait = async {
            while !holds(self) {
                let _ = tokio::time::timeout(Duration::from_millis(50), changes.changed()).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), wait).await.is_err() {
            let state = self.state.lock();
            let objects: Vec<String> = state
                .objects
                .iter()
                .filter(|(key, _)| key.0 != "v1/events")
                .map(|(_, object)| object.to_string())
                .collect();
            panic!("never: {what}\n{}", objects.join("\n"));
        }
    }

    fn serve(&self, request: &Request<Bytes>) -> Response<Body> {
        let uri = request.uri();
        let query = uri.query().unwrap_or("");
        if let Some(document) = discovery(uri.path()) {
            return answer(StatusCode::OK, &document);
        }
        let Some(path) = parse(uri.path()) else {
            return failure(StatusCode::NOT_FOUND, "NotFound");
        };
        let body: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
        let method = request.method();
        let response = match (method, path.name.is_empty()) {
            (&Method::GET, true) if query.contains("watch=1") => return self.watch(path, query),
            (&Method::GET, true) => self.list_response(&path, query),
            (&Method::GET, false) => self.read(&path),
            (&Method::POST, true) => self.insert(&path, body),
            (&Method::POST, false) => answer(StatusCode::CREATED, &body),
            (&Method::PUT, _) => self.change(&path, |object| replace(object, body, &path.sub)),
            (&Method::PATCH, _) => self.change(&path, |object| patched(object, body, &path.sub)),
            (&Method::DELETE, true) => self.remove_all(&path, &body),
            (&Method::DELETE, false) => self.remove(&path, &body),
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        };
        self.changed.send_modify(|count| *count += 1);
        response
    }

    fn selected(state: &State, path: &Path, query: &str) -> Vec<Value> {
        let selector =
            query.split('&').find_map(|part| part.strip_prefix("fieldSelector=")).unwrap_or("").replace("%3D", "=");
        let all = state.objects.iter().filter(|((resource, namespace, _), _)| {
            *resource == path.resource && (path.namespace.is_empty() || *namespace == path.namespace)
        });
        all.filter(|(_, object)| matches(&selector, object)).map(|(_, object)| object.clone()).collect()
    }

    fn list_response(&self, path: &Path, query: &str) -> Response<Body> {
        let state = self.state.lock();
        let items = Self::selected(&state, path, query);
        let metadata = json!({"resourceVersion": state.revision.to_string()});
        answer(
            StatusCode::OK,
            &json!({"kind": format!("{}List", path.kind), "apiVersion": "v1", "metadata": metadata, "items": items}),
        )
    }

    fn watch(&self, path: Path, query: &str) -> Response<Body> {
        let from: u64 = query
            .split('&')
            .find_map(|part| part.strip_prefix("resourceVersion="))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let selector =
            query.split('&').find_map(|part| part.strip_prefix("fieldSelector=")).unwrap_or("").replace("%3D", "=");
        let start = self.state.lock().log.partition_point(|(revision, ..)| *revision <= from);
        let shared = (self.state.clone(), self.changed.subscribe(), start, path, selector);
        let frames = stream::unfold(shared, |(state, mut changes, mut at, path, selector)| async move {
            loop {
                let mut text = String::new();
                {
                    let state = state.lock();
                    for (_, key, kind, object) in &state.log[at..] {
                        if key.0 == path.resource && matches(&selector, object) {
                            text += &format!("{}\n", json!({"type": kind, "object": object}));
                        }
                    }
                    at = state.log.len();
                }
                if !text.is_empty() {
                    let frame = http_body::Frame::data(Bytes::from(text));
                    return Some((Ok::<_, net::BoxError>(frame), (state, changes, at, path, selector)));
                }
                changes.changed().await.ok()?;
            }
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn read(&self, path: &Path) -> Response<Body> {
        match self.get(&path.resource, &path.namespace, &path.name) {
            Some(object) => answer(StatusCode::OK, &object),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn insert(&self, path: &Path, mut object: Value) -> Response<Body> {
        let mut state = self.state.lock();
        state.revision += 1;
        let revision = state.revision;
        let mut name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        if name.is_empty() {
            name = format!("{}{revision:05}", object["metadata"]["generateName"].as_str().unwrap_or("x"));
        }
        let key = (path.resource.clone(), path.namespace.clone(), name.clone());
        if state.objects.contains_key(&key) {
            return failure(StatusCode::CONFLICT, "AlreadyExists");
        }
        let metadata = &mut object["metadata"];
        metadata["name"] = name.into();
        if !path.namespace.is_empty() {
            metadata["namespace"] = path.namespace.as_str().into();
        }
        metadata["uid"] = format!("uid-{revision}").into();
        metadata["resourceVersion"] = revision.to_string().into();
        metadata["generation"] = 1.into();
        metadata["creationTimestamp"] = jiff::Timestamp::now().to_string().into();
        match path.resource.as_str() {
            "v1/namespaces" => object["spec"]["finalizers"] = json!(["kubernetes"]),
            "v1/pods" => object["status"] = json!({"phase": "Pending"}),
            _ => {}
        }
        *state.created.entry(path.resource.clone()).or_default() += 1;
        state.log.push((revision, key.clone(), "ADDED", object.clone()));
        state.objects.insert(key, object.clone());
        answer(StatusCode::CREATED, &object)
    }

    fn change(&self, path: &Path, change: impl FnOnce(&Value) -> Option<Value>) -> Response<Body> {
        let mut state = self.state.lock();
        let key = (path.resource.clone(), path.namespace.clone(), path.name.clone());
        let Some(old) = state.objects.get(&key).cloned() else {
            return failure(StatusCode::NOT_FOUND, "NotFound");
        };
        let Some(mut new) = change(&old) else {
            return failure(StatusCode::CONFLICT, "Conflict");
        };
        if new == old {
            return answer(StatusCode::OK, &old);
        }
        if new["spec"] != old["spec"] {
            new["metadata"]["generation"] = (old["metadata"]["generation"].as_u64().unwrap_or(1) + 1).into();
        }
        answer(StatusCode::OK, &store(&mut state, key, new))
    }

    fn remove(&self, path: &Path, options: &Value) -> Response<Body> {
        let mut state = self.state.lock();
        let key = (path.resource.clone(), path.namespace.clone(), path.name.clone());
        let Some(mut object) = state.objects.get(&key).cloned() else {
            return failure(StatusCode::NOT_FOUND, "NotFound");
        };
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
        }
        let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        match options["propagationPolicy"].as_str() {
            Some("Foreground") => finalizers.push("foregroundDeletion".into()),
            Some("Orphan") => finalizers.push("orphan".into()),
            _ => {}
        }
        let is_graceful =
            path.resource == "v1/pods" && options["gracePeriodSeconds"] != 0 && object["spec"]["nodeName"].is_string();
        if !finalizers.is_empty() {
            object["metadata"]["finalizers"] = finalizers.into();
        }
        if is_graceful || object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = jiff::Timestamp::now().to_string().into();
        }
        if is_graceful {
            object["metadata"]["deletionGracePeriodSeconds"] = 30.into();
        } else {
            object["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        }
        answer(StatusCode::OK, &store(&mut state, key, object))
    }

    fn remove_all(&self, path: &Path, options: &Value) -> Response<Body> {
        let names: Vec<String> = {
            let state = self.state.lock();
            Self::selected(&state, path, "")
                .iter()
                .map(|object| object["metadata"]["name"].as_str().unwrap_or("").to_owned())
                .collect()
        };
        for name in names {
            self.remove(
                &Path {
                    resource: path.resource.clone(),
                    kind: path.kind,
                    namespace: path.namespace.clone(),
                    name,
                    sub: String::new(),
                },
                options,
            );
        }
        answer(StatusCode::OK, &json!({"kind": "Status", "status": "Success"}))
    }
}

/// Stores the object, or removes it where nothing holds it any more.
fn store(state: &mut State, key: Key, mut object: Value) -> Value {
    state.revision += 1;
    let revision = state.revision;
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    let is_empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    let metadata = &object["metadata"];
    let is_held =
        !is_empty(&metadata["finalizers"]) || (key.0 == "v1/namespaces" && !is_empty(&object["spec"]["finalizers"]));
    let is_waiting = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    if !metadata["deletionTimestamp"].is_null() && !is_held && !is_waiting {
        state.objects.remove(&key);
        state.log.push((revision, key, "DELETED", object.clone()));
    } else {
        state.objects.insert(key.clone(), object.clone());
        state.log.push((revision, key, "MODIFIED", object.clone()));
    }
    object
}

fn matches(selector: &str, object: &Value) -> bool {
    match selector.split_once('=') {
        Some(("metadata.name", name)) => object["metadata"]["name"] == name,
        Some(("metadata.namespace", namespace)) => object["metadata"]["namespace"] == namespace,
        _ => true,
    }
}

fn replace(old: &Value, mut new: Value, sub: &str) -> Option<Value> {
    let version = &new["metadata"]["resourceVersion"];
    if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
        return None;
    }
    if sub == "status" {
        let mut object = old.clone();
        object["status"] = new["status"].take();
        return Some(object);
    }
    if !old["status"].is_null() {
        new["status"] = old["status"].clone();
    }
    Some(new)
}

fn patched(old: &Value, patch: Value, sub: &str) -> Option<Value> {
    let metadata = &patch["metadata"];
    for field in ["uid", "resourceVersion"] {
        if !metadata[field].is_null() && metadata[field] != old["metadata"][field] {
            return None;
        }
    }
    let mut new = old.clone();
    merge(&mut new, patch, "");
    if sub != "status" {
        new["status"] = old["status"].clone();
        if new["status"].is_null() {
            new.as_object_mut()?.remove("status");
        }
    }
    Some(new)
}

fn merge(target: &mut Value, patch: Value, field: &str) {
    let keyed = match field {
        "conditions" => Some("type"),
        "ownerReferences" => Some("uid"),
        _ => None,
    };
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
                    let gone = value.as_array().cloned().unwrap_or_default();
                    if let Some(Value::Array(items)) = target.get_mut(list) {
                        items.retain(|item| !gone.contains(item));
                    }
                } else if value.is_null() {
                    target.remove(&name);
                } else {
                    merge(target.entry(name.clone()).or_insert(Value::Null), value, &name);
                }
            }
        }
        (Value::Array(items), Value::Array(patches))
            if keyed.is_some() && patches.iter().any(|one| one["$patch"] == "delete" || field == "conditions") =>
        {
            let key = keyed.unwrap_or_default();
            for one in patches {
                items.retain(|item| item[key] != one[key]);
                if one["$patch"] != "delete" {
                    items.push(one);
                }
            }
        }
        (target, patch) => match patch {
            Value::Object(_) => {
                *target = json!({});
                merge(target, patch, field);
            }
            other => *target = other,
        },
    }
}

fn discovery(path: &str) -> Option<Value> {
    if path == "/apis" {
        let mut groups: Vec<&str> =
            RESOURCES.iter().filter_map(|(version, ..)| version.split_once('/')).map(|(group, _)| group).collect();
        groups.dedup();
        let groups: Vec<Value> = groups
            .into_iter()
            .map(|name| json!({"name": name, "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}}))
            .collect();
        return Some(json!({"kind": "APIGroupList", "groups": groups}));
    }
    let version = path.strip_prefix("/apis/").or(path.strip_prefix("/api/"))?;
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let of = RESOURCES.iter().filter(|(of, ..)| *of == version);
    let resources: Vec<Value> = of
        .map(
            |(_, name, kind, namespaced)| json!({"name": name, "kind": kind, "namespaced": namespaced, "verbs": verbs}),
        )
        .collect();
    (!resources.is_empty()).then(|| json!({"kind": "APIResourceList", "resources": resources}))
}
