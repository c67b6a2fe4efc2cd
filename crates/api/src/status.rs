//! `metav1.Status`: how every failure reaches a client. One constructor per reason, with upstream's wording
//! (apimachinery `pkg/api/errors`).

use std::{collections::HashSet, fmt};

use serde::{Deserialize, Serialize};

/// Machine-readable cause of a failure; determines the HTTP code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    /// No reason given, or one that is not known here.
    #[default]
    #[serde(rename = "", other)]
    Unknown,
}

impl Reason {
    pub fn code(self) -> u16 {
        match self {
            Reason::Unknown | Reason::InternalError => 500,
            Reason::Unauthorized => 401,
            Reason::Forbidden => 403,
            Reason::NotFound => 404,
            Reason::AlreadyExists | Reason::Conflict => 409,
            Reason::Gone | Reason::Expired => 410,
            Reason::Invalid => 422,
            Reason::ServerTimeout => 500,
            Reason::Timeout => 504,
            Reason::TooManyRequests => 429,
            Reason::BadRequest => 400,
            Reason::MethodNotAllowed => 405,
            Reason::NotAcceptable => 406,
            Reason::RequestEntityTooLarge => 413,
            Reason::UnsupportedMediaType => 415,
            Reason::ServiceUnavailable => 503,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub kind: String,
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    #[serde(default)]
    pub metadata: StatusMeta,
    /// `Success` or `Failure`.
    #[serde(default)]
    pub status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub reason: Reason,
    /// In a box: every `Result` of the request path carries a Status, and most have no details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    #[serde(default)]
    pub code: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusMeta {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource's plural name, or the kind: whatever upstream puts there for this reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// For example `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_unknown(reason: &Reason) -> bool {
    *reason == Reason::Unknown
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// A resource as error texts name it: `pods` or `deployments.apps`.
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl Status {
    pub fn failure(reason: Reason, message: impl Into<String>) -> Status {
        Status {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: StatusMeta {},
            status: "Failure".into(),
            message: message.into(),
            reason,
            details: None,
            code: reason.code(),
        }
    }

    pub fn success() -> Status {
        Status { status: "Success".into(), code: 200, ..Status::failure(Reason::Unknown, "") }
    }

    pub fn with_details(mut self, details: Details) -> Status {
        self.details = Some(Box::new(details));
        self
    }

    fn about(self, group: &str, resource: &str, name: &str) -> Status {
        self.with_details(Details {
            name: name.into(),
            group: group.into(),
            kind: resource.into(),
            ..Details::default()
        })
    }

    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        Status::failure(Reason::NotFound, format!("{} \"{name}\" not found", qualified(group, resource)))
            .about(group, resource, name)
    }

    /// No such path: what upstream's mux answers for an unknown group, version or resource.
    pub fn no_such_resource() -> Status {
        Status::failure(Reason::NotFound, "the server could not find the requested resource")
            .with_details(Details::default())
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        Status::failure(Reason::AlreadyExists, format!("{} \"{name}\" already exists", qualified(group, resource)))
            .about(group, resource, name)
    }

    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Status {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(group, resource));
        Status::failure(Reason::Conflict, message).about(group, resource, name)
    }

    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Status {
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{} is forbidden: {why}", qualified(group, resource)),
            _ => format!("{} \"{name}\" is forbidden: {why}", qualified(group, resource)),
        };
        Status::failure(Reason::Forbidden, message).about(group, resource, name)
    }

    pub fn unauthorized() -> Status {
        Status::failure(Reason::Unauthorized, "Unauthorized")
    }

    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::failure(Reason::BadRequest, message)
    }

    pub fn internal(message: impl fmt::Display) -> Status {
        let cause = Cause { message: message.to_string(), ..Cause::default() };
        Status::failure(Reason::InternalError, format!("Internal error occurred: {message}"))
            .with_details(Details { causes: vec![cause], ..Details::default() })
    }

    pub fn unavailable(message: impl Into<String>) -> Status {
        Status::failure(Reason::ServiceUnavailable, message)
    }

    pub fn method_not_allowed() -> Status {
        let message = "the server does not allow this method on the requested resource";
        Status::failure(Reason::MethodNotAllowed, message).with_details(Details::default())
    }

