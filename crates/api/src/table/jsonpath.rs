//! kubectl's JSONPath (client-go/util/jsonpath) as columns of custom resources use it: `.spec.replicas`,
//! `.metadata.labels['a\.b']`, `.status.conditions[?(@.type=="Ready")].status`, `.spec.items[0]`, `.spec.items[*].name`,
//! `.spec.items[1:3]`, `.spec['a','b']`, `..name`. Templates (`{range}`) are no part of it, there as here.

use std::{cell::Cell, cmp::Ordering};

use crate::value::Value;

/// Conditions within conditions, at most.
const NESTED_MAX: usize = 16;
/// How often a value is looked at, at most, until a path has found what it finds.
const LOOKS_MAX: u32 = 100_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(Box<str>),
    /// Counted from the end where negative.
    Index(i64),
    /// From the first place up to the second, every so many; places are counted from the end where negative.
    Slice(Option<i64>, Option<i64>, usize),
    /// What each of several leads to.
    Union(Vec<Step>),
    All,
    /// The value and whatever is in it, at any depth.
    Deep,
    /// Keeps the items whose value at a path compares so with another one.
    Where {
        path: JsonPath,
        operator: Operator,
        to: Operand,
    },
    /// Keeps the items that have the path at all.
    Having(JsonPath),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
}

/// In the order in which they are looked for: the longer before those that they begin with.
const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Constant(Value),
    /// Of the same item.
    Path(JsonPath),
}

impl JsonPath {
    /// `None` for what is no path, or one that goes beyond this part of the language.
    pub(super) fn parse(text: &str) -> Option<JsonPath> {
        JsonPath::parse_nested(text, 0)
    }

    fn parse_nested(text: &str, depth: usize) -> Option<JsonPath> {
        let mut rest = text.trim();
        rest = rest.strip_prefix('$').unwrap_or(rest);
        if !rest.is_empty() && !rest.starts_with(['.', '[']) {
            return None;
        }
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix('[') {
                let end = closing(tail)?;
                steps.push(bracket(tail[..end].trim(), depth)?);
                rest = &tail[end + 1..];
                continue;
            }
            rest = rest.strip_prefix('.')?;
            if let Some(tail) = rest.strip_prefix('.') {
                steps.push(Step::Deep);
                rest = tail;
            }
            let (name, tail) = member(rest);
            match name.as_str() {
                // A lone dot is the whole object.
                "" if tail.is_empty() && steps.is_empty() => {}
                "" if tail.starts_with('[') => {}
                "" => return None,
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Member(name.into())),
            }
            rest = tail;
        }
        Some(JsonPath { steps })
    }

    /// All values that the path leads to. Where it multiplies what it finds (`..*..*..*`), those that it finds first.
    pub(super) fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        self.find_within(root, &Looks(Cell::new(LOOKS_MAX)))
    }

    fn find_within<'v>(&self, root: &'v Value, looks: &Looks) -> Vec<&'v Value> {
        let mut values = vec![root];
        for step in &self.steps {
            let mut found = Vec::new();
            values.into_iter().for_each(|value| step.find(value, looks, &mut found));
            values = found;
            if values.is_empty() {
                break;
            }
        }
        values
    }
}

/// How many more looks a path has.
struct Looks(Cell<u32>);

