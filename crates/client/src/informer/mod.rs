//! Informers: every object of a kind, decoded once, shared by all who ask, kept up to date by a list and a watch
//! (client-go `tools/cache` reflector, indexer and shared informer in one).

mod cache;
mod reflector;

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Client, Kind, ListParams};
use cache::Cache;

/// What happened to an object of the cache, in the order it happened.
#[derive(Debug)]
pub enum Delta<K> {
    Added(Arc<K>),
    Updated {
        old: Arc<K>,
        new: Arc<K>,
    },
    /// The last state seen, or the final one where the watch delivered it. An object that was deleted and made again
    /// under its name is `Deleted` and then `Added`, never `Updated`.
    Deleted(Arc<K>),
}

impl<K> Delta<K> {
    /// The object as it is now, or as it last was.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Delta::Added(object) | Delta::Updated { new: object, .. } | Delta::Deleted(object) => object,
        }
    }
}

type Handler<K> = Box<dyn Fn(&Delta<K>) + Send + Sync>;

/// The objects of one kind (or those that its list parameters select). Cheap to clone: all clones are one cache.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Informer { shared: self.shared.clone() }
    }
}

struct Shared<K> {
    client: Client,
    params: ListParams,
    cache: RwLock<Cache<K>>,
    /// Held while the cache changes and the change is told, so that a handler added meanwhile misses nothing and hears
    /// nothing twice.
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K: Kind> Informer<K> {
    fn new(client: Client, params: ListParams) -> Self {
        let shared = Shared {
            client,
            params,
            cache: RwLock::new(Cache::default()),
            handlers: Mutex::new(Vec::new()),
            synced: watch::Sender::new(false),
        };
        Informer { shared: Arc::new(shared) }
    }

    /// `namespace` is empty for a kind of the cluster.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.shared.cache.read().get(namespace, name)
    }

    /// By namespace, then name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.cache.read().list()
    }

    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.shared.cache.read().list_namespace(namespace)
    }

    /// From now on `by_index(index, key)` finds the objects for which `keys` yields `key`. A name that is there already
    /// keeps its function.
    pub fn add_index(&self, index: &'static str, keys: fn(&K) -> Vec<String>) {
        self.shared.cache.write().add_index(index, keys);
    }

    /// By namespace, then name. Nothing for an index that was never added.
    pub fn by_index(&self, index: &str, key: &str) -> Vec<Arc<K>> {
        self.shared.cache.read().by_index(index, key)
    }

    /// Calls `handler` for every change from now on, on the informer's task: it must not block and must not add
    /// handlers. Before this returns the handler has been called with `Added` for everything present.
    pub fn on_event(&self, handler: impl Fn(&Delta<K>) + Send + Sync + 'static) {
        let mut handlers = self.shared.handlers.lock();
        for object in self.list() {
            handler(&Delta::Added(object));
        }
        handlers.push(Box::new(handler));
    }

    /// Whether everything has been listed once.
    pub fn has_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits until everything has been listed once, and every handler there was has been called with it.
    pub async fn wait_for_sync(&self) {
        wait(self.shared.synced.subscribe()).await;
    }

    /// The state of the API that the cache shows; empty before the first list.
    pub fn last_resource_version(&self) -> String {
        self.shared.cache.read().resource_version.clone()
    }

    /// Makes `objects` the whole content and tells the difference.
    fn replace(&self, objects: Vec<Arc<K>>, resource_version: String) {
        self.change(|cache| cache.replace(objects, resource_version));
    }

    fn change(&self, change: impl FnOnce(&mut Cache<K>) -> Vec<Delta<K>>) {
        let handlers = self.shared.handlers.lock();
        let deltas = change(&mut self.shared.cache.write());
        for delta in &deltas {
            for handler in handlers.iter() {
                handler(delta);
            }
        }
    }
}

async fn wait(mut synced: watch::Receiver<bool>) {
    // Fails only when the informer is gone, and then nobody is left to read from it.
    let _ = synced.wait_for(|synced| *synced).await;
}

/// An informer of whatever kind, as the factory holds it.
trait Runnable: Send + Sync {
    fn run(&self, cancel: CancellationToken) -> BoxFuture<'static, ()>;
    fn synced(&self) -> watch::Receiver<bool>;
    fn as_any(&self) -> &dyn Any;
}

impl<K: Kind> Runnable for Informer<K> {
    fn run(&self, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(reflector::run(self.clone(), cancel))
    }

    fn synced(&self) -> watch::Receiver<bool> {
        self.shared.synced.subscribe()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Entry {
    informer: Box<dyn Runnable>,
    started: bool,
}

/// The informers of one component: one per kind and selection, however many ask. Cheap to clone.
#[derive(Clone)]
pub struct InformerFactory {
    client: Client,
    entries: Arc<Mutex<HashMap<(TypeId, String), Entry>>>,
}

impl InformerFactory {
    pub fn new(client: Client) -> Self {
        InformerFactory { client, entries: Arc::default() }
    }

    /// All objects of the kind, in all namespaces. Does nothing before [`InformerFactory::start`].
    pub fn informer<K: Kind>(&self) -> Informer<K> {
        self.informer_with(ListParams::default())
    }

    /// The objects that the selectors of `params` select; its limit and resourceVersion are not used.
    pub fn informer_with<K: Kind>(&self, params: ListParams) -> Informer<K> {
        let params = ListParams {
            label_selector: params.label_selector,
            field_selector: params.field_selector,
            ..ListParams::default()
        };
        let selection = format!("{:?} {:?}", params.label_selector, params.field_selector);
        let mut entries = self.entries.lock();
        let key = (TypeId::of::<K>(), selection);
        if let Some(informer) =
            entries.get(&key).and_then(|entry| entry.informer.as_any().downcast_ref::<Informer<K>>())
        {
            return informer.clone();
        }
        let informer = Informer::new(self.client.clone(), params);
        entries.insert(key, Entry { informer: Box::new(informer.clone()), started: false });
        informer
    }

    /// Starts, on the current tokio runtime, all informers asked for since the last call. They end with `cancel`.
    pub fn start(&self, cancel: CancellationToken) {
        for entry in self.entries.lock().values_mut().filter(|entry| !entry.started) {
            entry.started = true;
            tokio::spawn(entry.informer.run(cancel.clone()));
        }
    }

    /// Waits until all started informers have listed once.
    pub async fn wait_for_sync(&self) {
        let all: Vec<_> =
            self.entries.lock().values().filter(|entry| entry.started).map(|entry| entry.informer.synced()).collect();
        for synced in all {
            wait(synced).await;
        }
    }
}
