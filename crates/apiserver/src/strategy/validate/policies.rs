//! Admission policies and what binds them (`pkg/apis/admissionregistration/validation`). Expressions are checked for
//! presence and length, not compiled.

use std::collections::HashSet;

use api::names;

use super::{
    admission::{match_conditions, rule_with_operations},
    at::At,
    common,
};

const AUDIT_ANNOTATIONS_MAX: usize = 20;
const AUDIT_EXPRESSION_BYTES_MAX: usize = 5 * 1024;
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];

/// Words that CEL keeps for itself.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

fn is_blank(at: &At) -> bool {
    at.text().trim().is_empty()
}

/// A pointer in upstream's types: set or not, and if set, one of these.
fn need_choice(at: &At, choices: &[&str]) {
    if at.is_set() {
        at.one_of(choices);
    } else {
        at.required("");
    }
}

/// What policies of both kinds have in common.
fn policy_spec(spec: &At) {
    need_choice(&spec.get("failurePolicy"), &["Fail", "Ignore"]);
    if spec.get("paramKind").is_set() {
        parameter_kind(&spec.get("paramKind"));
    }
    let constraints = spec.get("matchConstraints");
    if constraints.is_set() {
        match_resources(&constraints);
        constraints.get("resourceRules").need();
    } else {
        constraints.required("");
    }
}

fn conditions_and_variables(spec: &At) {
    match_conditions(&spec.get("matchConditions"));
    for variable in spec.get("variables").items() {
        let (name, expression) = (variable.get("name"), variable.get("expression"));
        if is_blank(&name) {
            name.required("name is not specified");
        } else if !names::c_identifier(name.text()).is_empty() || RESERVED.contains(&name.text()) {
            name.invalid("must be a valid CEL identifier");
        }
        if is_blank(&expression) {
            expression.required("expression is not specified");
        }
    }
}

pub(super) fn validating(at: &At) {
    let spec = at.get("spec");
    policy_spec(&spec);
    conditions_and_variables(&spec);
    let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for list in [&validations, &annotations] {
            list.required("validations or auditAnnotations must contain at least one item");
        }
        return;
    }
    validations.items().for_each(|item| validation(&item));
    if annotations.len() > AUDIT_ANNOTATIONS_MAX {
        annotations.invalid(format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations"));
    }
    let policy = at.value().str_at(&["metadata", "name"]);
    let mut seen: HashSet<&str> = HashSet::new();
    for annotation in annotations.items() {
        audit_annotation(&annotation, policy);
        let key = annotation.get("key");
        if !seen.insert(key.text()) {
            key.duplicate_value(key.text());
        }
    }
}

fn validation(at: &At) {
    let (message, by_expression, reason) = (at.get("message"), at.get("messageExpression"), at.get("reason"));
    if is_blank(&at.get("expression")) {
        at.get("expression").required("expression is not specified");
    }
    if !by_expression.is_empty() && is_blank(&by_expression) {
        by_expression.invalid("must be non-empty if specified");
    }
    if !message.is_empty() && is_blank(&message) {
        message.invalid("must be non-empty if specified");
    } else if message.text().trim().contains(['\n', '\r']) {
        message.invalid("must not contain line breaks");
    }
    reason.one_of_if_set(&["Forbidden", "Invalid", "RequestEntityTooLarge"]);
}

fn audit_annotation(at: &At, policy: &str) {
    let (key, value) = (at.get("key"), at.get("valueExpression"));
    key.problems(&format!("{policy}/{}", key.text()), names::qualified_name);
    if is_blank(&value) {
        value.required("valueExpression is not specified");
    } else if value.text().trim().len() > AUDIT_EXPRESSION_BYTES_MAX {
        value.required(&format!("must not exceed {AUDIT_EXPRESSION_BYTES_MAX} bytes in length"));
    }
}

pub(super) fn validating_status(at: &At, _old: &At) {
    let status = at.get("status");
    let checks = status.get("typeChecking");
    for warning in checks.get("expressionWarnings").items() {
        warning.get("warning").need();
        if is_blank(&warning.get("fieldRef")) {
            warning.get("fieldRef").required("");
        }
    }
    common::conditions(&status.get("conditions"));
}

pub(super) fn mutating(at: &At) {
    let spec = at.get("spec");
    policy_spec(&spec);
    mutating_operations(&spec.get("matchConstraints"));
    conditions_and_variables(&spec);
    let mutations = spec.get("mutations");
    mutations.need_because("mutations must contain at least one item");
    mutations.items().for_each(|item| mutation(&item));
    spec.get("reinvocationPolicy").need_one_of(&["IfNeeded", "Never"]);
}

