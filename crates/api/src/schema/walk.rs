//! Validation of a value against its schema (kube-openapi `pkg/validation/validate`), and of a change: what was wrong before
//! and has not changed may stay (ratcheting).

use std::collections::{HashMap, HashSet};

use super::{Additional, Schema, messages::Problem};
use crate::{
    model::ListKind,
    status::{ERRORS_BYTES_MAX, FieldError},
    value::{Map, Value},
};

impl Schema {
    /// All that is wrong with `value`, which stands at `path`; empty for a whole object. `old`: what it was before a change.
    pub fn validate(&self, path: &str, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut result = Outcome::default();
        // Upstream starts at nothing and puts the place before the errors.
        self.check(&mut Path::default(), value, old, &mut result);
        result.into_problems().map(|problem| problem.error(path)).collect()
    }
}

/// A place as upstream writes it: `spec.list[0].name`.
#[derive(Default)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn within<T>(&mut self, step: std::fmt::Arguments<'_>, work: impl FnOnce(&mut Path) -> T) -> T {
        let length = self.0.len();
        std::fmt::Write::write_fmt(&mut self.0, step).ok();
        let result = work(self);
        self.0.truncate(length);
        result
    }

    fn member<T>(&mut self, name: &str, work: impl FnOnce(&mut Path) -> T) -> T {
        let dot = if self.0.is_empty() { "" } else { "." };
        self.within(format_args!("{dot}{name}"), work)
    }

    /// The place of a member that is missing.
    pub(super) fn of(&self, name: &str) -> String {
        if self.0.is_empty() { name.to_owned() } else { format!("{}.{name}", self.0) }
    }
}

/// What a walk found. `matched` counts what held: of several failing alternatives the one with the most is told of.
#[derive(Default)]
pub(super) struct Outcome {
    /// In the order of their numbers.
    problems: HashMap<Problem, usize>,
    bytes: usize,
    pub matched: usize,
}

impl Outcome {
    /// The same complaint is made once.
    pub(super) fn add(&mut self, problem: Problem) {
        if self.has_room() {
            let (number, bytes) = (self.problems.len(), problem.len());
            self.problems.entry(problem).or_insert_with(|| {
                self.bytes += bytes;
                number
            });
        }
    }

