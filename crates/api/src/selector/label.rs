//! What a label selector demands, and whether labels meet it (apimachinery `pkg/labels/selector.go`).

use std::collections::BTreeMap;
use std::fmt;

use super::parse;
use crate::names;
use crate::status::FieldError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    /// `=`
    Equals,
    /// `==`
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One demand on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    values: Vec<Box<str>>,
}

/// All of its requirements must be met. Without any it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Requirement(Box<SelectorError>),
    /// A word that does not fit; the text names it and what was expected.
    #[error("found '{found}'{expected}")]
    Unexpected { found: String, expected: &'static str },
    #[error("{}", joined(.0))]
    Invalid(Vec<FieldError>),
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
}

fn joined(errors: &[FieldError]) -> String {
    match errors {
        [one] => one.to_string(),
        many => format!("[{}]", many.iter().map(FieldError::to_string).collect::<Vec<_>>().join(", ")),
    }
}

impl Requirement {
    pub fn new(key: &str, operator: Operator, values: Vec<Box<str>>) -> Result<Requirement, SelectorError> {
        let mut errors = Vec::new();
        let problems = names::qualified_name(key);
        if !problems.is_empty() {
            errors.push(FieldError::invalid("key", key, problems.join("; ")));
        }
        let wrong_count = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        errors.extend(wrong_count.map(|detail| FieldError::invalid("values", &values, detail)));
        for (index, value) in values.iter().enumerate() {
            let is_order = matches!(operator, Operator::GreaterThan | Operator::LessThan);
            if is_order && value.parse::<i64>().is_err() {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(format!("values[{index}]"), value, detail));
            }
        }
        for (index, value) in values.iter().enumerate() {
            let problems = names::label_value(value);
            if !problems.is_empty() {
                errors.push(FieldError::invalid(format!("values[{index}][{key}]"), value, problems.join("; ")));
            }
        }
        if !errors.is_empty() {
            return Err(SelectorError::Invalid(errors));
        }
        Ok(Requirement { key: key.into(), operator, values })
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &str> {
        self.values.iter().map(|value| &**value)
    }

    fn has_value(&self, value: &str) -> bool {
        self.values.iter().any(|candidate| **candidate == *value)
    }

    /// Whether a label's value, or its absence, meets the requirement.
    fn is_met_by(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => {
                value.is_some_and(|value| self.has_value(value))
            }
            Operator::NotIn | Operator::NotEquals => value.is_none_or(|value| !self.has_value(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.numbers(value).is_some_and(|(value, bound)| value > bound),
            Operator::LessThan => self.numbers(value).is_some_and(|(value, bound)| value < bound),
        }
    }

    fn numbers(&self, value: Option<&str>) -> Option<(i64, i64)> {
        Some((value?.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl LabelSelector {
    pub fn everything() -> LabelSelector {
        LabelSelector::default()
    }

    /// What an absent `LabelSelector` object selects.
    pub fn nothing() -> LabelSelector {
        LabelSelector { nothing: true, ..LabelSelector::default() }
    }

    /// Reads the text form, as of the query parameter `labelSelector`.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        parse::parse(text).map(LabelSelector::from_requirements)
    }

    pub fn from_requirements(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector { requirements, nothing: false }
    }

    /// Of a map of labels that must all be there, as of a Service or ReplicationController. Nothing is checked.
    pub fn from_set<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> LabelSelector {
        let equals = |(key, value): (&str, &str)| Requirement {
            key: key.into(),
            operator: Operator::Equals,
            values: vec![value.into()],
        };
        LabelSelector::from_requirements(labels.into_iter().map(equals).collect())
    }

    /// Of a `LabelSelector` object's parts (`LabelSelectorAsSelector`): `matchLabels`, and `matchExpressions` as key,
    /// operator (`In`, `NotIn`, `Exists`, `DoesNotExist`) and values.
    pub fn from_parts<'a>(
        match_labels: &BTreeMap<String, String>,
        expressions: impl IntoIterator<Item = (&'a str, &'a str, &'a [String])>,
    ) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in match_labels {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.as_str().into()])?);
        }
        for (key, operator, values) in expressions {
            let operator = match operator {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.into())),
            };
            let values = values.iter().map(|value| value.as_str().into()).collect();
            requirements.push(Requirement::new(key, operator, values)?);
        }
        Ok(LabelSelector::from_requirements(requirements))
    }

    /// Of a `LabelSelector` object in a tree; `None` selects nothing.
    pub fn from_value(selector: Option<&crate::Value>) -> Result<LabelSelector, SelectorError> {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else {
            return Ok(LabelSelector::nothing());
        };
        let text = |value: &crate::Value| value.as_str().unwrap_or_default().to_owned();
        let labels = selector.get("matchLabels").and_then(crate::Value::as_object);
        let labels = labels.map(|map| map.iter().map(|(key, value)| (key.to_owned(), text(value))).collect());
        let expressions = selector.get("matchExpressions").and_then(crate::Value::as_array).unwrap_or_default();
        let expressions: Vec<(&str, &str, Vec<String>)> = expressions
            .iter()
            .map(|one| {
                let values = one.get("values").and_then(crate::Value::as_array).unwrap_or_default();
                (one.str_at(&["key"]), one.str_at(&["operator"]), values.iter().map(text).collect())
            })
            .collect();
        let expressions = expressions.iter().map(|(key, operator, values)| (*key, *operator, values.as_slice()));
        LabelSelector::from_parts(&labels.unwrap_or_default(), expressions)
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Matches labels that are looked up with `label`.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|requirement| requirement.is_met_by(label(&requirement.key)))
    }

    /// Without any demand: every object matches.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The one value that the label must have, where there is just one.
    pub fn exact(&self, key: &str) -> Option<&str> {
        let requirement = self.requirements.iter().find(|requirement| *requirement.key == *key)?;
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::In | Operator::Equals | Operator::DoubleEquals, [value]) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values: Vec<&str> = self.values().collect();
        values.sort_unstable();
        let values = values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}
