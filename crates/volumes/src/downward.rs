//! The downward API: fields of a pod and resources of its containers as text (upstream `pkg/fieldpath/fieldpath.go`,
//! `pkg/api/v1/resource/helpers.go`, `kubelet_pods.go: podFieldSelectorRuntimeValue`). Pure; volumes and env share it.

use std::{collections::BTreeMap, fmt::Write};

use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity,
};

use api::quantity::{Format, Quantity as Amount};

use crate::resources::amount;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("unsupported fieldPath: {0}")]
    Unsupported(String),
    #[error("fieldPath \"{0}\" does not support subscript")]
    Subscript(String),
    #[error("invalid key subscript in {0}")]
    Key(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error("container {0} not found")]
    NoContainer(String),
}

/// What a running pod's fields need beyond the pod itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Primary address first; empty while there is none.
    pub pod_ips: Vec<String>,
    pub host_ips: Vec<String>,
    pub node_name: String,
}

/// Fields a volume may name: `metadata.*` (`ExtractFieldPathAsString`).
pub fn volume_field(pod: &Pod, path: &str) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    if let Some((base, key)) = split_subscript(path) {
        let values = match base {
            "metadata.annotations" if is_qualified_name(&key.to_ascii_lowercase()) => &meta.annotations,
            "metadata.labels" if is_qualified_name(key) => &meta.labels,
            "metadata.annotations" | "metadata.labels" => {
                return Err(FieldError::Key(path.to_owned()));
            }
            _ => return Err(FieldError::Subscript(path.to_owned())),
        };
        return Ok(values.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        _ => return Err(FieldError::Unsupported(path.to_owned())),
    })
}

