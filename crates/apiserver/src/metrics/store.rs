//! The store, with every request to it counted.

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use api::ResourceTable;
use async_trait::async_trait;
use bytes::Bytes;
use store::{Entry, Error, ListOptions, ListPage, Result, Revision, Store, WatchStream};

use super::Metrics;
use crate::cache::PREFIX;

pub(crate) struct MeasuredStore {
    inner: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    /// Group and resource by the path under which objects are stored.
    places: HashMap<Arc<str>, (Arc<str>, Arc<str>)>,
}

impl MeasuredStore {
    pub(crate) fn new(inner: Arc<dyn Store>, table: &ResourceTable, metrics: Arc<Metrics>) -> MeasuredStore {
        let stored = table.resources().filter(|resource| resource.is_stored() && resource.is_storage_version());
        let places = stored
            .map(|resource| (resource.storage.clone(), (resource.group.clone(), resource.plural.clone())))
            .collect();
        MeasuredStore { inner, metrics, places }
    }

    /// Group and resource of a key; empty for what is no object, as the whole of the registry.
    fn place(&self, key: &str) -> (&str, &str) {
        let path = key.strip_prefix(PREFIX).unwrap_or_default();
        let ends = path.match_indices('/').map(|(at, _)| at).take(2);
        let found = ends.filter_map(|end| self.places.get(&path[..end])).last();
        found.map_or(("", ""), |(group, resource)| (&**group, &**resource))
    }

    async fn measured<T>(&self, operation: &str, key: &str, request: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        let result = request.await;
        let (group, resource) = self.place(key);
        let labels = [operation, group, resource];
        self.metrics.store_duration(labels).observe(begun.elapsed().as_secs_f64());
        self.metrics.store_requests.with_label_values(&labels).inc();
        // That somebody else was quicker is an answer.
        if matches!(&result, Err(error) if !matches!(error, Error::Conflict { .. } | Error::Exists { .. })) {
            self.metrics.store_errors.with_label_values(&labels).inc();
        }
        result
    }
}

#[async_trait]
impl Store for MeasuredStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.measured("get", key, self.inner.get(key)).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        let prefix = options.prefix.clone();
        self.measured("list", &prefix, self.inner.list(options)).await
    }

    async fn create(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<Revision> {
        self.measured("create", key, self.inner.create(key, value, ttl)).await
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision, ttl: Option<Duration>) -> Result<Revision> {
        self.measured("update", key, self.inner.update(key, value, expected, ttl)).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision> {
        self.measured("delete", key, self.inner.delete(key, expected)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream> {
        self.inner.watch(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision> {
        self.inner.revision().await
    }

    async fn is_current(&self, key: &str) -> Result<bool> {
        self.inner.is_current(key).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.inner.compact(revision).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
