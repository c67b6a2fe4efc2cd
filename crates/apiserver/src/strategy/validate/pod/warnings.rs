//! What is not wrong with a pod but deserves a word (`pkg/api/pod/warnings.go`).

use std::collections::{HashMap, HashSet};

use api::{names, quantity::Quantity};

use super::{container::LISTS, overlaps};
use crate::strategy::validate::{at::At, warnings};

/// Things that are each compared with those before them are compared with so many, and complained of so often: a response
/// carries fewer warnings than that.
pub(super) const NEIGHBOURS_MAX: usize = 1000;
pub(super) const ENOUGH: usize = 4096;

/// Labels of nodes that have been replaced.
const DEPRECATED_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

pub(in crate::strategy::validate) fn deprecated_label(key: &str) -> Option<&'static str> {
    DEPRECATED_LABELS.iter().find(|(label, _)| *label == key).map(|(_, why)| *why)
}

const DEPRECATED_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

/// Volumes that do nothing any more: member, how upstream calls it, since when.
pub(in crate::strategy::validate) const DEPRECATED_VOLUMES: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// Warnings about a pod, or about the template of one.
pub(in crate::strategy::validate) fn pod(at: &At, is_template: bool, out: &mut Vec<String>) {
    let (spec, metadata) = (at.get("spec"), at.get("metadata"));
    for (key, label) in spec.get("nodeSelector").entries() {
        if let Some(why) = deprecated_label(key) {
            out.push(format!("{}: {why}", label.path()));
        }
    }
    affinity(&spec.get("affinity"), out);
    for constraint in spec.get("topologySpreadConstraints").items() {
        let key = constraint.get("topologyKey");
        if let Some(why) = deprecated_label(key.text()) {
            out.push(format!("{}: {} is {why}", key.path(), key.text()));
        }
        null_selector(&constraint.get("labelSelector"), out);
    }
    let annotations = metadata.get("annotations");
    for (key, why) in DEPRECATED_ANNOTATIONS.iter().filter(|(key, _)| annotations.key(key).is_set()) {
        out.push(format!("{}: {why}", annotations.key(key).path()));
    }
    for volume in spec.get("volumes").items() {
        for (_, place, since) in DEPRECATED_VOLUMES.iter().filter(|(name, ..)| volume.get(name).is_set()) {
            out.push(format!("{}: {since}", volume.get(place).path()));
        }
        let template = volume.get("ephemeral");
        claim(&template.get("volumeClaimTemplate").get("spec"), out);
    }
    overlaps::warn(&spec.get("volumes"), out);
    twice(&spec.get("hostAliases"), "ip", out);
    twice(&spec.get("imagePullSecrets"), "name", out);
    for secret in spec.get("imagePullSecrets").items().filter(|secret| secret.get("name").is_empty()) {
        out.push(format!("{}: invalid empty name \"\"", secret.get("name").path()));
    }
    for name in ["memory", "ephemeral-storage"] {
        fraction(&spec.get("overhead").key(name), out);
    }
    containers(&spec, &annotations, is_template, out);
    ports(&spec, out);
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|seconds| seconds < 0) {
        out.push(format!("{}: must be >= 0; negative values are invalid and will be treated as 1", grace.path()));
    }
    let servers = spec.get("dnsConfig");
    servers.get("nameservers").items().for_each(|server| warnings::ip(&server, out));
    spec.get("hostAliases").items().for_each(|alias| warnings::ip(&alias.get("ip"), out));
}

fn null_selector(at: &At, out: &mut Vec<String>) {
    if !at.is_set() {
        out.push(format!("{}: {NO_SELECTOR}", at.path()));
    }
}

fn affinity(at: &At, out: &mut Vec<String>) {
    let (required, preferred) =
        ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution");
    let nodes = at.get("nodeAffinity");
    let terms = nodes.get(required);
    terms.get("nodeSelectorTerms").items().for_each(|term| node_term(&term, false, out));
    nodes.get(preferred).items().for_each(|term| node_term(&term.get("preference"), true, out));
    for name in ["podAffinity", "podAntiAffinity"] {
        let pods = at.get(name);
        pods.get(required).items().for_each(|term| null_selector(&term.get("labelSelector"), out));
        for term in pods.get(preferred).items() {
            null_selector(&term.get("podAffinityTerm").get("labelSelector"), out);
        }
    }
}

/// `GetWarningsForNodeSelectorTerm`.
pub(in crate::strategy::validate) fn node_term(term: &At, with_values: bool, out: &mut Vec<String>) {
    for expression in term.get("matchExpressions").items() {
        let key = expression.get("key");
        if let Some(why) = deprecated_label(key.text()) {
            out.push(format!("{}: {} is {why}", key.path(), key.text()));
        }
        for value in expression.get("values").items().filter(|_| with_values) {
            for problem in names::label_value(value.text()) {
                out.push(format!("{}: {} is invalid, {problem}", value.path(), value.text()));
            }
        }
    }
}

