//! The objects of an informer by name, with indexes: one `Arc` per object, no second copy of anything.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::Delta;
use crate::{Kind, WatchEvent};

pub(super) struct Cache<K> {
    /// Namespace, then name.
    objects: BTreeMap<String, BTreeMap<String, Arc<K>>>,
    indexes: Vec<Index<K>>,
    pub resource_version: String,
}

struct Index<K> {
    name: &'static str,
    keys: fn(&K) -> Vec<String>,
    entries: HashMap<String, BTreeSet<ByName<K>>>,
}

/// An object ordered by its namespace and name, so that a set of them needs no keys of its own.
struct ByName<K>(Arc<K>);

impl<K: Kind> Ord for ByName<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0.namespace(), self.0.name()).cmp(&(other.0.namespace(), other.0.name()))
    }
}

impl<K: Kind> PartialOrd for ByName<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Kind> PartialEq for ByName<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Kind> Eq for ByName<K> {}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Cache { objects: BTreeMap::new(), indexes: Vec::new(), resource_version: String::new() }
    }
}

impl<K: Kind> Index<K> {
    fn insert(&mut self, object: &Arc<K>) {
        for key in (self.keys)(object) {
            self.entries.entry(key).or_default().insert(ByName(object.clone()));
        }
    }

    fn remove(&mut self, object: &Arc<K>) {
        for key in (self.keys)(object) {
            if let Some(objects) = self.entries.get_mut(&key) {
                objects.remove(&ByName(object.clone()));
                if objects.is_empty() {
                    self.entries.remove(&key);
                }
            }
        }
    }
}

impl<K: Kind> Cache<K> {
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects.get(namespace)?.get(name).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.objects.values().flat_map(BTreeMap::values).cloned().collect()
    }

    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.objects.get(namespace).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    pub fn by_index(&self, index: &str, key: &str) -> Vec<Arc<K>> {
        let index = self.indexes.iter().find(|candidate| candidate.name == index);
        let objects = index.and_then(|index| index.entries.get(key));
        objects.into_iter().flatten().map(|object| object.0.clone()).collect()
    }

    pub fn add_index(&mut self, name: &'static str, keys: fn(&K) -> Vec<String>) {
        if self.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, keys, entries: HashMap::new() };
        for object in self.objects.values().flat_map(BTreeMap::values) {
            index.insert(object);
        }
        self.indexes.push(index);
    }

    /// Applies one event of a watch.
    pub fn apply(&mut self, event: WatchEvent<K>) -> Vec<Delta<K>> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.resource_version = object.resource_version().to_owned();
                self.put(Arc::new(object))
            }
            WatchEvent::Deleted(object) => {
                self.resource_version = object.resource_version().to_owned();
                match self.remove(object.namespace(), object.name()) {
                    None => Vec::new(),
                    Some(_) => vec![Delta::Deleted(Arc::new(object))],
                }
            }
            WatchEvent::Bookmark { resource_version, .. } => {
                self.resource_version = resource_version;
                Vec::new()
            }
        }
    }

    /// Makes `objects` the whole content. Deletions come first: what takes a name over is added after what had it.
    pub fn replace(&mut self, objects: Vec<Arc<K>>, resource_version: String) -> Vec<Delta<K>> {
        self.resource_version = resource_version;
        let listed: BTreeSet<(&str, &str)> = objects.iter().map(|object| (object.namespace(), object.name())).collect();
        let gone: Vec<Arc<K>> =
            self.list().into_iter().filter(|object| !listed.contains(&(object.namespace(), object.name()))).collect();
        let mut deltas = Vec::new();
        for object in gone {
            self.remove(object.namespace(), object.name());
            deltas.push(Delta::Deleted(object));
        }
        for object in objects {
            deltas.extend(self.put(object));
        }
        deltas
    }

    fn put(&mut self, new: Arc<K>) -> Vec<Delta<K>> {
        let old = self.get(new.namespace(), new.name());
        if let Some(old) = &old {
            // The same state once more, as after a new list: the object that others hold stays the one in the cache.
            if old.resource_version() == new.resource_version() && old.uid() == new.uid() {
                return Vec::new();
            }
            self.remove(old.namespace(), old.name());
        }
        for index in &mut self.indexes {
            index.insert(&new);
        }
        let names = self.objects.entry(new.namespace().to_owned()).or_default();
        names.insert(new.name().to_owned(), new.clone());
        match old {
            None => vec![Delta::Added(new)],
            Some(old) if old.uid() == new.uid() => vec![Delta::Updated { old, new }],
            Some(old) => vec![Delta::Deleted(old), Delta::Added(new)],
        }
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let names = self.objects.get_mut(namespace)?;
        let object = names.remove(name)?;
        if names.is_empty() {
            self.objects.remove(namespace);
        }
        for index in &mut self.indexes {
            index.remove(&object);
        }
        Some(object)
    }
}
