//! What is different between two objects, as sets of paths (`typed/compare.go`).

use std::collections::BTreeMap;

use super::{
    path::{PathElement, same},
    schema::{Form, ListForm, MapForm, Schema, Spot, pairs, unsaid},
    set::{Set, Step},
};
use crate::{
    model::{Model, TypeId},
    value::{Map, Value},
};

/// No path is in more than one of the sets; all are empty where the objects are equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

impl Comparison {
    /// What is set anew.
    pub fn taken(&self) -> Set {
        self.modified.union(&self.added)
    }

    /// All that is different.
    pub fn all(&self) -> Set {
        self.taken().union(&self.removed)
    }

    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }
}

/// Compares two objects of a type. Members of `skip`, and everything below them, are not looked at.
pub fn compare(model: &Model, ty: TypeId, left: &Value, right: &Value, skip: &Set) -> Comparison {
    let mut walk = Walk { schema: Schema { model }, path: Vec::new(), out: Comparison::default() };
    walk.value(Spot::Type(ty), Some(left), Some(right), Some(skip));
    walk.out
}

/// From this width on members are walked through in the order in which sets are kept, so that what is different is added at
/// their ends.
const WIDE: usize = 32;

struct Walk<'m, 'a> {
    schema: Schema<'m>,
    path: Vec<Step<'a>>,
    out: Comparison,
}

/// What came of a value: whether it was taken as one, without looking inside.
type IsLeaf = bool;

