//! Where the members of a wide map stand, by their names.

use std::{collections::hash_map::RandomState, hash::BuildHasher};

use hashbrown::HashTable;

use super::Member;

/// Up to this width a member is found sooner by walking past all others.
const NARROW: usize = 32;

#[derive(Clone)]
pub(super) struct Places {
    /// Names stay in the map's entries alone.
    table: HashTable<usize>,
    hasher: RandomState,
}

impl Places {
    /// `None` where the map is narrow.
    pub fn of(entries: &[Member]) -> Option<Box<Places>> {
        if entries.len() <= NARROW {
            return None;
        }
        let mut places = Places { table: HashTable::with_capacity(entries.len()), hasher: RandomState::new() };
        (0..entries.len()).for_each(|at| places.add(entries, at));
        Some(Box::new(places))
    }

    pub fn find(&self, entries: &[Member], name: &str) -> Option<usize> {
        self.table.find(self.hasher.hash_one(name), |at| *entries[*at].0 == *name).copied()
    }

    pub fn add_last(&mut self, entries: &[Member]) {
        self.add(entries, entries.len() - 1);
    }

    fn add(&mut self, entries: &[Member], at: usize) {
        let hash = |at: &usize| self.hasher.hash_one(&*entries[*at].0);
        self.table.insert_unique(hash(&at), at, hash);
    }

    /// The member at a place is about to go, and the last one to stand there.
    pub fn give_to_last(&mut self, entries: &[Member], at: usize) {
        let last = entries.len() - 1;
        let hash = |at: usize| self.hasher.hash_one(&*entries[at].0);
        if let Ok(going) = self.table.find_entry(hash(at), |place| *place == at) {
            going.remove();
        }
        if let Some(place) = self.table.find_mut(hash(last), |place| *place == last) {
            *place = at;
        }
    }
}
