//! Names of a definition: its own, those of its kind, and the approval that Kubernetes' own groups need.

use api::{Value, names, status::FieldError};

/// `metadata.name` follows from the plural name and the group.
pub(super) fn own_name(object: &Value) -> Vec<FieldError> {
    let name = object.str_at(&["metadata", "name"]);
    let wanted = format!("{}.{}", object.str_at(&["spec", "names", "plural"]), object.str_at(&["spec", "group"]));
    if name == wanted || name.is_empty() {
        return Vec::new();
    }
    vec![FieldError::invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group")]
}

/// Group, scope and names.
pub(super) fn spec(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = object.str_at(&["spec", "group"]);
    let problems = names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if !problems.is_empty() {
        errors.push(FieldError::invalid("spec.group", group, problems.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
    }
    match object.str_at(&["spec", "scope"]) {
        "Cluster" | "Namespaced" => {}
        "" => errors.push(FieldError::required("spec.scope", "")),
        other => errors.push(FieldError::not_supported("spec.scope", other, &["Cluster", "Namespaced"])),
    }
    for name in ["plural", "singular", "kind", "listKind"] {
        if object.str_at(&["spec", "names", name]).is_empty() {
            errors.push(FieldError::required(format!("spec.names.{name}"), ""));
        }
    }
    errors.extend(check(object.at(&["spec", "names"]), "spec.names"));
    if object.at(&["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true)) {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", true, detail));
    }
    errors
}

/// Names of resources, those that are there.
pub(super) fn check(found: Option<&Value>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = Value::object();
    let found = found.unwrap_or(&empty);
    let mut label = |field: String, value: &str, prefix: &str| {
        let problems = names::dns1035_label(&if prefix.is_empty() { value.to_owned() } else { value.to_lowercase() });
        if !value.is_empty() && !problems.is_empty() {
            errors.push(FieldError::invalid(field, value, format!("{prefix}{}", problems.join(","))));
        }
    };
    label(format!("{path}.plural"), found.str_at(&["plural"]), "");
    label(format!("{path}.singular"), found.str_at(&["singular"]), "");
    for name in ["kind", "listKind"] {
        label(format!("{path}.{name}"), found.str_at(&[name]), "may have mixed case, but should otherwise match: ");
    }
    for list in ["shortNames", "categories"] {
        for (index, name) in found.get(list).and_then(Value::as_array).unwrap_or_default().iter().enumerate() {
            label(format!("{path}.{list}[{index}]"), name.as_str().unwrap_or_default(), "");
        }
    }
    let (kind, list) = (found.str_at(&["kind"]), found.str_at(&["listKind"]));
    if !kind.is_empty() && kind == list {
        errors.push(FieldError::invalid(format!("{path}.listKind"), list, "kind and listKind may not be the same"));
    }
    errors
}

/// What decides on where objects are stored does not change; some of it only until the definition is established.
pub(super) fn immutable(object: &Value, old: &Value) -> Vec<FieldError> {
    let always: &[&[&str]] = &[&["spec", "group"], &["spec", "names", "plural"]];
    let established: &[&[&str]] = &[&["spec", "scope"], &["spec", "names", "kind"]];
    let established = if api::custom::is_true(old, "Established") { established } else { &[] };
    let changed = always.iter().chain(established).filter(|path| object.str_at(path) != old.str_at(path));
    changed.map(|path| FieldError::invalid(path.join("."), object.str_at(path), "field is immutable")).collect()
}

const APPROVAL: &str = "api-approved.kubernetes.io";

#[derive(Clone, Copy, PartialEq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|own| group == *own || group.ends_with(&format!(".{own}")))
}

fn state(object: &Value) -> Approval {
    match object.str_at(&["metadata", "annotations", APPROVAL]) {
        "" => Approval::Missing,
        text if text.starts_with("unapproved") => Approval::Bypassed,
        text if text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty()) => {
            Approval::Approved
        }
        _ => Approval::Invalid,
    }
}

/// Groups of Kubernetes itself need an annotation that says where the API was approved.
pub(super) fn approval(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if !is_protected(object.str_at(&["spec", "group"])) || old.is_some_and(|old| state(old) == state(object)) {
        return Vec::new();
    }
    let field = format!("metadata.annotations[{APPROVAL}]");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    match state(object) {
        Approval::Missing => {
            vec![FieldError::required(
                field,
                format!("protected groups must have approval annotation {APPROVAL:?}, {see}"),
            )]
        }
        Approval::Invalid => {
            let detail = format!(
                "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \"unapproved\", {see}"
            );
            vec![FieldError::invalid(field, object.str_at(&["metadata", "annotations", APPROVAL]), detail)]
        }
        Approval::Bypassed | Approval::Approved => Vec::new(),
    }
}

/// The status, reason and message of a definition's `KubernetesAPIApprovalPolicyConformant`; `None` for other groups.
pub(crate) fn conformance(object: &Value) -> Option<(&'static str, &'static str, String)> {
    if !is_protected(object.str_at(&["spec", "group"])) {
        return None;
    }
    let text = object.str_at(&["metadata", "annotations", APPROVAL]);
    Some(match state(object) {
        Approval::Missing => (
            "False",
            "MissingAnnotation",
            approval(object, None).first().map(|error| error.detail.clone()).unwrap_or_default(),
        ),
        Approval::Invalid => (
            "False",
            "InvalidAnnotation",
            approval(object, None).first().map(|error| error.detail.clone()).unwrap_or_default(),
        ),
        Approval::Bypassed => ("False", "UnapprovedAnnotation", format!("not approved: {text:?}")),
        Approval::Approved => ("True", "ApprovedAnnotation", format!("approved in {text}")),
    })
}
