//! Priority and fairness (`pkg/apis/flowcontrol/validation`).

use std::collections::HashSet;

use api::names;

use super::at::At;
use crate::bootstrap::flow::fixed_spec;

const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of the hash that hands are dealt from.
const HASH_BITS: f64 = 60.0;

const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// The mandatory schemas are what they are.
fn fixed_schema(at: &At) {
    let (name, spec) = (at.value().str_at(&["metadata", "name"]), at.get("spec"));
    if fixed_spec("FlowSchema", name).is_some_and(|fixed| fixed != *spec.value()) {
        spec.invalid(format!("spec of '{name}' must equal the fixed value"));
    }
}

/// So are the mandatory levels; of `exempt`, what it lends may change.
fn fixed_level(at: &At) {
    let (name, spec) = (at.value().str_at(&["metadata", "name"]), at.get("spec"));
    let Some(mut fixed) = fixed_spec("PriorityLevelConfiguration", name) else { return };
    let mut said = spec.value().clone();
    let lends = [&mut fixed, &mut said].map(|spec| spec.take(&["exempt"]));
    match name {
        "exempt" if fixed != said => {
            spec.invalid("spec of 'exempt' except the 'spec.exempt' field must equal the fixed value");
        }
        "exempt" => {}
        _ if fixed != said || lends[0] != lends[1] => {
            spec.invalid(format!("spec of '{name}' must equal the fixed value"));
        }
        _ => {}
    }
}

pub(super) fn schema(at: &At) {
    schema_spec(at);
    fixed_schema(at);
}

