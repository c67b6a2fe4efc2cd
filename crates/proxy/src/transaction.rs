//! What changes the kernel's table from one ruleset to another, and how nft is told.

use std::fmt::Write;
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::{Chain, Container, Key, Name, Ruleset, SetSpec, Table, Verdict};

/// One command to nft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    AddSet(Name, Arc<SetSpec>),
    DeleteSet(Name),
    AddChain(Name, Option<&'static str>),
    FlushChain(Name),
    DeleteChain(Name),
    AddRule(Name, String),
    AddElement(Container, Key, Option<Verdict>),
    DeleteElement(Container, Key),
}

/// Whether chains that an earlier transaction emptied may go now. Kernels before 6.2 hold a chain for a moment after the
/// element that named it is gone, so the two never happen in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    Keep,
    Delete,
}

/// Changes that nft makes all together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub changes: Vec<Change>,
}

/// The changes from `committed` to `wanted`, and what the table holds after them: `wanted`, and chains that are no longer
/// used, emptied.
pub fn diff(committed: &Ruleset, wanted: &Ruleset, stale: Stale) -> (Transaction, Ruleset) {
    let mut changes = Vec::new();
    let mut after = wanted.clone();
    let mut obsolete_sets = Vec::new();
    for item in committed.sets.diff(&wanted.sets) {
        match item {
            DiffItem::Add(name, spec) => changes.push(Change::AddSet(name.clone(), spec.clone())),
            DiffItem::Remove(name, _) => obsolete_sets.push(Change::DeleteSet(name.clone())),
            // A set's name says everything about it, so that one in use need not change.
            DiffItem::Update { .. } => {}
        }
    }
    let mut rules = Vec::new();
    let mut last = Vec::new();
    for item in committed.chains.diff(&wanted.chains) {
        match item {
            DiffItem::Add(name, chain) => {
                changes.push(Change::AddChain(name.clone(), chain.hook));
                add_rules(&mut rules, name, chain);
            }
            DiffItem::Update { new: (name, new), .. } => {
                rules.push(Change::FlushChain(name.clone()));
                add_rules(&mut rules, name, new);
            }
            DiffItem::Remove(name, chain) if chain.rules.is_empty() && stale == Stale::Delete => {
                last.push(Change::DeleteChain(name.clone()));
            }
            DiffItem::Remove(name, chain) => {
                if !chain.rules.is_empty() {
                    last.push(Change::FlushChain(name.clone()));
                }
                after.chains.insert(name.clone(), Arc::default());
            }
        }
    }
    changes.append(&mut rules);
    changes.extend(element_changes(committed, wanted));
    // Nothing names them any more when their turn comes.
    changes.append(&mut last);
    changes.append(&mut obsolete_sets);
    (Transaction { changes }, after)
}

fn add_rules(changes: &mut Vec<Change>, name: &Name, chain: &Chain) {
    changes.extend(chain.rules.iter().map(|rule| Change::AddRule(name.clone(), rule.clone())));
}

/// Deletions first: an element whose verdict changes is one deletion and one addition.
fn element_changes(committed: &Ruleset, wanted: &Ruleset) -> Vec<Change> {
    let mut deletions = Vec::new();
    let mut additions = Vec::new();
    for item in committed.elements.diff(&wanted.elements) {
        let (old, new) = match item {
            DiffItem::Add(key, verdict) => (None, Some((key, verdict))),
            DiffItem::Update { old: (key, _), new } => (Some(key), Some(new)),
            DiffItem::Remove(key, _) => (Some(key), None),
        };
        deletions.extend(old.map(|(container, key)| Change::DeleteElement(*container, key.clone())));
        let addition = |((container, key), verdict): (&(Container, Key), &Option<Verdict>)| {
            Change::AddElement(*container, key.clone(), verdict.clone())
        };
        additions.extend(new.map(addition));
    }
    deletions.append(&mut additions);
    deletions
}

impl Transaction {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// The input of `nft -f -`.
    pub fn text(&self, table: &Table) -> String {
        let mut text = String::new();
        let mut rest = self.changes.as_slice();
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|change| container(change) == container(first)).count();
            let run = if container(first).is_some() { run } else { 1 };
            let (these, others) = rest.split_at(run);
            // Writing to a string cannot fail.
            let _ = write_changes(&mut text, table, these);
            rest = others;
        }
        text
    }
}

/// What makes elements part of one command.
fn container(change: &Change) -> Option<(bool, Container)> {
    match change {
        Change::AddElement(container, ..) => Some((true, *container)),
        Change::DeleteElement(container, _) => Some((false, *container)),
        _ => None,
    }
}

fn write_changes(text: &mut String, table: &Table, changes: &[Change]) -> std::fmt::Result {
    let Some(first) = changes.first() else { return Ok(()) };
    match first {
        Change::AddSet(name, spec) => {
            let what = if spec.is_map { "map" } else { "set" };
            writeln!(text, "add {what} {table} {name} {{ {} }}", spec.body)
        }
        Change::DeleteSet(name) => writeln!(text, "delete set {table} {name}"),
        Change::AddChain(name, None) => writeln!(text, "add chain {table} {name}"),
        Change::AddChain(name, Some(hook)) => writeln!(text, "add chain {table} {name} {{ {hook} }}"),
        Change::FlushChain(name) => writeln!(text, "flush chain {table} {name}"),
        Change::DeleteChain(name) => writeln!(text, "delete chain {table} {name}"),
        Change::AddRule(name, rule) => writeln!(text, "add rule {table} {name} {rule}"),
        Change::AddElement(container, ..) => {
            write!(text, "add element {table} {} {{ ", container.name())?;
            write_elements(text, changes)
        }
        Change::DeleteElement(container, _) => {
            write!(text, "delete element {table} {} {{ ", container.name())?;
            write_elements(text, changes)
        }
    }
}

fn write_elements(text: &mut String, changes: &[Change]) -> std::fmt::Result {
    for (number, change) in changes.iter().enumerate() {
        if number > 0 {
            text.push_str(", ");
        }
        match change {
            Change::AddElement(_, key, Some(verdict)) => write!(text, "{key} : {verdict}")?,
            Change::AddElement(_, key, None) | Change::DeleteElement(_, key) => write!(text, "{key}")?,
            _ => {}
        }
    }
    text.push_str(" }\n");
    Ok(())
}
