//! Bodies in YAML.

use api::{
    Value,
    json::{self, Parsed, Repeats},
};
use serde_saphyr::{Error, options::DuplicateKeyPolicy};

/// Reads a mapping. Of members that stand twice the last one counts; the first such is complained of, in the words of
/// upstream's parser (sigs.k8s.io/yaml, `UnmarshalStrict`).
///
/// # Errors
/// What is wrong with the text, for people.
pub fn parse(body: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("yaml: invalid UTF-8: {error}"))?;
    let read = |duplicate_keys| {
        let options = serde_saphyr::options! { duplicate_keys: duplicate_keys };
        serde_saphyr::from_str_with_options::<serde_json::Value>(text, options)
    };
    let (tree, repeats) = match read(DuplicateKeyPolicy::Error) {
        Ok(tree) => (tree, Repeats::None),
        Err(error) => {
            let tree = read(DuplicateKeyPolicy::LastWins).map_err(|error| format!("yaml: {error}"))?;
            (tree, Repeats::Said(vec![complaint(&error)]))
        }
    };
    let value = json::parse(tree.to_string().as_bytes()).map_err(|error| error.to_string())?;
    match value {
        Value::Object(_) => Ok(Parsed { value, repeats }),
        _ => Err("yaml: the text is not a mapping".into()),
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