fn schema_spec(at: &At) {
    let spec = at.get("spec");
    let precedence = spec.get("matchingPrecedence");
    let number = precedence.int().unwrap_or(0);
    if number <= 0 {
        precedence.invalid_value(number, "must be a positive value");
    }
    if number > PRECEDENCE_MAX {
        precedence.invalid(format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if number == 1 && at.value().str_at(&["metadata", "name"]) != "exempt" {
        precedence.invalid("only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.get("distinguisherMethod");
    if method.is_set() && !matches!(method.get("type").text(), "ByNamespace" | "ByUser") {
        method.get("type").not_supported_value(method.value(), &["ByNamespace", "ByUser"]);
    }
    let level = spec.get("priorityLevelConfiguration");
    if level.get("name").need_because("must reference a priority level") {
        level.get("name").named(names::dns1123_subdomain);
    }
    for rule in spec.get("rules").items() {
        rule.get("subjects").need_because("subjects must contain at least one value");
        rule.get("subjects").items().for_each(|subject| rule_subject(&subject));
        if rule.get("resourceRules").len() + rule.get("nonResourceRules").len() == 0 {
            rule.required("at least one of resourceRules and nonResourceRules has to be non-empty");
        }
        rule.get("resourceRules").items().for_each(|rule| resource_rule(&rule));
        for rule in rule.get("nonResourceRules").items() {
            verbs(&rule.get("verbs"));
            let urls = rule.get("nonResourceURLs");
            urls.need_because("nonResourceURLs must contain at least one value");
            if !alone(&urls, "non-resource URLs") {
                urls.items().for_each(|url| url_path(&url));
            }
        }
    }
}

const SUBJECTS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn rule_subject(at: &At) {
    let kind = at.get("kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(name, _)| *name == kind.text()) else {
        return kind.not_supported(&["Group", "ServiceAccount", "User"]);
    };
    let subject = at.get(own);
    if !subject.is_set() {
        subject.required(&format!("{own} is required when subject kind is '{}'", kind.text()));
    } else if subject.get("name").need() && kind.text() == "ServiceAccount" && subject.get("name").text() != "*" {
        subject.get("name").named(names::dns1123_subdomain);
    }
    if subject.is_set() && kind.text() == "ServiceAccount" {
        let namespace = subject.get("namespace");
        if namespace.need_because("must specify namespace for service account") {
            namespace.named(names::dns1123_label);
        }
    }
    for (name, member) in SUBJECTS.iter().filter(|(_, member)| member != own) {
        at.get(member).forbid(&format!("{member} is forbidden when subject kind is not '{name}'"));
    }
}

/// Whether `*` is in a list, where it has to be alone.
fn alone(list: &At, what: &str) -> bool {
    let wild = list.contains("*");
    if wild && list.len() > 1 {
        list.invalid(format!("if '*' is present, must not specify other {what}"));
    }
    wild
}

fn verbs(list: &At) {
    list.need_because("verbs must contain at least one value");
    if !alone(list, "verbs") && list.texts().any(|verb| !VERBS.contains(&verb)) {
        list.not_supported(&VERBS);
    }
}

fn resource_rule(rule: &At) {
    verbs(&rule.get("verbs"));
    let (groups, resources, namespaces) = (rule.get("apiGroups"), rule.get("resources"), rule.get("namespaces"));
    groups.need_because("resource rules must supply at least one api group");
    alone(&groups, "api groups");
    resources.need_because("resource rules must supply at least one resource");
    alone(&resources, "resources");
    if !rule.get("clusterScope").is_true() {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        namespaces.need_because(detail);
    }
    if !alone(&namespaces, "namespaces") {
        for namespace in namespaces.items() {
            for problem in names::dns1123_label(namespace.text()) {
                namespace.invalid(format!("each member of this list must be '*' or a DNS-1123 label; {problem}"));
            }
        }
    }
}

fn url_path(at: &At) {
    let text = at.text();
    let stars = text.matches('*').count();
    let problem = match text {
        "" => "must not be empty",
        "/" => return,
        _ if !text.starts_with('/') => "must start with slash",
        _ if text.contains(' ') => "must not contain white-space",
        _ if text.contains("//") => "must not contain double slash",
        _ if stars > 1 || (stars == 1 && !text.ends_with("/*")) => "wildcard can only do suffix matching",
        _ => return,
    };
    at.invalid(problem);
}

pub(super) fn priority_level(at: &At) {
    const OLD: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";
    let metadata = at.get("metadata");
    if metadata.get("annotations").key(OLD).is_set() {
        metadata.get("annotations").forbidden(format!("annotation '{OLD}' is forbidden"));
    }
    level_spec(at);
    fixed_level(at);
}

fn level_spec(at: &At) {
    let spec = at.get("spec");
    let (kind, limited, exempt) = (spec.get("type"), spec.get("limited"), spec.get("exempt"));
    if (at.value().str_at(&["metadata", "name"]) == "exempt") != (kind.text() == "Exempt") {
        kind.invalid_value(kind.text(), "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind.text() {
        "Exempt" => {
            limited.forbid("must be nil if the type is not Limited");
            shares(&exempt);
        }
        "Limited" => {
            exempt.forbid("must be nil if the type is Limited");
            if limited.is_set() {
                shares(&limited);
                limit_response(&limited.get("limitResponse"));
                let borrowing = limited.get("borrowingLimitPercent");
                if borrowing.int().is_some_and(|percent| percent < 0) {
                    borrowing.invalid("if specified, must be a non-negative integer");
                }
            } else {
                limited.required("must not be empty when type is Limited");
            }
        }
        _ => kind.not_supported(&["Exempt", "Limited"]),
    }
}

fn shares(at: &At) {
    let shares = at.get("nominalConcurrencyShares");
    if shares.int().is_some_and(|shares| shares < 0) {
        shares.invalid("must be a non-negative integer");
    }
    at.get("lendablePercent").in_range(0, 100);
}

fn limit_response(at: &At) {
    let queuing = at.get("queuing");
    match at.get("type").text() {
        "Reject" => queuing.forbid("must be nil if limited.limitResponse.type is not Limited"),
        "Queue" if !queuing.is_set() => {
            queuing.required("must not be empty if limited.limitResponse.type is Limited");
        }
        "Queue" => queues(&queuing),
        _ => at.get("type").not_supported(&["Queue", "Reject"]),
    }
}

fn queues(at: &At) {
    let number = |name: &str| at.get(name).int().unwrap_or(0);
    for name in ["queueLengthLimit", "queues", "handSize"].into_iter().filter(|name| number(name) <= 0) {
        at.get(name).invalid_value(number(name), "must be positive");
    }
    let (deck, hand) = (number("queues"), number("handSize"));
    if deck > QUEUES_MAX {
        at.get("queues").invalid(format!("must not be greater than {QUEUES_MAX}"));
    }
    if hand > deck {
        at.get("handSize").invalid(format!("should not be greater than queues ({deck})"));
    } else if hand > 0 {
        let bits: f64 = (deck - hand + 1..=deck).map(|cards| (cards as f64).log2()).sum::<f64>().ceil();
        if bits > HASH_BITS {
            at.get("handSize").invalid(format!(
                "required entropy bits of deckSize {deck} and handSize {hand} should not be greater than {HASH_BITS}"
            ));
        }
    }
}

pub(super) fn status(at: &At, _old: &At) {
    let status = at.get("status");
    let conditions = status.get("conditions");
    let mut seen: HashSet<&str> = HashSet::new();
    for condition in conditions.items() {
        let kind = condition.get("type");
        if !seen.insert(kind.text()) {
            kind.duplicate_value(kind.text());
        }
        kind.need();
    }
}