/// Fractions of a byte.
fn fraction(at: &At, out: &mut Vec<String>) {
    if let Some(quantity) = at.quantity().filter(|quantity| Quantity::milli_value(*quantity) % 1000 != 0) {
        let text = quantity.to_string();
        out.push(format!("{}: fractional byte value {text:?} is invalid, must be an integer", at.path()));
    }
}

/// `GetWarningsForPersistentVolumeClaimSpec`.
pub(in crate::strategy::validate) fn claim(spec: &At, out: &mut Vec<String>) {
    let resources = spec.get("resources");
    fraction(&resources.get("requests").key("storage"), out);
    fraction(&resources.get("limits").key("storage"), out);
}

fn twice(list: &At, member: &str, out: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for item in list.items() {
        let place = item.get(member);
        if !seen.insert(place.text()) {
            out.push(format!("{}: duplicate {member} {:?}", place.path(), place.text()));
        }
    }
}

fn containers(spec: &At, annotations: &At, is_template: bool, out: &mut Vec<String>) {
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    let pod = spec.get("securityContext");
    let own = annotations.key("seccomp.security.alpha.kubernetes.io/pod");
    if own.is_set() && !pod.get("seccompProfile").is_set() {
        out.push(format!("{}: {seccomp}", own.path()));
    }
    for list in LISTS {
        for container in spec.get(list).items() {
            let context = container.get("securityContext");
            let name = container.get("name").text();
            let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
            if annotations.key(&key).is_set() && !context.get("seccompProfile").is_set() {
                out.push(format!("{}: {seccomp}", annotations.key(&key).path()));
            }
            let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
            let profiled = context.get("appArmorProfile").is_set() || pod.get("appArmorProfile").is_set();
            if is_template && annotations.key(&key).is_set() && !profiled {
                let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
                out.push(format!("{}: {why}", annotations.key(&key).path()));
            }
            let resources = container.get("resources");
            for name in ["memory", "ephemeral-storage"] {
                fraction(&resources.get("limits").key(name), out);
                fraction(&resources.get("requests").key(name), out);
            }
            hidden_variables(&container.get("env"), out);
        }
    }
}

/// A variable that does not build on the one of the same name before it.
fn hidden_variables(list: &At, out: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for variable in list.items() {
        let (name, value) = (variable.get("name").text(), variable.get("value").text());
        if !seen.insert(name) {
            let reference = format!("$({name})");
            if variable.get("valueFrom").is_set() || value == reference || !value.contains(&reference) {
                let path = variable.path();
                out.push(format!(
                    "{path}: hides previous definition of {name:?}, which may be dropped when using apply"
                ));
            }
        }
    }
}

fn ports(spec: &At, out: &mut Vec<String>) {
    /// A port's address on the host, its port there, and where it stands.
    type Port<'v> = (&'v str, i64, String);
    let mut seen: HashMap<(i64, &str), Vec<Port<'_>>> = HashMap::new();
    let mut names: HashMap<&str, String> = HashMap::new();
    let mut named = Vec::new();
    for list in LISTS {
        for container in spec.get(list).items() {
            for port in container.get("ports").items() {
                if out.len() > ENOUGH {
                    return;
                }
                let number = |name: &str| port.get(name).int().unwrap_or(0);
                let (own, ip, host) = (number("containerPort"), port.get("hostIP").text(), number("hostPort"));
                let protocol = port.get("protocol").text();
                if !ip.is_empty() && host == 0 {
                    let name = port.get("name").text();
                    out.push(format!(
                        "{}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{own} Protocol:{protocol} HostIP:{ip}}}",
                        port.path()
                    ));
                }
                let alike = seen.entry((own, protocol)).or_default();
                for (other_ip, other_host, other) in alike.iter() {
                    let what = if ip == *other_ip && host == *other_host {
                        "duplicate"
                    } else if host == 0 || *other_host == 0 {
                        "overlapping"
                    } else if host == *other_host && ip.is_empty() != other_ip.is_empty() {
                        "dangerously ambiguous"
                    } else {
                        continue;
                    };
                    out.push(format!("{}: {what} port definition with {other}", port.path()));
                }
                if alike.len() < NEIGHBOURS_MAX {
                    alike.push((ip, host, port.path()));
                }
                let name = port.get("name").text();
                match names.get(name) {
                    Some(other) => named.push(format!(
                        "{}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}",
                        port.path()
                    )),
                    None if !name.is_empty() => drop(names.insert(name, port.path())),
                    None => {}
                }
            }
        }
    }
    out.append(&mut named);
}
