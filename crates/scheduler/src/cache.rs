//! The scheduler's view of nodes and pods, kept up to date event by event, with the pods it has placed but not yet seen
//! bound (upstream `backend/cache/cache.go`). A snapshot is brought up to date by what changed since.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use client::{Kind, kinds::core::v1::Node};
use jiff::{SignedDuration, Timestamp};

use crate::{node::NodeInfo, pod::PodInfo, snapshot::Snapshot};

#[derive(Debug, Default)]
pub struct Cache {
    nodes: HashMap<String, Entry>,
    pods: HashMap<String, PlacedPod>,
    /// Nodes in the order they came, per zone.
    zones: BTreeMap<String, BTreeMap<u64, String>>,
    sequence: u64,
    dirty: HashSet<String>,
    reordered: bool,
    /// How long a bound pod may stay assumed before it is given up; `None` is for ever, upstream's setting.
    assumed_ttl: Option<Duration>,
}

#[derive(Debug)]
struct Entry {
    info: Arc<NodeInfo>,
    /// Zone and place in it; `None` while only pods name the node.
    place: Option<(String, u64)>,
}

#[derive(Debug)]
struct PlacedPod {
    info: Arc<PodInfo>,
    node: String,
    assumed: bool,
    expires: Option<Timestamp>,
}

impl Cache {
    pub fn new(assumed_ttl: Option<Duration>) -> Cache {
        Cache { assumed_ttl, ..Cache::default() }
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.name().to_owned();
        let entry = self.nodes.entry(name.clone()).or_insert_with(|| Entry { info: Arc::default(), place: None });
        Arc::make_mut(&mut entry.info).set_node(node);
        let zone = entry.info.zone();
        if entry.place.as_ref().is_none_or(|(old, _)| *old != zone) {
            if let Some((old, at)) = entry.place.take() {
                leave(&mut self.zones, &old, at);
            }
            self.sequence += 1;
            self.zones.entry(zone.clone()).or_default().insert(self.sequence, name.clone());
            entry.place = Some((zone, self.sequence));
            self.reordered = true;
        }
        self.dirty.insert(name);
    }

    /// Pods that were on it stay known until their own deletion is seen.
    pub fn remove_node(&mut self, name: &str) {
        let Some(entry) = self.nodes.get_mut(name) else { return };
        if let Some((zone, at)) = entry.place.take() {
            leave(&mut self.zones, &zone, at);
            self.reordered = true;
        }
        if entry.info.pods.is_empty() {
            self.nodes.remove(name);
        }
    }

    /// A pod seen on its node; confirms one that was assumed.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(pod.uid());
        self.place(pod.clone(), pod.node_name().to_owned(), false);
    }

    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let placed = self.pods.remove(uid)?;
        if let Some(entry) = self.nodes.get_mut(&placed.node) {
            Arc::make_mut(&mut entry.info).remove_pod(uid);
            if entry.place.is_none() && entry.info.pods.is_empty() {
                self.nodes.remove(&placed.node);
            }
            self.dirty.insert(placed.node);
        }
        Some(placed.info)
    }

    /// Counts the pod on the node from now on, while it is being bound.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(pod.uid());
        self.place(pod, node.to_owned(), true);
    }

    /// The binding was accepted; from now on the watch is waited for.
    pub fn finish_binding(&mut self, uid: &str, now: Timestamp) {
        let ttl = self.assumed_ttl.and_then(|ttl| SignedDuration::try_from(ttl).ok());
        if let Some(pod) = self.pods.get_mut(uid).filter(|pod| pod.assumed) {
            pod.expires = ttl.and_then(|ttl| now.checked_add(ttl).ok());
        }
    }

    /// The pod is not going to be bound after all. Pods that were seen bound stay.
    pub fn forget(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        if self.is_assumed(uid) { self.remove_pod(uid) } else { None }
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|pod| pod.assumed)
    }

    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid).map(|pod| &pod.info)
    }

    /// Gives up the assumed pods whose time has passed.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Arc<PodInfo>> {
        let late = |pod: &PlacedPod| pod.expires.is_some_and(|expires| expires <= now);
        let uids: Vec<String> = self.pods.iter().filter(|(_, pod)| late(pod)).map(|(uid, _)| uid.clone()).collect();
        uids.iter().filter_map(|uid| self.remove_pod(uid)).collect()
    }

    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.assumed_ttl?;
        self.pods.values().filter_map(|pod| pod.expires).min()
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: String, assumed: bool) {
        let entry = self.nodes.entry(node.clone()).or_insert_with(|| Entry { info: Arc::default(), place: None });
        Arc::make_mut(&mut entry.info).add_pod(pod.clone());
        self.dirty.insert(node.clone());
        self.pods.insert(pod.uid().to_owned(), PlacedPod { info: pod, node, assumed, expires: None });
    }

    /// Brings a snapshot that this cache filled before up to date; its cost is in the nodes that changed.
    pub fn update(&mut self, snapshot: &mut Snapshot) {
        if std::mem::take(&mut self.reordered) {
            let order = interleave(&self.zones);
            snapshot.set_nodes(
                order.iter().filter_map(|name| self.nodes.get(*name)).map(|entry| entry.info.clone()).collect(),
            );
            self.dirty.clear();
            return;
        }
        for name in self.dirty.drain() {
            if let Some(entry) = self.nodes.get(&name).filter(|entry| entry.place.is_some()) {
                snapshot.set_node(entry.info.clone());
            }
        }
    }
}

fn leave(zones: &mut BTreeMap<String, BTreeMap<u64, String>>, zone: &str, at: u64) {
    if let Some(names) = zones.get_mut(zone) {
        names.remove(&at);
        if names.is_empty() {
            zones.remove(zone);
        }
    }
}

/// The first node of every zone, then the second of every zone and so on (upstream `node_tree.go`), so that a search that
/// ends early has seen all zones.
fn interleave(zones: &BTreeMap<String, BTreeMap<u64, String>>) -> Vec<&String> {
    let mut lists: Vec<_> = zones.values().map(BTreeMap::values).collect();
    let mut order = Vec::new();
    loop {
        let before = order.len();
        order.extend(lists.iter_mut().filter_map(Iterator::next));
        if order.len() == before {
            return order;
        }
    }
}
