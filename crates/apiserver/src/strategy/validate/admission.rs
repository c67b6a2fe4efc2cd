//! Webhook configurations (`pkg/apis/admissionregistration/validation`). Expressions are not compiled.

use std::collections::HashSet;

use api::names;

use super::{at::At, common};

pub(super) fn webhooks(at: &At) {
    let hooks = at.get("webhooks");
    for hook in hooks.items() {
        common::fully_qualified_name(&hook.get("name"));
        hook.get("rules").items().for_each(|rule| rule_with_operations(&rule));
        hook.get("failurePolicy").one_of_if_set(&["Fail", "Ignore"]);
        hook.get("matchPolicy").one_of_if_set(&["Equivalent", "Exact"]);
        let effects = hook.get("sideEffects");
        if effects.is_set() {
            effects.one_of(&["None", "NoneOnDryRun"]);
        } else {
            effects.required("must specify one of None, NoneOnDryRun");
        }
        let timeout = hook.get("timeoutSeconds");
        if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
            timeout.invalid("the timeout value must be between 1 and 30 seconds");
        }
        common::label_selector(&hook.get("namespaceSelector"));
        common::label_selector(&hook.get("objectSelector"));
        hook.get("reinvocationPolicy").one_of_if_set(&["IfNeeded", "Never"]);
        client_config(&hook.get("clientConfig"));
        match_conditions(&hook.get("matchConditions"));
        review_versions(&hook.get("admissionReviewVersions"));
    }
    hooks.unique("name");
}

fn review_versions(versions: &At) {
    if !versions.need_because("must specify one of v1, v1beta1") {
        return;
    }
    let mut seen: HashSet<&str> = HashSet::new();
    for version in versions.items() {
        if !seen.insert(version.text()) {
            version.invalid("duplicate version");
            continue;
        }
        version.named(names::dns1035_label);
    }
    if !seen.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        versions.invalid("must include at least one of v1, v1beta1");
    }
}

fn alone(list: &At, what: &str) {
    if list.len() > 1 && list.contains("*") {
        list.invalid(format!("if '*' is present, must not specify other {what}"));
    }
}

pub(super) fn rule_with_operations(rule: &At) {
    let operations = rule.get("operations");
    operations.need();
    alone(&operations, "operations");
    operations.items().for_each(|operation| operation.one_of(&["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]));
    let (groups, versions) = (rule.get("apiGroups"), rule.get("apiVersions"));
    groups.need();
    alone(&groups, "API groups");
    versions.need();
    alone(&versions, "API versions");
    for version in versions.items() {
        version.need();
    }
    resources(&rule.get("resources"));
    rule.get("scope").one_of_if_set(&["*", "Cluster", "Namespaced"]);
}

/// `validateResources`.
fn resources(list: &At) {
    list.need();
    let (mut any_sub, mut any_resource): (HashSet<&str>, HashSet<&str>) = Default::default();
    let mut plain = false;
    for resource in list.items() {
        if !resource.need() {
            continue;
        }
        let text = resource.text();
        let Some((name, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if any_sub.contains(&name) {
            resource.invalid(format!("if '{name}/*' is present, must not specify {text}"));
        }
        if any_resource.contains(&sub) {
            resource.invalid(format!("if '*/{sub}' is present, must not specify {text}"));
        }
        if sub == "*" {
            any_sub.insert(name);
        }
        if name == "*" {
            any_resource.insert(sub);
        }
    }
    if list.len() > 1 && list.contains("*/*") {
        list.invalid("if '*/*' is present, must not specify other resources");
    }
    if list.contains("*") && plain {
        list.invalid("if '*' is present, must not specify other resources without subresources");
    }
}

fn client_config(at: &At) {
    let (url, service) = (at.get("url"), at.get("service"));
    if url.is_set() == service.is_set() {
        at.required("exactly one of url or service is required");
    } else if url.is_set() {
        webhook_url(&url);
    } else {
        // Upstream takes the one for the other.
        service.get("name").holding(&service.get("namespace")).need();
        service.get("namespace").holding(&service.get("name")).need();
        let port = service.get("port").int().unwrap_or(443);
        if !(1..=65535).contains(&port) {
            service.get("port").invalid("port is not valid: must be between 1 and 65535, inclusive");
        }
        service_path(&service.get("path"));
    }
}

fn webhook_url(at: &At) {
    const FORM: &str = "; desired format: https://host[/path]";
    let text = at.text();
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if scheme != "https" {
        at.invalid_value(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let host = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = host.rsplit_once('@').unwrap_or(("", host));
    if host.is_empty() {
        at.invalid_value(host, format!("host must be specified{FORM}"));
    }
    for (part, detail) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            at.invalid_value(part, detail);
        }
    }
}

/// `ValidateWebhookService`'s part on the path.
fn service_path(at: &At) {
    let text = at.text();
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        return at.invalid("segment[0] may not be empty");
    }
    if !text.starts_with('/') {
        at.invalid("must start with a '/'");
    }
    let mut rest = text.chars();
    rest.next();
    let rest = rest.as_str();
    for (index, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            at.invalid(format!("segment[{index}] may not be empty"));
            continue;
        }
        for problem in names::dns1123_subdomain(step) {
            at.invalid(format!("segment[{index}]: {problem}"));
        }
    }
}

const CONDITIONS_MAX: usize = 64;

/// Names and presence; whether an expression compiles is not known here.
pub(super) fn match_conditions(list: &At) {
    if list.len() > CONDITIONS_MAX {
        list.too_many(CONDITIONS_MAX);
    }
    for condition in list.items() {
        if condition.get("expression").text().trim().is_empty() {
            condition.get("expression").required("");
        }
        condition.get("name").need_named(names::qualified_name);
    }
    list.unique("name");
}