    /// Whether another problem would be told of.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < ERRORS_BYTES_MAX
    }

    fn into_problems(self) -> impl Iterator<Item = Problem> {
        let mut problems: Vec<(Problem, usize)> = self.problems.into_iter().collect();
        problems.sort_unstable_by_key(|(_, number)| *number);
        problems.into_iter().map(|(problem, _)| problem)
    }

    fn merge(&mut self, other: Outcome) {
        self.matched += other.matched;
        other.into_problems().for_each(|problem| self.add(problem));
    }

    fn is_valid(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Schema {
    pub(super) fn check(&self, path: &mut Path, value: &Value, old: Option<&Value>, out: &mut Outcome) {
        if old == Some(value) {
            return;
        }
        self.check_type(path, value, out);
        if value.is_null() {
            return self.check_enum(path, value, out);
        }
        self.check_alternatives(path, value, old, out);
        self.check_text(path, value, out);
        self.check_number(path, value, out);
        self.check_list(path, value, old, out);
        self.check_enum(path, value, out);
        self.check_object(path, value, old, out);
        out.matched += 1;
    }

    fn check_alternatives(&self, path: &mut Path, value: &Value, old: Option<&Value>, out: &mut Outcome) {
        let run = |schema: &Schema, path: &mut Path| {
            let mut outcome = Outcome::default();
            schema.check(path, value, old, &mut outcome);
            outcome
        };
        let checks = &self.checks;
        if !checks.any_of.is_empty() {
            let outcomes: Vec<Outcome> = checks.any_of.iter().map(|schema| run(schema, path)).collect();
            if !outcomes.iter().any(Outcome::is_valid) {
                out.add(Problem::any_of(path));
                out.merge(best(outcomes));
            }
        }
        if !checks.one_of.is_empty() {
            let outcomes: Vec<Outcome> = checks.one_of.iter().map(|schema| run(schema, path)).collect();
            match outcomes.iter().filter(|outcome| outcome.is_valid()).count() {
                1 => {}
                0 => {
                    out.add(Problem::one_of(path, 0));
                    out.merge(best(outcomes));
                }
                count => out.add(Problem::one_of(path, count)),
            }
        }
        let mut valid = 0;
        for schema in &checks.all_of {
            let outcome = run(schema, path);
            valid += usize::from(outcome.is_valid());
            out.merge(outcome);
        }
        if valid != checks.all_of.len() {
            out.add(Problem::all_of(path, valid == 0));
        }
        if let Some(not) = &checks.not
            && run(not, path).is_valid()
        {
            out.add(Problem::not(path));
        }
    }

    fn check_list(&self, path: &mut Path, value: &Value, old: Option<&Value>, out: &mut Outcome) {
        let Some(items) = value.as_array() else { return };
        if let Some(schema) = &self.items {
            let known = self.by_keys(old);
            for (index, item) in items.iter().enumerate() {
                let before = known.as_ref().and_then(|(keys, known)| known.get(&keys.of(item)).copied());
                path.within(format_args!("[{index}]"), |path| schema.check(path, item, before, out));
            }
        }
        let size = items.len() as i64;
        let checks = &self.checks;
        if let Some(min) = checks.min_items.filter(|min| size < *min) {
            out.add(Problem::too_few_items(path, min, size));
        }
        if let Some(max) = checks.max_items.filter(|max| size > *max) {
            out.add(Problem::too_many(path, max, size));
        }
        let mut seen = HashSet::new();
        if checks.unique_items && !items.iter().all(|item| seen.insert(item)) {
            out.add(Problem::duplicates(path));
        }
    }

    /// What the items were before: known only of lists whose items have keys.
    fn by_keys<'o>(&self, old: Option<&'o Value>) -> Option<(Keys<'_>, HashMap<KeyValues<'o>, &'o Value>)> {
        let ListKind::Map(keys) = &self.list else { return None };
        let keys = Keys(keys);
        // Of several with the same keys the first.
        let known = old?.as_array()?.iter().rev().map(|item| (keys.of(item), item)).collect();
        Some((keys, known))
    }

    fn check_object(&self, path: &mut Path, value: &Value, old: Option<&Value>, out: &mut Outcome) {
        let Some(map) = value.as_object() else { return };
        let size = map.len() as i64;
        let checks = &self.checks;
        if let Some(min) = checks.min_properties.filter(|min| size < *min) {
            out.add(Problem::too_few_properties(path, min, size));
        }
        if let Some(max) = checks.max_properties.filter(|max| size > *max) {
            out.add(Problem::too_many(path, max, size));
        }
        self.check_members(path, map, old, out);
        for name in checks.required.iter().filter(|name| !map.contains_key(name)) {
            out.add(Problem::required(path, name));
        }
    }

    fn check_members(&self, path: &mut Path, map: &Map, old: Option<&Value>, out: &mut Outcome) {
        for (name, value) in map.iter() {
            let before = old.and_then(|old| old.get(name));
            match (self.property(name), &self.additional) {
                (Some(schema), _) => path.member(name, |path| schema.check(path, value, before, out)),
                (None, Additional::Schema(schema)) => path.member(name, |path| schema.check(path, value, before, out)),
                (None, Additional::Any(false)) => out.add(Problem::forbidden_property(path, name)),
                _ => {}
            }
        }
    }
}

/// The members that tell the items of a list map apart.
struct Keys<'s>(&'s [Box<str>]);

type KeyValues<'v> = Vec<Option<&'v Value>>;

impl Keys<'_> {
    fn of<'v>(&self, item: &'v Value) -> KeyValues<'v> {
        self.0.iter().map(|key| item.get(key)).collect()
    }
}

fn best(outcomes: Vec<Outcome>) -> Outcome {
    let mut outcomes = outcomes.into_iter();
    let first = outcomes.next().unwrap_or_default();
    outcomes.fold(first, |best, other| if other.matched > best.matched { other } else { best })
}
