//! Pods that no selector can tell apart, counted per node: same namespace, same labels. Most pods have many like them, so
//! what looks for matching pods asks once per group, not once per pod.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::{labels::Selector, pod::PodInfo};

#[derive(Clone, Debug, Default)]
pub struct PodGroups(HashMap<String, HashMap<Like, HashMap<usize, u32>>>);

/// A pod that stands for all that look like it.
#[derive(Clone, Debug)]
struct Like(Arc<PodInfo>);

impl PartialEq for Like {
    fn eq(&self, other: &Like) -> bool {
        let (one, other) = (&self.0, &other.0);
        one.namespace() == other.namespace()
            && one.is_terminating() == other.is_terminating()
            && one.labels() == other.labels()
    }
}

impl Eq for Like {}

impl Hash for Like {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.like);
    }
}

/// The same for all pods that look alike; worked out once per pod.
pub(crate) fn likeness(pod: &client::kinds::core::v1::Pod) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&pod.metadata.namespace, &pod.metadata.labels, pod.metadata.deletion_timestamp.is_some()).hash(&mut hasher);
    hasher.finish()
}

impl PodGroups {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Counts what changed on the node at this place. Pods come and go at the end of the list, so what the lists begin
    /// with in common is passed over.
    pub(crate) fn update(&mut self, node: usize, old: &[Arc<PodInfo>], new: &[Arc<PodInfo>]) {
        let common = old.iter().zip(new).take_while(|(old, new)| Arc::ptr_eq(old, new)).count();
        old[common..].iter().for_each(|pod| self.remove(pod, node));
        new[common..].iter().for_each(|pod| self.add(pod, node));
    }

    fn add(&mut self, pod: &Arc<PodInfo>, node: usize) {
        if !self.0.contains_key(pod.namespace()) {
            self.0.insert(pod.namespace().to_owned(), HashMap::new());
        }
        if let Some(groups) = self.0.get_mut(pod.namespace()) {
            *groups.entry(Like(pod.clone())).or_default().entry(node).or_default() += 1;
        }
    }

    fn remove(&mut self, pod: &Arc<PodInfo>, node: usize) {
        let Some(groups) = self.0.get_mut(pod.namespace()) else { return };
        let like = Like(pod.clone());
        let Some(nodes) = groups.get_mut(&like) else { return };
        if let Some(count) = nodes.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(&node);
            }
        }
        if nodes.is_empty() {
            groups.remove(&like);
        }
    }

    /// One pod of every group, with the places of the nodes and the number of such pods there.
    pub fn all(&self) -> impl Iterator<Item = (&PodInfo, &HashMap<usize, u32>)> {
        self.0.values().flatten().map(|(like, nodes)| (&*like.0, nodes))
    }

    /// How many pods of the namespace that are not leaving match, on each of `nodes` nodes.
    pub fn matching(&self, namespace: &str, selector: &Selector, nodes: usize) -> Vec<i64> {
        let mut counts = vec![0; nodes];
        let groups = self.0.get(namespace).into_iter().flatten();
        for (_, on) in groups.filter(|(like, _)| !like.0.is_terminating() && selector.matches(like.0.labels())) {
            for (node, count) in on {
                if let Some(sum) = counts.get_mut(*node) {
                    *sum += i64::from(*count);
                }
            }
        }
        counts
    }
}
