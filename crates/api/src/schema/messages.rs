//! What can be wrong with a value, in upstream's words (kube-openapi `pkg/validation/errors`) and as the field errors that
//! apiextensions-apiserver makes of them (`pkg/apiserver/validation`).

use super::walk::Path;
use crate::{
    status::{FieldError, FieldErrorKind},
    value::Value,
};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    /// Empty for the whole value.
    field: String,
    /// What upstream's composite errors lack, so that the place they print is `<nil>`.
    has_place: bool,
    kind: FieldErrorKind,
    value: String,
    detail: String,
}

impl Problem {
    /// How much it says.
    pub(super) fn len(&self) -> usize {
        self.field.len() + self.value.len() + self.detail.len()
    }

    /// `place`: where the value that was checked stands.
    pub(super) fn error(self, place: &str) -> FieldError {
        let field = match (place, &*self.field) {
            ("", _) if !self.has_place => "<nil>".to_owned(),
            ("", "") => "<nil>".to_owned(),
            ("", field) => field.to_owned(),
            (place, "") => place.to_owned(),
            (place, _) if !self.has_place => place.to_owned(),
            (place, field) => format!("{place}.{field}"),
        };
        FieldError { kind: self.kind, field, value: self.value, detail: self.detail }
    }

    fn new(path: &Path, kind: FieldErrorKind, value: String, detail: String) -> Problem {
        Problem { field: path.text().to_owned(), has_place: true, kind, value, detail }
    }

    fn invalid(path: &Path, value: &Value, detail: &str) -> Problem {
        Problem::new(path, FieldErrorKind::Invalid, value.to_string(), format!("{} in body {detail}", path.text()))
    }

    /// `found` is the name of the type that the value has, or the text that has not the format.
    pub(super) fn wrong_type(path: &Path, expected: &str, found: &str) -> Problem {
        let quoted = Value::from(found).to_string();
        let detail = format!("{} in body must be of type {expected}: {quoted}", path.text());
        Problem::new(path, FieldErrorKind::TypeInvalid, quoted, detail)
    }

    pub(super) fn required(path: &Path, name: &str) -> Problem {
        let field = path.of(name);
        Problem { field, has_place: true, kind: FieldErrorKind::Required, value: String::new(), detail: String::new() }
    }

    pub(super) fn not_among(path: &Path, value: &Value, allowed: &str) -> Problem {
        let detail = format!("supported values: {allowed}");
        Problem::new(path, FieldErrorKind::NotSupported, value.to_string(), detail)
    }

    pub(super) fn too_long(path: &Path, max: i64) -> Problem {
        Problem::new(path, FieldErrorKind::TooLong, String::new(), format!("may not be more than {max} bytes"))
    }

    pub(super) fn too_short(path: &Path, min: i64, value: &Value) -> Problem {
        Problem::invalid(path, value, &format!("should be at least {min} chars long"))
    }

    pub(super) fn pattern(path: &Path, pattern: &str, value: &Value) -> Problem {
        Problem::invalid(path, value, &format!("should match '{pattern}'"))
    }

    pub(super) fn multiple_of(path: &Path, factor: &str, value: &Value) -> Problem {
        Problem::invalid(path, value, &format!("should be a multiple of {factor}"))
    }

    pub(super) fn above(path: &Path, max: &str, exclusive: bool, value: &Value) -> Problem {
        Problem::invalid(
            path,
            value,
            &format!("should be less than {}{max}", if exclusive { "" } else { "or equal to " }),
        )
    }

    pub(super) fn below(path: &Path, min: &str, exclusive: bool, value: &Value) -> Problem {
        Problem::invalid(
            path,
            value,
            &format!("should be greater than {}{min}", if exclusive { "" } else { "or equal to " }),
        )
    }

    pub(super) fn too_few_items(path: &Path, min: i64, size: i64) -> Problem {
        Problem::invalid(path, &Value::Int(size), &format!("should have at least {min} items"))
    }

    pub(super) fn too_few_properties(path: &Path, min: i64, size: i64) -> Problem {
        Problem::invalid(path, &Value::Int(size), &format!("should have at least {min} properties"))
    }

    pub(super) fn too_many(path: &Path, max: i64, size: i64) -> Problem {
        Problem::new(path, FieldErrorKind::TooMany, size.to_string(), format!("must have at most {max} items"))
    }

    pub(super) fn duplicates(path: &Path) -> Problem {
        Problem::invalid(path, &"".into(), "shouldn't contain duplicates")
    }

    pub(super) fn forbidden_property(path: &Path, name: &str) -> Problem {
        let detail = format!("{}.{name} in body is a forbidden property", path.text());
        Problem::new(path, FieldErrorKind::Invalid, Value::from(name).to_string(), detail)
    }

    /// Of a number that is out of the range of its type or format.
    pub(super) fn range(path: &Path, kind: &str, format: &str) -> Problem {
        let format = if format.is_empty() { "(default format)".to_owned() } else { format!("with format {format}") };
        Problem::composite(format!("Checked value must be of type {kind} {format} in {}", path.text()))
    }

    fn composite(detail: String) -> Problem {
        Problem { field: String::new(), has_place: false, kind: FieldErrorKind::Invalid, value: "\"\"".into(), detail }
    }

    pub(super) fn any_of(path: &Path) -> Problem {
        Problem::composite(format!("{:?} must validate at least one schema (anyOf)", path.text()))
    }

    pub(super) fn one_of(path: &Path, valid: usize) -> Problem {
        let found =
            if valid == 0 { "Found none valid".to_owned() } else { format!("Found {valid} valid alternatives") };
        Problem::composite(format!("{:?} must validate one and only one schema (oneOf). {found}", path.text()))
    }

    pub(super) fn all_of(path: &Path, none: bool) -> Problem {
        let none = if none { ". None validated" } else { "" };
        Problem::composite(format!("{:?} must validate all the schemas (allOf){none}", path.text()))
    }

    pub(super) fn not(path: &Path) -> Problem {
        Problem::composite(format!("{:?} must not validate the schema (not)", path.text()))
    }
}
