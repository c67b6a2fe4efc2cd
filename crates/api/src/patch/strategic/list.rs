//! Lists in a strategic merge: what their items are, how items are identified, and the order they end up in.

use std::collections::{HashMap, HashSet};

use super::{DIRECTIVE, Result, StrategicError, found, go_text, go_type};
use crate::value::Value;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Map,
    Scalar,
}

/// The kind of all items of all lists; nothing if there are none. Mixed lists and lists of lists are errors.
pub(super) fn check_items(lists: &[&[Value]]) -> Result<Option<Kind>> {
    let mut items = lists.iter().flat_map(|list| list.iter());
    let Some(first) = items.next() else { return Ok(None) };
    if matches!(first, Value::Array(_)) {
        return Err(StrategicError::ListOfLists);
    }
    if items.any(|item| go_type(item) != go_type(first)) {
        let lists: Vec<String> = lists.iter().map(|list| go_text(&Value::Array(list.to_vec()))).collect();
        return Err(StrategicError::MixedList(format!("[{}]", lists.join(" "))));
    }
    Ok(Some(if matches!(first, Value::Object(_)) { Kind::Map } else { Kind::Scalar }))
}

/// Carries out the `$patch` items of a list: deletes items by their key, or drops the original. Gives back the original and
/// the items that are left to merge.
pub(super) fn apply_directives(
    key: &str,
    mut original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut items = Vec::with_capacity(patch.len());
    let (mut replaces, mut doomed) = (false, HashSet::new());
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            items.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                doomed.insert(MergeKey(Some(key)).of(&item)?.clone());
            }
            Some("replace") => replaces = true,
            Some("merge") => return Err(StrategicError::MergeDirective),
            _ => return Err(StrategicError::Directive { directive: go_text(directive), map: go_text(&item) }),
        }
    }
    original.retain(|candidate| candidate.get(key).is_none_or(|key| !doomed.contains(key)));
    Ok(if replaces { (items, Vec::new()) } else { (original, items) })
}

/// The member that identifies an item; without one, items identify themselves.
#[derive(Clone, Copy)]
pub(super) struct MergeKey<'m>(pub(super) Option<&'m str>);

impl MergeKey<'_> {
    pub(super) fn of<'v>(&self, item: &'v Value) -> Result<&'v Value> {
        let Some(key) = self.0 else { return Ok(item) };
        let map = item
            .as_object()
            .ok_or_else(|| StrategicError::Type { wanted: "map[string]interface {}", found: found(item) })?;
        map.get(key).ok_or_else(|| StrategicError::NoMergeKey { map: go_text(item), key: key.to_owned() })
    }

    /// Where items stand first, by what identifies them; a list that is only used as an order may have some without.
    fn places<'v>(&self, list: &'v [Value]) -> HashMap<&'v Value, usize> {
        let mut places = HashMap::with_capacity(list.len());
        for (at, item) in list.iter().enumerate() {
            if let Ok(key) = self.of(item) {
                places.entry(key).or_insert(at);
            }
        }
        places
    }

    /// The patch's items must stand in the order that `$setElementOrder` states, and all be in it.
    pub(super) fn check_order(&self, patch: &[Value], order: &[Value]) -> Result<()> {
        if patch.is_empty() || order.is_empty() {
            return Ok(());
        }
        let mut order_left = order.iter();
        for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
            let wanted = self.of(item)?;
            let mut is_found = false;
            for candidate in order_left.by_ref() {
                if self.of(candidate)? == wanted {
                    is_found = true;
                    break;
                }
            }
            if !is_found {
                let [patch, order] = [patch, order].map(|list| go_text(&Value::Array(list.to_vec())));
                return Err(StrategicError::Order { patch, order });
            }
        }
        Ok(())
    }

    /// Items in `order` in that order, the others in the order of `original`, and the two woven together so that the others
    /// keep their place before the items that followed them (`normalizeElementOrder`).
    pub(super) fn sort(&self, items: Vec<Value>, order: &[Value], original: &[Value]) -> Result<Vec<Value>> {
        /// With its place in the order that was asked for, and in the original.
        type Placed = (Option<usize>, Option<usize>, Value);
        let (asked, before) = (self.places(order), self.places(original));
        let place = |item: Value| {
            let key = self.of(&item)?;
            Ok((asked.get(key).copied(), before.get(key).copied(), item))
        };
        let placed: Vec<Placed> = items.into_iter().map(place).collect::<Result<_>>()?;
        let (mut ordered, mut others): (Vec<Placed>, Vec<Placed>) =
            placed.into_iter().partition(|(asked, ..)| asked.is_some());
        ordered.sort_by_key(|(asked, ..)| *asked);
        others.sort_by_key(|(_, before, _)| before.unwrap_or(usize::MAX));

        let mut woven = Vec::with_capacity(ordered.len() + others.len());
        let (mut ordered, mut others) = (ordered.into_iter().peekable(), others.into_iter().peekable());
        while let (Some((_, right, _)), Some((_, left, _))) = (ordered.peek(), others.peek()) {
            let takes_left = matches!((left, right), (Some(left), Some(right)) if left < right);
            woven.extend(if takes_left { others.next() } else { ordered.next() });
        }
        Ok(woven.into_iter().chain(ordered).chain(others).map(|(.., item)| item).collect())
    }
}
