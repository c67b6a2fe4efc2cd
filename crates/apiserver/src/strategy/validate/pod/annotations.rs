//! Annotations that mean something to pods (`pkg/apis/core/validation`: ValidatePodSpecificAnnotations).

use std::cell::LazyCell;

use super::{MIRROR, container::LISTS};
use crate::strategy::validate::{at::At, common};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// What is wrong with the annotations of a pod or a template.
pub(super) fn check(at: &At, spec: &At) {
    if at.is_empty() {
        return;
    }
    let mirror = at.key(MIRROR);
    if mirror.is_set() && spec.get("nodeName").is_empty() {
        mirror.invalid("must set spec.nodeName if mirror pod annotation is set");
    }
    let cost = at.key(DELETION_COST);
    if cost.is_set() && !is_cost(cost.text()) {
        cost.invalid("must be a 32bit integer");
    }
    let containers = LISTS.map(|list| spec.get(list));
    let containers = LazyCell::new(|| containers.each_ref().map(|list| list.by("name")));
    for (key, annotation) in at.entries() {
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp(&at.get(key).holding(&annotation));
        }
        if let Some(name) = key.strip_prefix(APP_ARMOR) {
            if !containers.iter().any(|list| list.contains_key(name)) {
                annotation.invalid_value(name, "container not found");
            }
            let profile = annotation.text();
            if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
                annotation.invalid(format!("invalid AppArmor profile name: {profile:?}"));
            }
        }
    }
}

/// A number without a plus sign or leading zeros.
fn is_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|number| number.to_string() == text)
}

fn seccomp(at: &At) {
    match at.text() {
        "runtime/default" | "docker/default" | "unconfined" => {}
        text => match text.strip_prefix("localhost/") {
            Some(path) if path.starts_with('/') => at.invalid_value(path, "must be a relative path"),
            Some(_) => common::no_backsteps(at),
            None => at.invalid("must be a valid seccomp profile"),
        },
    }
}

/// Where an annotation and a field say the same thing, they have to agree.
pub(super) fn match_fields(at: &At, spec: &At) {
    if at.is_empty() {
        return;
    }
    let pod = spec.get("securityContext");
    agree(&at.key(SECCOMP_POD), &pod.get("seccompProfile"), "seccomp");
    for list in LISTS {
        for container in spec.get(list).items() {
            let name = container.get("name").text();
            let context = container.get("securityContext");
            let key = format!("{SECCOMP_CONTAINER}{name}");
            agree(&at.key(&key), &context.get("seccompProfile"), "seccomp");
            if spec.value().str_at(&["os", "name"]) == "windows" {
                continue;
            }
            let own = context.get("appArmorProfile");
            let profile = if own.is_set() { own } else { own.holding(&pod.get("appArmorProfile")) };
            let key = format!("{APP_ARMOR}{name}");
            agree(&at.key(&key), &profile, "apparmor");
        }
    }
}

fn agree(annotation: &At, profile: &At, what: &str) {
    if !annotation.is_set() || !profile.is_set() {
        return;
    }
    let local = annotation.text().strip_prefix("localhost/");
    let fits = match profile.get("type").text() {
        "Unconfined" => annotation.text() == "unconfined",
        "RuntimeDefault" => matches!(annotation.text(), "runtime/default" | "docker/default"),
        "Localhost" => local.is_some(),
        _ => true,
    };
    if !fits {
        profile.get("type").forbidden(format!("{what} type in annotation and field must match"));
    } else if local.is_some_and(|local| local != profile.get("localhostProfile").text()) {
        profile.get("localhostProfile").forbidden(format!("{what} profile in annotation and field must match"));
    }
}

/// `ValidatePodSpecificAnnotationUpdates`.
pub(super) fn update(at: &At, old: &At) {
    for (key, was) in old.entries() {
        if at.key(key).same(&was) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            at.key(key).forbidden("may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            at.key(key).forbidden("may not remove or update mirror pod annotation");
        }
    }
    for (key, now) in at.entries().filter(|(key, _)| !old.key(key).is_set()) {
        if key.starts_with(APP_ARMOR) {
            now.forbidden("may not add AppArmor annotations");
        }
        if key == MIRROR {
            now.forbidden("may not add mirror pod annotation");
        }
    }
}