/// Fields an environment variable may name: those of a volume, and the running pod's.
pub fn env_field(pod: &Pod, path: &str, facts: &PodFacts) -> Result<String, FieldError> {
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    Ok(match path {
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => {
            pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return volume_field(pod, path),
    })
}

/// A container's resource in units of the selector's divisor, rounded up. A limit that is not set is the node's
/// allocatable amount.
pub fn resource_field(
    container: &Container,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, FieldError> {
    let unsupported = || FieldError::Resource(selector.resource.clone());
    let (side, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") && !resource.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let value = match side {
        "requests" => resources.and_then(|r| r.requests.as_ref()).and_then(|list| list.get(resource)).map(amount),
        "limits" => {
            let limit = resources.and_then(|r| r.limits.as_ref()).and_then(|list| list.get(resource)).map(amount);
            // Upstream fills in cpu, memory and ephemeral storage (MergeContainerResourceLimits), where unset or zero.
            match limit.filter(|limit| !limit.is_zero()) {
                None if !resource.starts_with("hugepages-") => allocatable.get(resource).map(amount),
                limit => limit,
            }
        }
        _ => return Err(unsupported()),
    };
    let value = value.unwrap_or_default();
    let divisor =
        selector.divisor.as_ref().map(amount).filter(|d| !d.is_zero()).unwrap_or(Amount::new(1, Format::DecimalSI));
    let (value, divisor) = match resource {
        "cpu" => (value.milli_value(), divisor.milli_value()),
        _ => (value.value(), divisor.value()),
    };
    let quotient = i128::from(value).div_euclid(i128::from(divisor.max(1)));
    let up = i128::from(value).rem_euclid(i128::from(divisor.max(1))) != 0;
    Ok((quotient + i128::from(up)).to_string())
}

/// As [`resource_field`] for the container the selector names.
pub fn resource_field_of_pod(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, FieldError> {
    let name = selector.container_name.as_deref().unwrap_or_default();
    let container = pod
        .spec
        .iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
        .find(|container| container.name == name)
        .ok_or_else(|| FieldError::NoContainer(name.to_owned()))?;
    resource_field(container, selector, allocatable)
}

/// One `key="value"` per line in key order; values quoted as Go's `strconv.Quote` does.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(quoted, "\\x{:02x}", c as u32);
            }
            c if c.is_control() || (c.is_whitespace() && c != ' ') => {
                // Go escapes what is not printable: controls, and spaces other than the ASCII one.
                let _ = if (c as u32) < 0x10000 {
                    write!(quoted, "\\u{:04x}", c as u32)
                } else {
                    write!(quoted, "\\U{:08x}", c as u32)
                };
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `metadata.labels['key']` as (`metadata.labels`, `key`); `None` for a path without a subscript.
fn split_subscript(path: &str) -> Option<(&str, &str)> {
    let (base, key) = path.strip_suffix("']")?.split_once("['")?;
    (!base.is_empty()).then_some((base, key))
}

/// `[prefix/]name`, as label and annotation keys must be.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let name_ok = !name.is_empty()
        && name.len() <= 63
        && edge(name.as_bytes().first())
        && edge(name.as_bytes().last())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let prefix_ok = prefix.is_none_or(|prefix| {
        let label_ok = |label: &str| {
            edge(label.as_bytes().first())
                && edge(label.as_bytes().last())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        prefix.len() <= 253 && prefix.split('.').all(label_ok)
    });
    name_ok && prefix_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web-0".into());
        pod.metadata.namespace = Some("shop".into());
        pod.metadata.uid = Some("u-1".into());
        pod.metadata.labels = Some([("app".into(), "web".into()), ("a.b/c".into(), "x\"y\n".into())].into());
        pod.metadata.annotations = Some([("Note".into(), "hé\u{a0}".into())].into());
        pod.spec.get_or_insert_default().service_account_name = Some("robot".into());
        pod
    }

    #[test]
    fn fields() {
        let facts = PodFacts {
            pod_ips: vec!["10.1.0.2".into(), "fd00::2".into()],
            host_ips: vec!["192.0.2.1".into()],
            node_name: "n1".into(),
        };
        for (path, expect) in [
            ("metadata.name", Ok("web-0")),
            ("metadata.namespace", Ok("shop")),
            ("metadata.uid", Ok("u-1")),
            ("metadata.labels", Ok("a.b/c=\"x\\\"y\\n\"\napp=\"web\"")),
            ("metadata.labels['app']", Ok("web")),
            ("metadata.labels['a.b/c']", Ok("x\"y\n")),
            ("metadata.labels['none']", Ok("")),
            ("metadata.annotations['Note']", Ok("hé\u{a0}")),
            ("metadata.annotations", Ok("Note=\"hé\\u00a0\"")),
            ("metadata.labels['']", Err(FieldError::Key("metadata.labels['']".into()))),
            ("metadata.name['x']", Err(FieldError::Subscript("metadata.name['x']".into()))),
            ("spec.nodeName", Ok("n1")),
            ("spec.serviceAccountName", Ok("robot")),
            ("status.podIP", Ok("10.1.0.2")),
            ("status.podIPs", Ok("10.1.0.2,fd00::2")),
            ("status.hostIP", Ok("192.0.2.1")),
            ("status.phase", Err(FieldError::Unsupported("status.phase".into()))),
        ] {
            assert_eq!(env_field(&pod(), path, &facts), expect.map(String::from), "{path}");
        }
        assert!(volume_field(&pod(), "status.podIP").is_err(), "volumes know no status fields");
    }

    #[test]
    fn resources() {
        let quantity = |text: &str| Quantity(text.into());
        let mut container = Container { name: "c".into(), ..Container::default() };
        let resources = container.resources.get_or_insert_default();
        resources.requests = Some([("cpu".into(), quantity("250m")), ("memory".into(), quantity("64Mi"))].into());
        resources.limits = Some([("memory".into(), quantity("128Mi"))].into());
        let allocatable = [("cpu".into(), quantity("2")), ("memory".into(), quantity("4Gi"))].into();
        for (resource, divisor, expect) in [
            ("requests.cpu", "", Some("1")),
            ("requests.cpu", "1m", Some("250")),
            ("requests.cpu", "0", Some("1")),
            ("limits.cpu", "", Some("2")),
            ("limits.cpu", "1m", Some("2000")),
            ("requests.memory", "1Mi", Some("64")),
            ("limits.memory", "", Some("134217728")),
            ("limits.memory", "100M", Some("2")),
            ("requests.ephemeral-storage", "", Some("0")),
            ("limits.gpu", "", None),
            ("cpu", "", None),
        ] {
            let selector = ResourceFieldSelector {
                resource: resource.into(),
                divisor: (!divisor.is_empty()).then(|| quantity(divisor)),
                ..ResourceFieldSelector::default()
            };
            let got = resource_field(&container, &selector, &allocatable).ok();
            assert_eq!(got.as_deref(), expect, "{resource} / {divisor:?}");
        }
    }
}
