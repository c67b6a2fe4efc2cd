//! Field selectors (apimachinery `pkg/fields/selector.go`): `metadata.name=x,status.phase!=Running`.

use std::fmt;

/// All of its terms must hold. Without any it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldTerm {
    pub field: Box<str>,
    pub value: Box<str>,
    /// `!=`
    pub negated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// Upstream prints the character's number.
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
}

impl FieldSelector {
    pub fn everything() -> FieldSelector {
        FieldSelector::default()
    }

    pub fn parse(text: &str) -> Result<FieldSelector, FieldSelectorError> {
        let mut parts = split(text);
        parts.sort_unstable();
        let terms = parts.into_iter().filter(|part| !part.is_empty()).map(|part| term(text, part));
        Ok(FieldSelector { terms: terms.collect::<Result<_, _>>()? })
    }

    /// `field=value` for one value as it is, unescaped.
    pub fn equal(field: &str, value: &str) -> FieldSelector {
        FieldSelector { terms: vec![FieldTerm { field: field.into(), value: value.into(), negated: false }] }
    }

    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// The same selector under other names of its fields; the first one that has none is the error.
    pub fn renamed(mut self, name: impl Fn(&str) -> Option<&str>) -> Result<FieldSelector, Box<str>> {
        for term in &mut self.terms {
            term.field = name(&term.field).ok_or_else(|| term.field.clone())?.into();
        }
        Ok(self)
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Matches fields that are looked up with `field`; a missing one counts as empty.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (field(&term.field).unwrap_or_default() == &*term.value) != term.negated)
    }

    /// The value that the field must have.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| *term.field == *field && !term.negated).map(|term| &*term.value)
    }
}

/// The parts between commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut is_escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn term(selector: &str, term: &str) -> Result<FieldTerm, FieldSelectorError> {
    let unknown = || FieldSelectorError::Term { selector: selector.into(), term: term.into() };
    let at =
        term.char_indices().map(|(at, _)| at).find(|at| term[*at..].starts_with('=') || term[*at..].starts_with("!="));
    let (field, rest) = term.split_at(at.ok_or_else(unknown)?);
    let (value, negated) = match rest.strip_prefix("!=") {
        Some(value) => (value, true),
        None => (rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')).unwrap_or(rest), false),
    };
    Ok(FieldTerm { field: field.into(), value: unescape(value)?.into(), negated })
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                Some(other) => return Err(FieldSelectorError::Escape(format!("\\{other}"))),
                None => return Err(FieldSelectorError::Escape("\\".into())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c)),
            _ => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if term.negated { "!=" } else { "=" };
            let value = term.value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
            write!(f, "{comma}{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}
