//! What an update and an apply do to an object and to who owns its fields (`merge/update.go`).

use super::{
    compare::{Comparison, compare},
    conflict::{ApplyError, Conflict},
    items::{remove_items, to_field_set, with_named_fields},
    managed::{Entry, Managed, ManagedError},
    merge::merge,
    path::Path,
    reconcile::reconcile,
    set::Set,
};
use crate::{
    model::{Model, TypeId},
    value::Value,
};

/// One kind's part of the work. Versions of a kind have one stored form here, so sets of any version mean the same paths.
#[derive(Clone, Copy)]
pub(super) struct Updater<'a> {
    pub model: &'a Model,
    pub ty: TypeId,
    /// Paths that nobody owns: what the strategy resets, and the metadata that is the server's.
    pub skip: &'a Set,
    /// Whether a version is still served; entries of others are dropped.
    pub knows: &'a dyn Fn(&str) -> bool,
}

impl Updater<'_> {
    /// Makes `me` the owner of all that is different in `new`.
    ///
    /// Gives whether that was anything: an update that only takes away is owned by nobody.
    pub fn update(&self, live: &Value, new: &Value, managed: &mut Managed, me: Entry) -> Result<bool, ManagedError> {
        self.forget(managed);
        let comparison = compare(self.model, self.ty, live, new, self.skip);
        if comparison.is_same() {
            return Ok(false);
        }
        let taken = comparison.modified.union(&comparison.added);
        self.release(managed, &taken.union(&comparison.removed), Some(&me))?;
        let set = stripped(&taken);
        let took = !set.is_empty();
        match managed.position(&me) {
            Some(at) => {
                let mine = &mut managed.entries[at];
                let loses = mine.is_touched_by(&comparison.removed);
                // Who writes the same fields again and again owns them already.
                if loses || !mine.covers(&set) {
                    let mut left = self.set(mine)?;
                    left.subtract(&comparison.removed);
                    left.add(&set);
                    mine.put(left);
                }
                if took {
                    mine.time = me.time;
                }
            }
            None if took => {
                let mut me = me;
                me.put(set);
                managed.entries.push(me);
            }
            None => {}
        }
        managed.drop_empty();
        Ok(took)
    }

    /// Lays `config` over `live`, takes out what `me` applied before and no longer does, and makes `me` the owner of what
    /// it says. Gives the object, still as merged.
    pub fn apply(
        &self,
        live: &Value,
        config: &Value,
        managed: &mut Managed,
        me: &Entry,
        force: bool,
    ) -> Result<Value, ApplyError> {
        self.forget(managed);
        let merged = merge(self.model, self.ty, live, config).map_err(ApplyError::Merge)?;
        let set = stripped(&to_field_set(self.model, self.ty, config, self.skip));
        let at = managed.position(me);
        let last = match at {
            Some(at) => self.set(&managed.entries[at])?,
            None => Set::new(),
        };
        let mut mine = Entry { time: at.and_then(|at| managed.entries[at].time.clone()), ..me.clone() };
        mine.put(set.clone());
        match at {
            Some(at) => managed.entries[at] = mine,
            None => managed.entries.push(mine),
        }
        let new = if last.difference(&set).is_empty() { merged } else { self.prune(merged, managed, &last)? };
        let comparison = compare(self.model, self.ty, live, &new, self.skip);
        let Comparison { removed, modified, added } = comparison;
        let taken = modified.union(&added);
        if !force {
            let conflicts = self.conflicts(managed, &taken, me)?;
            if !conflicts.is_empty() {
                return Err(ApplyError::Conflicts(conflicts));
            }
        }
        self.release(managed, &taken.union(&removed), Some(me))?;
        managed.drop_empty();
        Ok(new)
    }

    fn set(&self, entry: &Entry) -> Result<Set, ManagedError> {
        let set = entry.set()?;
        Ok(reconcile(self.model, self.ty, &set).unwrap_or(set))
    }

    fn forget(&self, managed: &mut Managed) {
        managed.entries.retain(|entry| (self.knows)(&entry.api_version));
    }

    /// Takes `changed` from everyone but `me`.
    fn release(&self, managed: &mut Managed, changed: &Set, me: Option<&Entry>) -> Result<(), ManagedError> {
        for entry in &mut managed.entries {
            if me.is_some_and(|me| entry.is_of(me)) || !entry.is_touched_by(changed) {
                continue;
            }
            let mut left = self.set(entry)?;
            left.subtract(changed);
            entry.put(left);
        }
        Ok(())
    }

    /// What of `taken` others own, by owner.
    fn conflicts(&self, managed: &Managed, taken: &Set, me: &Entry) -> Result<Vec<Conflict>, ManagedError> {
        let mut others: Vec<&Entry> = managed.entries.iter().filter(|entry| !entry.is_of(me)).collect();
        let key = |entry: &Entry| {
            (entry.manager.clone(), entry.operation, entry.api_version.clone(), entry.subresource.clone())
        };
        others.sort_by_key(|entry| key(entry));
        let mut conflicts = Vec::new();
        for entry in others.into_iter().filter(|entry| entry.is_touched_by(taken)) {
            for path in self.set(entry)?.intersection(taken).paths() {
                let (manager, operation, api_version, subresource) = key(entry);
                conflicts.push(Conflict { manager, operation, api_version, subresource, path });
            }
        }
        Ok(conflicts)
    }

    /// Takes out of `merged` what the applier said last time, unless anyone says it now.
    fn prune(&self, merged: Value, managed: &Managed, last: &Set) -> Result<Value, ManagedError> {
        let named = |set: &Set| with_named_fields(self.model, self.ty, set);
        let fields = |object: &Value| named(&to_field_set(self.model, self.ty, object, &Set::new()));
        let last = named(last);
        let mut owned = Set::new();
        for entry in &managed.entries {
            owned = owned.union(&self.set(entry)?);
        }
        let all = fields(&merged);
        let pruned = remove_items(self.model, self.ty, &merged, &last);
        // Items that went with what held them, and that others own, come back.
        let kept = fields(&pruned).union(&named(&owned));
        let pruned = remove_items(self.model, self.ty, &merged, &all.difference(&kept));
        // So do those that nobody ever owned.
        let dangling = all.difference(&fields(&pruned)).intersection(&last);
        Ok(remove_items(self.model, self.ty, &merged, &dangling))
    }
}

/// Metadata as a whole is nobody's, whatever of it is.
fn stripped(set: &Set) -> Set {
    set.difference(&Set::from_iter([Path::of(&["metadata"])]))
}