impl Looks {
    /// Whether there was one left.
    fn take(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

impl Step {
    fn find<'v>(&self, value: &'v Value, looks: &Looks, found: &mut Vec<&'v Value>) {
        if !looks.take() {
            return;
        }
        let items = value.as_array().unwrap_or_default();
        match self {
            Step::Member(name) => found.extend(value.get(name)),
            Step::Index(index) => {
                let at = if *index < 0 { index + items.len() as i64 } else { *index };
                found.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
            }
            Step::Slice(from, to, every) => {
                let place = |at: i64| usize::try_from(if at < 0 { at + items.len() as i64 } else { at }).unwrap_or(0);
                let end = to.map_or(items.len(), place).min(items.len());
                let part = items[..end].iter().skip(from.map_or(0, place)).step_by(*every);
                found.extend(part.take_while(|_| looks.take()));
            }
            Step::Union(steps) => steps.iter().for_each(|step| step.find(value, looks, found)),
            Step::Deep => descend(value, looks, found),
            Step::All => match value {
                Value::Object(map) => found.extend(map.values().take_while(|_| looks.take())),
                _ => found.extend(items.iter().take_while(|_| looks.take())),
            },
            Step::Where { path, operator, to } => found.extend(items.iter().filter(|item| {
                let to = match to {
                    Operand::Constant(value) => Some(value),
                    Operand::Path(path) => path.find_within(item, looks).first().copied(),
                };
                let found = path.find_within(item, looks);
                to.zip(found.first()).is_some_and(|(to, found)| operator.holds(found, to))
            })),
            Step::Having(path) => found.extend(items.iter().filter(|item| !path.find_within(item, looks).is_empty())),
        }
    }
}

/// A value before what is in it.
fn descend<'v>(value: &'v Value, looks: &Looks, found: &mut Vec<&'v Value>) {
    if !looks.take() {
        return;
    }
    found.push(value);
    match value {
        Value::Object(map) => map.values().for_each(|inner| descend(inner, looks, found)),
        _ => value.as_array().unwrap_or_default().iter().for_each(|inner| descend(inner, looks, found)),
    }
}

impl Operator {
    /// What cannot be compared is neither less nor greater.
    fn holds(self, left: &Value, right: &Value) -> bool {
        let order = || match (left, right) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
            (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
            _ => None,
        };
        match self {
            Operator::Equal => left == right,
            Operator::NotEqual => left != right,
            Operator::Less => order() == Some(Ordering::Less),
            Operator::Greater => order() == Some(Ordering::Greater),
            Operator::LessOrEqual => order().is_some_and(Ordering::is_le),
            Operator::GreaterOrEqual => order().is_some_and(Ordering::is_ge),
        }
    }
}

/// A member's name up to the next dot or bracket; a backslash takes the special meaning from what follows it.
fn member(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => name.push(c),
        }
    }
    (name, "")
}

/// The characters that are not in quotes, nor quotes, with where they are.
fn bare(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    text.char_indices().filter(move |(_, c)| match quote {
        Some(open) => {
            quote = quote.filter(|_| *c != open);
            false
        }
        None => {
            quote = Some(*c).filter(|c| matches!(c, '\'' | '"'));
            quote.is_none()
        }
    })
}

/// Where the bracket closes that was just opened; brackets in quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in bare(text) {
        match c {
            '[' => depth += 1,
            ']' if depth == 0 => return Some(at),
            ']' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str, depth: usize) -> Option<Step> {
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
        return condition(filter.trim(), depth + 1);
    }
    let parts = outside_quotes(text, ",");
    if parts.len() > 1 {
        return parts.into_iter().map(|part| bracket(part.trim(), depth)).collect::<Option<_>>().map(Step::Union);
    }
    if let Some(name) = unquoted(text) {
        return Some(Step::Member(name.replace('\\', "").into()));
    }
    if text.contains(':') {
        return slice(text);
    }
    text.parse().ok().map(Step::Index)
}

