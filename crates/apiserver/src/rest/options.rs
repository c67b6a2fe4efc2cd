//! The options of a write: what its query says, checked (apimachinery `pkg/apis/meta/v1/validation`).

use api::{Status, status::FieldError};
use http::header;

use super::{Call, write::FieldValidation};

#[derive(Debug)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub validation: FieldValidation,
    /// Who becomes the owner of what is written: the client's word, else derived from its user agent.
    pub manager: String,
    /// Take over fields that others own; only an apply may ask for it.
    pub force: bool,
}

/// Longest name of a field manager, in bytes.
const MANAGER_BYTES_MAX: usize = 128;

impl WriteOptions {
    pub(crate) fn of(call: &Call<'_>) -> Result<WriteOptions, Status> {
        let is_apply = call.info.verb == "patch" && is_apply(call);
        let kind = match call.info.verb {
            "create" => "CreateOptions",
            "patch" => "PatchOptions",
            _ => "UpdateOptions",
        };
        let given = call.query.get("fieldManager").unwrap_or_default();
        let mut errors = Vec::new();
        if is_apply && given.is_empty() {
            errors.push(FieldError::required("fieldManager", "is required for apply patch"));
        }
        if call.info.verb == "patch" && !is_apply && call.query.get("force").is_some() {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        errors.extend(manager_problems(given));
        let dry_run = call.query.all("dryRun");
        errors.extend(dry_run_problem(dry_run));
        let validation = FieldValidation::parse(call.query.get("fieldValidation").unwrap_or_default());
        if validation.is_none() {
            let given = call.query.get("fieldValidation");
            errors.push(FieldError::not_supported("fieldValidation", given, &["", "Ignore", "Strict", "Warn"]));
        }
        match validation {
            Some(validation) if errors.is_empty() => Ok(WriteOptions {
                dry_run: !dry_run.is_empty(),
                validation,
                manager: if given.is_empty() { manager_of_agent(call) } else { given.to_owned() },
                force: call.query.flag("force"),
            }),
            _ => Err(Status::invalid("meta.k8s.io", kind, "", errors)),
        }
    }
}

pub(super) fn dry_run_problem(given: &[String]) -> Option<FieldError> {
    given.iter().any(|value| value != "All").then(|| FieldError::not_supported("dryRun", given, &["All"]))
}

/// The media type of the request's body.
pub(crate) fn media_type<'c>(call: &'c Call<'_>) -> &'c str {
    let content_type = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim()
}

pub(crate) const APPLY: &str = "application/apply-patch+yaml";

pub(crate) fn is_apply(call: &Call<'_>) -> bool {
    media_type(call) == APPLY
}

/// Go's `unicode.IsPrint`, near enough: of white space it has only the space itself.
fn is_printable(character: char) -> bool {
    character == ' '
        || !(character.is_control()
            || character.is_whitespace()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
}

fn manager_problems(name: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if name.len() > MANAGER_BYTES_MAX {
        errors.push(FieldError::too_long("fieldManager", MANAGER_BYTES_MAX));
    }
    for (at, character) in name.char_indices().filter(|(_, character)| !is_printable(*character)) {
        let detail = format!("invalid character U+{:04X} (at position {at})", character as u32);
        errors.push(FieldError::invalid("fieldManager", name, detail));
    }
    errors
}

/// The user agent up to its first slash (apiserver `pkg/endpoints/handlers/create.go`, `prefixFromUserAgent`).
fn manager_of_agent(call: &Call<'_>) -> String {
    let agent = call.headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let agent = agent.unwrap_or_default();
    let mut name = String::new();
    for character in agent.split('/').next().unwrap_or_default().chars().filter(|character| is_printable(*character)) {
        if name.len() + character.len_utf8() > MANAGER_BYTES_MAX {
            break;
        }
        name.push(character);
    }
    name
}
