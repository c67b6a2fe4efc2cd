//! What an update and an apply do to an object and to who owns its fields (`merge/update.go`).

use std::borrow::Cow;

use super::{
    compare::{Comparison, compare},
    conflict::{ApplyError, Conflict},
    items::{remove_items, to_field_set, with_named_fields},
    managed::{Entry, Managed, ManagedError},
    merge::merge,
    path::Path,
    reconcile::reconcile,
    set::Set,
    versions::{Versions, View},
};
use crate::{
    model::{Model, TypeId},
    value::Value,
};

/// One kind's part of the work, on objects of one version. Entries may be of others.
#[derive(Clone, Copy)]
pub(super) struct Updater<'a> {
    pub model: &'a Model,
    pub ty: TypeId,
    pub versions: Versions<'a>,
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
        let taken = comparison.taken();
        self.release(managed, &Change { live, new, own: &comparison }, Some(&me))?;
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
        let (last, version) = match at {
            Some(at) => (self.set(&managed.entries[at])?, managed.entries[at].api_version.clone()),
            None => (Set::new(), me.api_version.clone()),
        };
        let mut mine = Entry { time: at.and_then(|at| managed.entries[at].time.clone()), ..me.clone() };
        mine.put(set.clone());
        match at {
            Some(at) => managed.entries[at] = mine,
            None => managed.entries.push(mine),
        }
        let is_all_said = self.versions.view(&version).is_at_hand() && last.difference(&set).is_empty();
        let new = if is_all_said { merged } else { self.prune(merged, managed, &last, &version)? };
        let comparison = compare(self.model, self.ty, live, &new, self.skip);
        let change = Change { live, new: &new, own: &comparison };
        if !force {
            let conflicts = self.conflicts(managed, &change, me)?;
            if !conflicts.is_empty() {
                return Err(ApplyError::Conflicts(conflicts));
            }
        }
        self.release(managed, &change, Some(me))?;
        managed.drop_empty();
        Ok(new)
    }

    fn set(&self, entry: &Entry) -> Result<Set, ManagedError> {
        let set = entry.set()?;
        Ok(reconcile(self.model, self.versions.view(&entry.api_version).ty, &set).unwrap_or(set))
    }

    /// What a change does in the version of an entry; `own` is that in the version at hand.
    fn changed_for<'c>(
        &self,
        change: &Change<'_>,
        entry: &Entry,
        own: &'c Set,
        what: fn(&Comparison) -> Set,
    ) -> Cow<'c, Set> {
        let view = self.versions.view(&entry.api_version);
        if view.is_at_hand() {
            return Cow::Borrowed(own);
        }
        let [live, new] = [change.live, change.new].map(|object| match object.as_object() {
            // Nothing is nothing in all versions.
            Some(map) if map.is_empty() => Cow::Borrowed(object),
            _ => self.versions.show(object, view),
        });
        Cow::Owned(what(&compare(self.model, view.ty, &live, &new, self.skip)))
    }

    fn forget(&self, managed: &mut Managed) {
        managed.entries.retain(|entry| (self.knows)(&entry.api_version));
    }

    /// Takes `changed` from everyone but `me`.
    fn release(&self, managed: &mut Managed, change: &Change<'_>, me: Option<&Entry>) -> Result<(), ManagedError> {
        let own = change.own.all();
        for entry in managed.entries.iter_mut().filter(|entry| me.is_none_or(|me| !entry.is_of(me))) {
            let changed = self.changed_for(change, entry, &own, Comparison::all);
            if entry.is_touched_by(&changed) {
                let mut left = self.set(entry)?;
                left.subtract(&changed);
                entry.put(left);
            }
        }
        Ok(())
    }

    /// What others own of what a change sets, by owner.
    fn conflicts(&self, managed: &Managed, change: &Change<'_>, me: &Entry) -> Result<Vec<Conflict>, ManagedError> {
        let mut others: Vec<&Entry> = managed.entries.iter().filter(|entry| !entry.is_of(me)).collect();
        let key = |entry: &Entry| {
            (entry.manager.clone(), entry.operation, entry.api_version.clone(), entry.subresource.clone())
        };
        others.sort_by_key(|entry| key(entry));
        let mut conflicts = Vec::new();
        let own = change.own.taken();
        for entry in others {
            let taken = self.changed_for(change, entry, &own, Comparison::taken);
            if !entry.is_touched_by(&taken) {
                continue;
            }
            for path in self.set(entry)?.intersection(&taken).paths() {
                let (manager, operation, api_version, subresource) = key(entry);
                conflicts.push(Conflict { manager, operation, api_version, subresource, path });
            }
        }
        Ok(conflicts)
    }

    /// Takes out of `merged` what the applier said last time, with `version`, unless anyone says it now.
    fn prune(&self, merged: Value, managed: &Managed, last: &Set, version: &str) -> Result<Value, ManagedError> {
        let (model, versions) = (self.model, &self.versions);
        let own = versions.at_hand();
        let view = versions.view(version);
        let named = |ty: TypeId, set: &Set| with_named_fields(model, ty, set);
        let fields = |ty: TypeId, object: &Value| named(ty, &to_field_set(model, ty, object, &Set::new()));
        let merged = versions.between(merged, own, view);
        // What is nobody's stays, though clients may send entries that own it.
        let last = named(view.ty, &last.recursive_difference(self.skip));
        let mut pruned = remove_items(model, view.ty, &merged, &last);
        // Items that went with what held them, and that others own, come back: version by version, this one first.
        let mut owned: Vec<(View, &str, Set)> = vec![(view, version, Set::new())];
        for entry in &managed.entries {
            let set = self.set(entry)?;
            let at_hand = versions.view(&entry.api_version).is_at_hand();
            let same = |(view, version, _): &&mut (View, &str, Set)| {
                **version == *entry.api_version || (at_hand && view.is_at_hand())
            };
            match owned.iter_mut().find(same) {
                Some((_, _, all)) => *all = all.union(&set),
                None => owned.push((versions.view(&entry.api_version), &entry.api_version, set)),
            }
        }
        for (other, _, owned) in owned {
            let there = versions.between(merged.clone(), view, other);
            let left = versions.between(pruned, view, other);
            let kept = fields(other.ty, &left).union(&named(other.ty, &owned));
            let left = remove_items(model, other.ty, &there, &fields(other.ty, &there).difference(&kept));
            pruned = versions.between(left, other, view);
        }
        // So do those that nobody ever owned.
        let dangling = fields(view.ty, &merged).difference(&fields(view.ty, &pruned)).intersection(&last);
        Ok(versions.between(remove_items(model, view.ty, &merged, &dangling), view, own))
    }
}

/// What a request does, in the version at hand.
struct Change<'c> {
    live: &'c Value,
    new: &'c Value,
    own: &'c Comparison,
}

/// Metadata as a whole is nobody's, whatever of it is.
fn stripped(set: &Set) -> Set {
    set.difference(&Set::from_iter([Path::of(&["metadata"])]))
}
