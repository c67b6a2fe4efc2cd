//! The part of kubectl's JSONPath that columns of custom resources use: `.spec.replicas`, `.metadata.labels['a\.b']`,
//! `.status.conditions[?(@.type=="Ready")].status`, `.spec.items[0]`, `.spec.items[*].name`.

use crate::value::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(Box<str>),
    /// Counted from the end where negative.
    Index(i64),
    All,
    /// Keeps the items whose value at a path is, or is not, the given one.
    Where {
        path: JsonPath,
        equal: bool,
        to: Value,
    },
    /// Keeps the items that have the path at all.
    Having(JsonPath),
}

impl JsonPath {
    /// `None` for what is no path, or one that goes beyond this part of the language.
    pub(super) fn parse(text: &str) -> Option<JsonPath> {
        let mut rest = text.trim();
        rest = rest.strip_prefix('$').unwrap_or(rest);
        if !rest.is_empty() && !rest.starts_with(['.', '[']) {
            return None;
        }
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix('[') {
                let end = closing(tail)?;
                steps.push(bracket(tail[..end].trim())?);
                rest = &tail[end + 1..];
                continue;
            }
            rest = rest.strip_prefix('.')?;
            let (name, tail) = member(rest);
            match name.as_str() {
                // A lone dot is the whole object; two are a search at any depth.
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

    /// All values that the path leads to.
    pub(super) fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        self.steps
            .iter()
            .fold(vec![root], |values, step| values.into_iter().flat_map(|value| step.find(value)).collect())
    }
}

impl Step {
    fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let items = value.as_array().unwrap_or_default();
        match self {
            Step::Member(name) => value.get(name).into_iter().collect(),
            Step::Index(index) => {
                let at = if *index < 0 { index + items.len() as i64 } else { *index };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            Step::All => match value {
                Value::Object(map) => map.values().collect(),
                _ => items.iter().collect(),
            },
            Step::Where { path, equal, to } => items
                .iter()
                .filter(|item| path.find(item).first().is_some_and(|found| (*found == to) == *equal))
                .collect(),
            Step::Having(path) => items.iter().filter(|item| !path.find(item).is_empty()).collect(),
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

/// Where the bracket closes that was just opened; brackets in quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
        return condition(filter.trim());
    }
    if let Some(name) = unquoted(text) {
        return Some(Step::Member(name.replace('\\', "").into()));
    }
    text.parse().ok().map(Step::Index)
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn condition(filter: &str) -> Option<Step> {
    let path = |text: &str| JsonPath::parse(text.trim().strip_prefix('@')?);
    for (operator, equal) in [("==", true), ("!=", false)] {
        if let Some((left, right)) = filter.split_once(operator) {
            let right = right.trim();
            let to = match unquoted(right) {
                Some(text) => Value::from(text),
                None => crate::json::parse(right.as_bytes()).ok()?,
            };
            return Some(Step::Where { path: path(left)?, equal, to });
        }
    }
    if filter.contains(['<', '>']) { None } else { Some(Step::Having(path(filter)?)) }
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
        ];
        for (path, expect) in cases {
            let found = JsonPath::parse(path).unwrap_or_else(|| panic!("{path}"));
            let found = Value::Array(found.find(&object).into_iter().cloned().collect());
            assert_eq!(found.to_string(), expect, "{path}");
        }
        for path in ["spec", "..x", ".a[", ".a[b]", ".a[?(@.b>1)]", ".a[?(b)]"] {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
}
