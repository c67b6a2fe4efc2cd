//! An API server that holds whatever objects a test puts into it, and tells of their changes: enough for informers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use client::{Client, transport::Local};
use futures_util::{FutureExt, StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use net::{Body, BoxError};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Objects by plural and name: those of one test are told apart without their namespaces.
#[derive(Clone)]
pub struct Api {
    objects: Arc<Mutex<BTreeMap<(String, String), Value>>>,
    events: broadcast::Sender<(String, Value)>,
    version: Arc<AtomicU64>,
}

impl Default for Api {
    fn default() -> Api {
        Api { objects: Arc::default(), events: broadcast::Sender::new(1000), version: Arc::new(AtomicU64::new(1)) }
    }
}

impl Api {
    /// A client of this server.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let handler = move |request: Request<Bytes>| {
            let api = api.clone();
            async move { api.answer(&request) }.boxed()
        };
        Client::new(Arc::new(Local::new(Arc::new(handler))), "test")
    }

    /// Creates or replaces an object.
    pub fn put(&self, plural: &str, mut object: Value) {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let old = self.objects.lock().insert((plural.to_owned(), name), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        // Nobody watches yet.
        let _ = self.events.send((plural.to_owned(), json!({"type": kind, "object": object})));
    }

    /// Deletes an object that is there.
    pub fn delete(&self, plural: &str, name: &str) {
        let object = self.objects.lock().remove(&(plural.to_owned(), name.to_owned())).expect("is there");
        let _ = self.events.send((plural.to_owned(), json!({"type": "DELETED", "object": object})));
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Body> {
        let plural = request.uri().path().rsplit('/').next().unwrap().to_owned();
        // Before the list is read, so that nothing is missed between a list and its watch; what is told twice is the
        // same state once more.
        let events = self.events.subscribe();
        let objects = self.objects.lock();
        let items: Vec<Value> =
            objects.iter().filter(|((of, _), _)| *of == plural).map(|(_, object)| object.clone()).collect();
        if !request.uri().query().unwrap_or_default().contains("watch=1") {
            let version = self.version.load(Ordering::Relaxed).to_string();
            let list = json!({"metadata": {"resourceVersion": version}, "items": items});
            return Response::new(net::full(list.to_string()));
        }
        let known = items.into_iter().map(|object| json!({"type": "ADDED", "object": object}));
        let later = stream::unfold(events, move |mut events| {
            let plural = plural.clone();
            async move {
                loop {
                    let (of, event) = events.recv().await.ok()?;
                    if of == plural {
                        return Some((event, events));
                    }
                }
            }
        });
        let frames = stream::iter(known.collect::<Vec<_>>())
            .chain(later)
            .map(|event| Ok::<_, BoxError>(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}