    pub fn not_acceptable(accepted: &[&str]) -> Status {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Status::failure(Reason::NotAcceptable, message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Status::failure(Reason::UnsupportedMediaType, message)
    }

    pub fn too_large(message: impl Into<String>) -> Status {
        Status::failure(Reason::RequestEntityTooLarge, message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        Status::failure(Reason::TooManyRequests, message)
            .with_details(Details { retry_after_seconds, ..Details::default() })
    }

    pub fn expired(message: impl Into<String>) -> Status {
        Status::failure(Reason::Expired, message)
    }

    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Status {
        Status::failure(Reason::Timeout, message).with_details(Details { retry_after_seconds, ..Details::default() })
    }

    /// All of an object's validation errors in one answer.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Status {
        let text = match errors.as_slice() {
            [one] => one.to_string(),
            many => {
                let all: Vec<String> = many.iter().map(FieldError::to_string).collect();
                let mut seen = HashSet::new();
                let mut texts: Vec<&str> = all.iter().map(String::as_str).filter(|text| seen.insert(*text)).collect();
                if texts.len() == 1 { texts.remove(0).to_owned() } else { format!("[{}]", texts.join(", ")) }
            }
        };
        let message = format!("{} \"{name}\" is invalid: {text}", qualified(group, kind));
        let causes = errors.iter().map(FieldError::cause).collect();
        Status::failure(Reason::Invalid, message).with_details(Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..Details::default()
        })
    }

    pub fn has_cause(&self, reason: &str) -> bool {
        self.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| cause.reason == reason))
    }

    pub fn to_json(&self) -> Vec<u8> {
        // A struct of strings and numbers always serializes.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// How many bytes the errors of one object may hold: what is wrong a hundred thousand times is not shown each time.
pub const ERRORS_BYTES_MAX: usize = 4 << 20;

/// What is wrong with one field of an object; texts and causes as apimachinery `pkg/util/validation/field`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    /// For example `spec.containers[0].name`.
    pub field: String,
    /// The offending value as upstream prints it: strings quoted, others as JSON.
    pub value: String,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldErrorKind {
    Required,
    Invalid,
    NotSupported,
    Duplicate,
    NotFound,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
}

impl FieldError {
    pub fn new(
        kind: FieldErrorKind,
        field: impl Into<String>,
        value: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        FieldError { kind, field: field.into(), value: value.into(), detail: detail.into() }
    }

    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError::new(FieldErrorKind::Required, field, "", detail)
    }

    /// `value` is any value that prints as JSON: upstream quotes strings the same way.
    pub fn invalid(field: impl Into<String>, value: impl Serialize, detail: impl Into<String>) -> Self {
        FieldError::new(FieldErrorKind::Invalid, field, printed(value), detail)
    }

    pub fn not_supported(field: impl Into<String>, value: impl Serialize, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let detail = format!("supported values: {}", quoted.join(", "));
        FieldError::new(FieldErrorKind::NotSupported, field, printed(value), detail)
    }

    pub fn duplicate(field: impl Into<String>, value: impl Serialize) -> Self {
        FieldError::new(FieldErrorKind::Duplicate, field, printed(value), "")
    }

    pub fn not_found(field: impl Into<String>, value: impl Serialize) -> Self {
        FieldError::new(FieldErrorKind::NotFound, field, printed(value), "")
    }

    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError::new(FieldErrorKind::Forbidden, field, "", detail)
    }

    pub fn too_long(field: impl Into<String>, max: usize) -> Self {
        FieldError::new(FieldErrorKind::TooLong, field, "", format!("may not be more than {max} bytes"))
    }

    pub fn too_many(field: impl Into<String>, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        FieldError::new(FieldErrorKind::TooMany, field, actual.to_string(), format!("must have at most {max} {items}"))
    }

    fn body(&self) -> String {
        let title = match self.kind {
            FieldErrorKind::Required => "Required value",
            FieldErrorKind::Invalid | FieldErrorKind::TypeInvalid => "Invalid value",
            FieldErrorKind::NotSupported => "Unsupported value",
            FieldErrorKind::Duplicate => "Duplicate value",
            FieldErrorKind::NotFound => "Not found",
            FieldErrorKind::Forbidden => "Forbidden",
            FieldErrorKind::TooLong => "Too long",
            FieldErrorKind::TooMany => "Too many",
        };
        let mut text = title.to_owned();
        if !self.value.is_empty() {
            text.push_str(": ");
            text.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    fn cause(&self) -> Cause {
        let reason = match self.kind {
            FieldErrorKind::Required => "FieldValueRequired",
            FieldErrorKind::Invalid => "FieldValueInvalid",
            FieldErrorKind::TypeInvalid => "FieldValueTypeInvalid",
            FieldErrorKind::NotSupported => "FieldValueNotSupported",
            FieldErrorKind::Duplicate => "FieldValueDuplicate",
            FieldErrorKind::NotFound => "FieldValueNotFound",
            FieldErrorKind::Forbidden => "FieldValueForbidden",
            FieldErrorKind::TooLong => "FieldValueTooLong",
            FieldErrorKind::TooMany => "FieldValueTooMany",
        };
        Cause { reason: reason.into(), message: self.body(), field: self.field.clone() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

fn printed(value: impl Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}
