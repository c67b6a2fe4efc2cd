//! Probes and hooks of containers (`pkg/apis/core/validation`: validateProbe, validateLifecycle, validateHandler).

use api::names;

use super::container::Surroundings;
use crate::strategy::validate::{at::At, common};

/// Probes and hooks of containers that run for long.
pub(super) fn running(container: &At, around: &Surroundings) {
    lifecycle(&container.get("lifecycle"), around);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(name);
        if !probe.is_set() {
            continue;
        }
        handler(&probe, &["exec", "httpGet", "tcpSocket", "grpc"], None);
        for name in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
            probe.get(name).non_negative();
        }
        let grace = probe.get("terminationGracePeriodSeconds");
        if grace.int().is_some_and(|seconds| seconds <= 0) {
            grace.invalid("must be greater than 0");
        }
        if name == "readinessProbe" {
            if grace.is_set() {
                grace.invalid("must not be set for readinessProbes");
            }
        } else if probe.get("successThreshold").int() != Some(1) {
            probe.get("successThreshold").invalid("must be 1");
        }
    }
}

fn lifecycle(at: &At, around: &Surroundings) {
    for name in ["postStart", "preStop"] {
        let hook = at.get(name);
        if hook.is_set() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], around.grace_seconds);
        }
    }
    let signal = at.get("stopSignal");
    if signal.is_set() {
        match around.os {
            "" => signal.forbidden("may not be set for containers with empty `spec.os.name`"),
            "windows" => signal.one_of(&["SIGKILL", "SIGTERM"]),
            _ => {}
        }
    }
}

/// `validateHandler`: exactly one of `kinds`.
fn handler(at: &At, kinds: &[&str], grace_seconds: Option<i64>) {
    let mut found = false;
    for kind in kinds {
        let action = at.get(kind);
        if !action.is_set() {
            continue;
        }
        if found {
            action.forbidden("may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                action.get("command").need();
            }
            "httpGet" => http_get(&action),
            "sleep" => sleep(&action, grace_seconds),
            "grpc" => action.get("port").port(),
            _ => common::port_or_name(&action.get("port")),
        }
    }
    if !found {
        at.required("must specify a handler type");
    }
}

fn http_get(action: &At) {
    action.get("path").need();
    common::port_or_name(&action.get("port"));
    action.get("scheme").one_of(&["HTTP", "HTTPS"]);
    let headers = action.get("httpHeaders");
    for header in headers.items() {
        headers.problems(header.get("name").text(), names::http_header_name);
    }
}

fn sleep(action: &At, grace_seconds: Option<i64>) {
    let seconds = action.get("seconds").int().unwrap_or(0);
    if let Some(grace) = grace_seconds.filter(|grace| seconds < 0 || seconds > *grace) {
        action.invalid_value(
            seconds,
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
        );
    }
}
