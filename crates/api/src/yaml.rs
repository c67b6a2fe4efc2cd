//! Bodies in YAML.

use serde_saphyr::{Error, options::DuplicateKeyPolicy};

use crate::{
    Value,
    json::{self, JsonError, Parsed, Repeats},
};

#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    #[error("yaml: invalid UTF-8: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    #[error("yaml: {0}")]
    Syntax(Box<Error>),
    /// YAML that is no JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("yaml: the text is not a mapping")]
    NotAMapping,
}

/// Reads a mapping. Of members that stand twice the last one counts; the first such is complained of, in the words of
/// upstream's parser (sigs.k8s.io/yaml, `UnmarshalStrict`).
pub fn parse(body: &[u8]) -> Result<Parsed, YamlError> {
    let text = std::str::from_utf8(body)?;
    let read = |duplicate_keys| {
        let options = serde_saphyr::options! { duplicate_keys: duplicate_keys };
        serde_saphyr::from_str_with_options::<serde_json::Value>(text, options)
    };
    let (tree, repeats) = match read(DuplicateKeyPolicy::Error) {
        Ok(tree) => (tree, Repeats::None),
        Err(error) => {
            let tree = read(DuplicateKeyPolicy::LastWins).map_err(|error| YamlError::Syntax(Box::new(error)))?;
            (tree, Repeats::Said(vec![complaint(&error)]))
        }
    };
    match json::parse(tree.to_string().as_bytes())? {
        value @ Value::Object(_) => Ok(Parsed { value, repeats }),
        _ => Err(YamlError::NotAMapping),
    }
}

fn complaint(error: &Error) -> String {
    match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), location } => {
            format!("yaml: unmarshal errors:\n  line {}: key \"{key}\" already set in map", location.line())
        }
        other => format!("yaml: {other}"),
    }
}