/// `FROM:TO:EVERY`, each of which may be left out.
fn slice(text: &str) -> Option<Step> {
    let mut places = text.split(':').map(|place| match place.trim() {
        "" => Some(None),
        place => place.parse::<i64>().ok().map(Some),
    });
    let (from, to) = (places.next()??, places.next()??);
    let every = places.next().unwrap_or(Some(None))?.unwrap_or(1);
    let every = usize::try_from(every).ok().filter(|every| *every > 0)?;
    if places.next().is_some() { None } else { Some(Step::Slice(from, to, every)) }
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

/// The parts of a text between separators that are not in quotes.
fn outside_quotes<'t>(text: &'t str, separator: &str) -> Vec<&'t str> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    for (at, _) in bare(text) {
        if at >= begin && text[at..].starts_with(separator) {
            parts.push(&text[begin..at]);
            begin = at + separator.len();
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn condition(filter: &str, depth: usize) -> Option<Step> {
    if depth > NESTED_MAX {
        return None;
    }
    let path = |text: &str| JsonPath::parse_nested(text.trim().strip_prefix('@')?, depth);
    for (sign, operator) in OPERATORS {
        let parts = outside_quotes(filter, sign);
        if let [left, right] = parts[..] {
            let right = right.trim();
            let to = match unquoted(right) {
                Some(text) => Operand::Constant(Value::from(text)),
                None if right.starts_with('@') => Operand::Path(path(right)?),
                None => Operand::Constant(crate::json::parse(right.as_bytes()).ok()?),
            };
            return Some(Step::Where { path: path(left)?, operator, to });
        }
    }
    Some(Step::Having(path(filter)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_values() {
        let object = crate::json::parse(
            br#"{"spec":{"n":3,"list":[{"name":"a","v":1},{"name":"b","v":2}]},"metadata":{"labels":{"a.b/c":"x"}}}"#,
        )
        .unwrap();
        let cases = [
            (".spec.n", "[3]"),
            ("$.spec.n", "[3]"),
            (".spec.missing.deeper", "[]"),
            (".spec.list[0].name", r#"["a"]"#),
            (".spec.list[-1].name", r#"["b"]"#),
            (".spec.list[5]", "[]"),
            (".spec.list[*].v", "[1,2]"),
            (r#".spec.list[?(@.name=="b")].v"#, "[2]"),
            (r#".spec.list[?(@.name != 'b')].v"#, "[1]"),
            (".spec.list[?(@.v==1)].name", r#"["a"]"#),
            (".spec.list[?(@.w)].name", "[]"),
            (r".metadata.labels['a\.b/c']", r#"["x"]"#),
            (r".metadata.labels.a\.b/c", r#"["x"]"#),
            (r#".metadata.labels["a.b/c"]"#, r#"["x"]"#),
            ("..name", r#"["a","b"]"#),
            (".spec..v", "[1,2]"),
            ("..list[0].name", r#"["a"]"#),
            (".spec.list[0,1].v", "[1,2]"),
            (".spec.list[0]['v','name']", r#"[1,"a"]"#),
            (".spec.list[:1].v", "[1]"),
            (".spec.list[-1:].v", "[2]"),
            (".spec.list[0:9:2].v", "[1]"),
            (".spec.list[5:].v", "[]"),
            (".spec.list[?(@.v>1)].name", r#"["b"]"#),
            (".spec.list[?(@.v<=1)].name", r#"["a"]"#),
            (r#".spec.list[?(@.name>="b")].v"#, "[2]"),
            (".spec.list[?(@.v==@.v)].v", "[1,2]"),
            (".spec.list[?(@.v<@.name)].v", "[]"),
            (r#".spec.list[?(@.name=="<==")].v"#, "[]"),
        ];
        for (path, expect) in cases {
            let found = JsonPath::parse(path).unwrap_or_else(|| panic!("{path}"));
            let found = Value::Array(found.find(&object).into_iter().cloned().collect());
            assert_eq!(found.to_string(), expect, "{path}");
        }
        for path in
            ["spec", "..", "...x", ".a[", ".a[b]", ".a[1:2:0]", ".a[1:2:3:4]", ".a[0,b]", ".a[?(@.b>c)]", ".a[?(b)]"]
        {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
    #[test]
    fn what_has_no_end_ends() {
        let deep = (0..60).fold("1".to_owned(), |inner, _| format!(r#"{{"a":[{inner}]}}"#));
        let object = crate::json::parse(deep.as_bytes()).unwrap();
        for path in ["..*".repeat(60), format!(".a{}", "[0,0]".repeat(400)), "..a[?(@..*==@..*)]".repeat(20)] {
            let parsed = JsonPath::parse(&path).unwrap_or_else(|| panic!("{path}"));
            assert!(parsed.find(&object).len() <= LOOKS_MAX as usize, "{path}");
        }
        for nested in [NESTED_MAX + 1, 10_000] {
            let path = format!("{}.a{}", ".a[?(@".repeat(nested), ")]".repeat(nested));
            assert_eq!(JsonPath::parse(&path), None);
        }
        let path = format!("{}.a{}", ".a[?(@".repeat(NESTED_MAX), ")]".repeat(NESTED_MAX));
        assert!(JsonPath::parse(&path).is_some());
    }
}
