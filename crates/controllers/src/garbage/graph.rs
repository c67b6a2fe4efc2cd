//! Who owns whom, over all resources: nodes by UID, and for each owner its dependents, whether or not the owner has been
//! seen itself (an owner known only from references is what upstream's graph_builder.go calls a virtual node).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use client::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::{metadata::Meta, plan::ResourceId};

pub const ORPHAN: &str = "orphan";
pub const FOREGROUND: &str = "foregroundDeletion";

#[derive(Clone, Debug)]
pub struct Node {
    pub resource: Arc<ResourceId>,
    pub namespace: String,
    pub name: String,
    pub owners: Vec<OwnerReference>,
    pub is_deleting: bool,
    /// Deletion waits for dependents (foregroundDeletion).
    pub awaits_dependents: bool,
    /// Deletion leaves the dependents behind (orphan).
    pub orphans_dependents: bool,
}

#[derive(Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
    /// Every resource has been listed: an owner that is not here is worth a look.
    synced: bool,
}

impl Graph {
    pub fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = (&String, &Node)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid).map(|node| (uid, node)))
    }

    pub fn uids_of(&self, resource: &ResourceId) -> BTreeSet<String> {
        self.nodes.iter().filter(|(_, node)| *node.resource == *resource).map(|(uid, _)| uid.clone()).collect()
    }

    /// Takes in an object; gives back the UIDs to look at.
    pub fn observe(&mut self, resource: &Arc<ResourceId>, meta: Meta) -> Vec<String> {
        let is_deleting = meta.deletion_timestamp.is_some();
        let has = |finalizer: &str| is_deleting && meta.finalizers.iter().any(|one| one == finalizer);
        let node = Node {
            resource: resource.clone(),
            is_deleting,
            awaits_dependents: has(FOREGROUND),
            orphans_dependents: has(ORPHAN),
            namespace: meta.namespace,
            name: meta.name,
            owners: meta.owner_references,
        };
        let mut look = Vec::new();
        let before = self.nodes.remove(&meta.uid);
        let old_owners = before.as_ref().map_or(&[][..], |before| &before.owners);
        if old_owners != node.owners {
            self.relink(&meta.uid, old_owners, &node.owners, &mut look);
        }
        let began_waiting = node.awaits_dependents && !before.as_ref().is_some_and(|before| before.awaits_dependents);
        if began_waiting {
            look.extend(self.dependents.get(&meta.uid).into_iter().flatten().cloned());
        }
        if node.awaits_dependents || node.orphans_dependents {
            look.push(meta.uid.clone());
        }
        let is_waited_for =
            |owner: &OwnerReference| self.nodes.get(&owner.uid).is_none_or(|owner| owner.awaits_dependents);
        if self.synced && before.is_none() && node.owners.iter().any(is_waited_for) {
            look.push(meta.uid.clone());
        }
        self.nodes.insert(meta.uid, node);
        look
    }

    fn relink(&mut self, uid: &str, old: &[OwnerReference], new: &[OwnerReference], look: &mut Vec<String>) {
        for owner in old {
            if !new.contains(owner) {
                if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                    dependents.remove(uid);
                    if dependents.is_empty() {
                        self.dependents.remove(&owner.uid);
                    }
                }
                // It may have waited for this reference, or for its blocking.
                if self.nodes.get(&owner.uid).is_some_and(|owner| owner.awaits_dependents) {
                    look.push(owner.uid.clone());
                }
            }
        }
        for owner in new {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.to_owned());
        }
        // New references may be to owners that are gone; and a lost one may have been the last that held the object.
        if self.synced && !old.is_empty() {
            look.push(uid.to_owned());
        }
    }

    /// The object is gone: its dependents lost an owner, and owners that waited for it may go.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut look: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        let Some(node) = self.nodes.remove(uid) else {
            return look;
        };
        for owner in node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
            if self.nodes.get(&owner.uid).is_some_and(|owner| owner.awaits_dependents) {
                look.push(owner.uid);
            }
        }
        look
    }

    /// From now on missing owners count; gives back everything with one, and everything being deleted with dependents.
    pub fn set_synced(&mut self) -> Vec<String> {
        self.synced = true;
        let needs_look = |node: &Node| {
            let is_waited_for =
                |owner: &OwnerReference| self.nodes.get(&owner.uid).is_none_or(|owner| owner.awaits_dependents);
            node.awaits_dependents || node.orphans_dependents || node.owners.iter().any(is_waited_for)
        };
        self.nodes.iter().filter(|(_, node)| needs_look(node)).map(|(uid, _)| uid.clone()).collect()
    }
}
