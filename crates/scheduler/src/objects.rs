//! The objects beside pods and nodes that plugins look at, by namespace and name.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use client::{
    Kind,
    kinds::{
        apps::v1::{ReplicaSet, StatefulSet},
        core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service},
        policy::v1::PodDisruptionBudget,
        storage::v1::{CSINode, StorageClass},
    },
};

use crate::labels::{self, Labels};

/// Objects of one kind, by namespace (empty for a kind of the cluster) and name.
#[derive(Clone, Debug)]
pub struct Table<K>(HashMap<String, BTreeMap<String, Arc<K>>>);

impl<K> Default for Table<K> {
    fn default() -> Self {
        Table(HashMap::new())
    }
}

impl<K: Kind> Table<K> {
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.0.get(namespace)?.get(name)
    }

    pub fn insert(&mut self, object: Arc<K>) {
        self.0.entry(object.namespace().to_owned()).or_default().insert(object.name().to_owned(), object);
    }

    pub fn remove(&mut self, object: &K) {
        if let Some(objects) = self.0.get_mut(object.namespace()) {
            objects.remove(object.name());
            if objects.is_empty() {
                self.0.remove(object.namespace());
            }
        }
    }

    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.0.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// Ordered by name within a namespace only.
    pub fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.0.values().flat_map(BTreeMap::values)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub namespaces: Table<Namespace>,
    pub services: Table<Service>,
    pub replication_controllers: Table<ReplicationController>,
    pub replica_sets: Table<ReplicaSet>,
    pub stateful_sets: Table<StatefulSet>,
    pub budgets: Table<PodDisruptionBudget>,
    pub claims: Table<PersistentVolumeClaim>,
    pub volumes: Table<PersistentVolume>,
    pub classes: Table<StorageClass>,
    pub csi_nodes: Table<CSINode>,
}

static NONE: LazyLock<Labels> = LazyLock::new(Labels::new);

impl Objects {
    /// Empty for a namespace that is not known (yet).
    pub fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.namespaces.get("", namespace).map_or(&NONE, |namespace| labels::of(&namespace.metadata))
    }
}