impl<'m: 'a, 'a> Walk<'m, 'a> {
    fn value(&mut self, spot: Spot<'m>, left: Option<&'a Value>, right: Option<&'a Value>, skip: Option<&Set>) {
        let is_leaf = match (left, right) {
            (None, None) => return,
            (Some(one), None) | (None, Some(one)) => self.formed(self.schema.form_of(spot, one), left, right, skip),
            (Some(old), Some(new)) => {
                let (from, to) = (self.schema.form_of(spot, old), self.schema.form_of(spot, new));
                if std::mem::discriminant(&from) != std::mem::discriminant(&to) && !old.is_null() && !new.is_null() {
                    self.formed(from, left, right, skip);
                    self.formed(to, left, right, skip)
                } else {
                    self.formed(if new.is_null() { from } else { to }, left, right, skip)
                }
            }
        };
        if !is_leaf {
            self.note_presence(left, right);
        }
    }

    fn note_presence(&mut self, left: Option<&Value>, right: Option<&Value>) {
        match (left, right) {
            (None, _) => self.out.added.insert_steps(&self.path),
            (_, None) => self.out.removed.insert_steps(&self.path),
            _ => {}
        }
    }

    fn formed(
        &mut self,
        form: Form<'m>,
        left: Option<&'a Value>,
        right: Option<&'a Value>,
        skip: Option<&Set>,
    ) -> IsLeaf {
        match form {
            Form::Scalar(_) | Form::Any(_) => self.leaf(left, right),
            Form::List(list) => {
                let items = |value: Option<&'a Value>| value.and_then(Value::as_array).unwrap_or_default();
                let (old, new) = (items(left), items(right));
                if form.is_atomic() || (old.is_empty() && new.is_empty()) {
                    return self.leaf(left, right);
                }
                self.list(&list, old, new);
                false
            }
            Form::Map(map) => {
                let members = |value: Option<&'a Value>| value.and_then(Value::as_object).filter(|map| !map.is_empty());
                let (old, new) = (members(left), members(right));
                if form.is_atomic() || (old.is_none() && new.is_none()) {
                    return self.leaf(left, right);
                }
                self.map(&map, left, right, skip);
                false
            }
        }
    }

    fn leaf(&mut self, left: Option<&Value>, right: Option<&Value>) -> IsLeaf {
        match (left, right) {
            (Some(old), Some(new)) if !same(old, new) => self.out.modified.insert_steps(&self.path),
            (Some(_), Some(_)) => {}
            _ => self.note_presence(left, right),
        }
        true
    }

    fn map(&mut self, form: &MapForm<'m>, left: Option<&'a Value>, right: Option<&'a Value>, skip: Option<&Set>) {
        static NOTHING: Map = Map::new();
        let members = |value: Option<&'a Value>| value.and_then(Value::as_object).unwrap_or(&NOTHING);
        let (old, new) = (members(left), members(right));
        let mut pairs = pairs(old, new);
        if pairs.len() > WIDE {
            pairs.sort_unstable_by_key(|(name, ..)| *name);
        }
        for (name, from, to) in pairs {
            let below = skip.and_then(|skip| skip.node(Step::Field(name)));
            if below.is_some_and(|node| node.member) {
                continue;
            }
            let (spot, _) = form.member_or_deduced(name);
            let (from, to) = match spot {
                Spot::Field(field) => {
                    (from.or_else(|| left.and(unsaid(field))), to.or_else(|| right.and(unsaid(field))))
                }
                _ => (from, to),
            };
            self.path.push(Step::Field(name));
            self.value(spot, from, to, below.map(|node| &node.children));
            self.path.pop();
        }
        if left.is_none() || right.is_none() {
            self.unsaid(form, left, right, skip);
        }
    }

    /// Fields that neither side mentions, where only one side is there at all.
    fn unsaid(&mut self, form: &MapForm<'m>, left: Option<&'a Value>, right: Option<&'a Value>, skip: Option<&Set>) {
        let says = |value: Option<&Value>, name: &str| value.and_then(|value| value.get(name)).is_some();
        for (field, value) in form.unsaid() {
            let is_skipped = skip.and_then(|skip| skip.node(Step::Field(&field.name))).is_some_and(|node| node.member);
            if says(left, &field.name) || says(right, &field.name) || is_skipped {
                continue;
            }
            self.path.push(Step::Field(&field.name));
            self.leaf(left.map(|_| value), right.map(|_| value));
            self.path.pop();
        }
    }

    fn list(&mut self, list: &ListForm<'m>, old: &'a [Value], new: &'a [Value]) {
        if old.len() == new.len() && old.iter().zip(new).all(|(old, new)| same(old, new)) {
            return;
        }
        let mut found: BTreeMap<PathElement, (Vec<&'a Value>, Vec<&'a Value>)> = BTreeMap::new();
        // An item that cannot be identified cannot be owned.
        for item in old {
            if let Ok(element) = self.schema.element(list, item) {
                found.entry(element).or_default().0.push(item);
            }
        }
        for item in new {
            if let Ok(element) = self.schema.element(list, item) {
                found.entry(element).or_default().1.push(item);
            }
        }
        for (element, (old, new)) in found {
            self.item(list, &element, &old, &new);
        }
    }

    /// Items that stand more than once are compared as one value.
    fn item(&mut self, list: &ListForm<'m>, element: &PathElement, old: &[&'a Value], new: &[&'a Value]) {
        // The element lives shorter than the tree: what lies below it is collected on its own and moved under it.
        let outer = std::mem::take(&mut self.path);
        let before = std::mem::take(&mut self.out);
        match (old, new) {
            ([] | [_], [] | [_]) => self.value(list.item, old.first().copied(), new.first().copied(), None),
            (_, [new]) => self.value(list.item, None, Some(*new), None),
            ([old], _) => self.value(list.item, Some(*old), None, None),
            _ => {}
        }
        let inner = std::mem::replace(&mut self.out, before);
        self.path = outer;
        let differs = || old.len() != new.len() || old.iter().zip(new).any(|(old, new)| !same(old, new));
        let (removed, modified, added) = match (old.len(), new.len()) {
            (0, _) => (false, false, true),
            (_, 0) => (true, false, false),
            (1, 1) => (false, self.schema.form(list.item).is_atomic() && differs(), false),
            (2.., 2..) => (false, differs(), false),
            // The item itself comes or goes, and so does the mark that it stands more than once.
            _ => (true, false, true),
        };
        let path: Vec<Step<'_>> = self.path.iter().copied().chain([Step::Element(element)]).collect();
        self.out.removed.graft(&path, removed, inner.removed);
        self.out.modified.graft(&path, modified, inner.modified);
        self.out.added.graft(&path, added, inner.added);
    }
}