/// Nothing is left to change of what is deleted. Errors stand at no rule in particular.
fn mutating_operations(resources: &At) {
    let rules = resources.get("resourceRules");
    let place = rules.get("operations");
    for rule in rules.items() {
        for operation in rule.get("operations").texts().filter(|name| !MUTATING_OPERATIONS.contains(name)) {
            place.not_supported_value(operation, &MUTATING_OPERATIONS);
        }
    }
}

fn mutation(at: &At) {
    let kind = at.get("patchType");
    if !kind.need() {
        return;
    }
    let (wanted, other) = match kind.text() {
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => return kind.not_supported(&["ApplyConfiguration", "JSONPatch"]),
    };
    let patch = at.get(wanted);
    if !patch.is_set() {
        patch.required(&format!("must be specified when patchType is {}", kind.text()));
    } else if is_blank(&patch.get("expression")) {
        patch.get("expression").required("");
    }
    if at.get(other).is_set() {
        let detail = format!("must not be specified when patchType is {}", kind.text());
        at.get(other).invalid_value(format!("{{{other}}}"), detail);
    }
}

fn parameter_kind(at: &At) {
    let (version, kind) = (at.get("apiVersion"), at.get("kind"));
    if version.need() {
        parameter_version(&version);
    }
    if kind.need() {
        let problems = names::dns1035_label(&kind.text().to_lowercase());
        if !problems.is_empty() {
            kind.invalid(format!("may have mixed case, but should otherwise match: {}", problems.join(",")));
        }
    }
}

fn parameter_version(at: &At) {
    let text = at.text();
    let (group, version) = match text.split('/').collect::<Vec<_>>()[..] {
        ["", ""] => ("", ""),
        [version] => ("", version),
        [group, version] => (group, version),
        _ => return at.invalid(format!("unexpected GroupVersion string: {text}")),
    };
    let check = |part: &str, problems: Vec<String>| {
        if !problems.is_empty() {
            at.invalid_value(part, problems.join(","));
        }
    };
    if !group.is_empty() {
        check(group, names::dns1123_subdomain(group));
    }
    if version.is_empty() {
        at.invalid("version must be specified");
    } else {
        check(version, names::dns1035_label(version));
    }
}

/// `validateMatchResources`.
fn match_resources(at: &At) {
    need_choice(&at.get("matchPolicy"), &["Equivalent", "Exact"]);
    for name in ["namespaceSelector", "objectSelector"] {
        let selector = at.get(name);
        if selector.is_set() {
            common::label_selector(&selector);
        } else {
            selector.required("");
        }
    }
    for name in ["resourceRules", "excludeResourceRules"] {
        for rule in at.get(name).items() {
            let mut seen: HashSet<&str> = HashSet::new();
            for object in rule.get("resourceNames").items() {
                object.named(names::path_segment_name);
                if !seen.insert(object.text()) {
                    object.duplicate();
                }
            }
            rule_with_operations(&rule);
        }
    }
}

/// What bindings of both kinds have in common.
fn binding_spec(spec: &At) {
    spec.get("policyName").need_named(names::dns1123_subdomain);
    let reference = spec.get("paramRef");
    if reference.is_set() {
        parameter_reference(&reference);
    }
    let resources = spec.get("matchResources");
    if resources.is_set() {
        match_resources(&resources);
    }
}

/// `validateParamRef`.
fn parameter_reference(at: &At) {
    const BOTH: &str = "name and selector are mutually exclusive";
    let (name, selector, missing) = (at.get("name"), at.get("selector"), at.get("parameterNotFoundAction"));
    let has_both = !name.is_empty() && selector.is_set();
    name.named_if_set(names::path_segment_name);
    if has_both {
        name.forbidden(BOTH);
    }
    if selector.is_set() {
        common::label_selector(&selector);
    }
    if has_both {
        selector.forbidden(BOTH);
    }
    if name.is_empty() && !selector.is_set() {
        at.required("one of name or selector must be specified");
    }
    missing.need_one_of(&["Deny", "Allow"]);
}

pub(super) fn validating_binding(at: &At) {
    let spec = at.get("spec");
    binding_spec(&spec);
    let actions = spec.get("validationActions");
    let mut seen: HashSet<&str> = HashSet::new();
    for action in actions.items() {
        action.one_of(&["Audit", "Deny", "Warn"]);
        if !seen.insert(action.text()) {
            action.duplicate();
        }
    }
    if actions.contains("Deny") && actions.contains("Warn") {
        actions.invalid("must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
    actions.need_because("at least one validation action is required");
}

pub(super) fn mutating_binding(at: &At) {
    let spec = at.get("spec");
    binding_spec(&spec);
    mutating_operations(&spec.get("matchResources"));
}
