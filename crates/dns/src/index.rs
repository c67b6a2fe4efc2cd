//! All records by name: an immutable value of which every change makes a new one that shares what did not change.

use std::{collections::BTreeMap, sync::Arc};

use client::ObjectKey;
use imbl::HashMap;

use crate::{Data, Records};

/// Whose records: two Services may have endpoints with one address, and then its reverse name has records of both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    Namespace(String),
    Service(ObjectKey),
    Zone,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// Usually one.
    data: BTreeMap<Owner, Vec<Data>>,
    /// How many names are right below this one: such a name exists also without data.
    children: usize,
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Index {
    names: HashMap<Arc<str>, Arc<Entry>>,
    /// Counts changes: the zone's serial.
    serial: u32,
}

impl Index {
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Whether there is such a name, with data or above one that has.
    pub fn exists(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub fn get(&self, name: &str) -> impl Iterator<Item = &Data> {
        self.names.get(name).into_iter().flat_map(|entry| entry.data.values().flatten())
    }

    /// Replaces what an owner had by what it has.
    pub fn replace(&mut self, owner: &Owner, old: &Records, new: &Records) {
        if old == new {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        for (name, data) in new.iter().filter(|(name, data)| old.get(*name) != Some(data)) {
            self.put(name, owner, data.clone());
        }
        for name in old.keys().filter(|name| !new.contains_key(*name)) {
            self.take(name, owner);
        }
    }

    fn put(&mut self, name: &str, owner: &Owner, data: Vec<Data>) {
        let is_new = !self.names.contains_key(name);
        let entry = self.entry(name);
        entry.data.insert(owner.clone(), data);
        if is_new {
            self.add_child(name);
        }
    }

    fn add_child(&mut self, name: &str) {
        let mut name = name;
        while let Some((_, parent)) = name.split_once('.') {
            let is_new = !self.names.contains_key(parent);
            self.entry(parent).children += 1;
            if !is_new {
                return;
            }
            name = parent;
        }
    }

    fn take(&mut self, name: &str, owner: &Owner) {
        if let Some(entry) = self.names.get_mut(name) {
            Arc::make_mut(entry).data.remove(owner);
        }
        let mut name = name;
        while self.names.get(name).is_some_and(|entry| entry.data.is_empty() && entry.children == 0) {
            self.names.remove(name);
            let Some((_, parent)) = name.split_once('.') else { return };
            let entry = self.entry(parent);
            entry.children = entry.children.saturating_sub(1);
            name = parent;
        }
    }

    fn entry(&mut self, name: &str) -> &mut Entry {
        Arc::make_mut(self.names.entry(name.into()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(names: &[&str]) -> Records {
        names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect()
    }

    #[test]
    fn names_exist_as_long_as_something_is_below() {
        let (a, b) = (Owner::Namespace("a".into()), Owner::Namespace("b".into()));
        let (of_a, of_b) = (records(&["x.y.z", "y.z"]), records(&["x.y.z", "w.y.z"]));
        let mut index = Index::default();
        index.replace(&a, &Records::new(), &of_a);
        index.replace(&b, &Records::new(), &of_b);
        let there = |index: &Index| ["x.y.z", "w.y.z", "y.z", "z"].map(|name| index.exists(name));
        assert_eq!(there(&index), [true; 4]);
        index.replace(&a, &of_a, &Records::new());
        assert_eq!(there(&index), [true; 4]);
        index.replace(&b, &of_b, &records(&["w.y.z"]));
        assert_eq!(there(&index), [false, true, true, true]);
        index.replace(&b, &records(&["w.y.z"]), &Records::new());
        assert_eq!(there(&index), [false; 4]);
        assert!(index.names.is_empty());
    }
}
