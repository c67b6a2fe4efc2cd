//! Reads the default roles and bindings from their compact text, `policy.rules`.

use api::{Map, Status, Value};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A line that cannot be read; the text is part of the binary, so only a change of it can bring this about.
#[derive(Debug, thiserror::Error)]
#[error("policy.rules:{line}: {message}")]
pub(super) struct PolicyError {
    line: usize,
    message: &'static str,
}

impl From<PolicyError> for Status {
    fn from(error: PolicyError) -> Status {
        Status::internal(error)
    }
}

pub(super) fn builtin() -> Result<Vec<Value>, PolicyError> {
    parse(include_str!("policy.rules"))
}

fn parse(text: &str) -> Result<Vec<Value>, PolicyError> {
    let mut objects: Vec<Value> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let error = |message| PolicyError { line: index + 1, message };
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        if let Some(rule) = line.strip_prefix("  ") {
            let rules = objects.last_mut().and_then(|role| role.get_mut("rules")).and_then(Value::as_array_mut);
            rules
                .ok_or_else(|| error("a rule outside of a role"))?
                .push(parse_rule(rule).ok_or_else(|| error("a bad rule"))?);
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["clusterrole", name, ref attributes @ ..] => {
                objects.push(role("ClusterRole", name, attributes).ok_or_else(|| error("a bad role"))?)
            }
            ["role", name, ref attributes @ ..] => {
                objects.push(role("Role", name, attributes).ok_or_else(|| error("a bad role"))?)
            }
            ["clusterrolebinding", pattern, ref subjects @ ..] if pattern.ends_with('*') => {
                let bound = bind_all(&objects, pattern.trim_end_matches('*'), subjects)
                    .ok_or_else(|| error("a bad subject"))?;
                objects.extend(bound);
            }
            ["clusterrolebinding", name, role, ref subjects @ ..] => {
                objects.push(
                    binding("ClusterRoleBinding", name, "ClusterRole", role, subjects)
                        .ok_or_else(|| error("a bad subject"))?,
                );
            }
            ["rolebinding", name, role, ref subjects @ ..] => {
                let (kind, role) = role.split_once(':').ok_or_else(|| error("a role without its kind"))?;
                objects.push(binding("RoleBinding", name, kind, role, subjects).ok_or_else(|| error("a bad subject"))?);
            }
            _ => return Err(error("an unknown word")),
        }
    }
    Ok(objects)
}

fn list(text: &str) -> Value {
    text.split(',').map(|item| Value::from(if item == "core" { "" } else { item })).collect::<Vec<_>>().into()
}

fn parse_rule(text: &str) -> Option<Value> {
    let words: Vec<&str> = text.split(' ').collect();
    let mut rule = Map::new();
    match words[..] {
        [verbs, "url", paths] => {
            rule.insert("nonResourceURLs", list(paths));
            rule.insert("verbs", list(verbs));
        }
        [verbs, groups, resources, ref names @ ..] => {
            rule.insert("apiGroups", list(groups));
            if let [names] = names {
                rule.insert("resourceNames", list(names.strip_prefix("names=")?));
            }
            rule.insert("resources", list(resources));
            rule.insert("verbs", list(verbs));
        }
        _ => return None,
    }
    Some(rule.into())
}

fn object(kind: &str, name: &str) -> Value {
    let mut object = Value::object();
    object.set(&["kind"], kind);
    object.set(&["apiVersion"], format!("{GROUP}/v1"));
    if let Some((namespace, name)) = name.split_once('/') {
        object.set(&["metadata", "namespace"], namespace);
        object.set(&["metadata", "name"], name);
    } else {
        object.set(&["metadata", "name"], name);
    }
    object.set(&["metadata", "labels", "kubernetes.io/bootstrapping"], "rbac-defaults");
    object.set(&["metadata", "annotations", "rbac.authorization.kubernetes.io/autoupdate"], "true");
    object
}

fn role(kind: &str, name: &str, attributes: &[&str]) -> Option<Value> {
    let mut role = object(kind, name);
    let mut selectors = Vec::new();
    for attribute in attributes {
        if let Some(label) = attribute.strip_prefix("label=") {
            role.set(&["metadata", "labels", label], "true");
        } else {
            let label = attribute.strip_prefix("aggregate=")?;
            let mut selector = Value::object();
            selector.set(&["matchLabels", label], "true");
            selectors.push(selector);
        }
    }
    if !selectors.is_empty() {
        role.set(&["aggregationRule", "clusterRoleSelectors"], selectors);
    }
    role.set(&["rules"], Vec::new());
    Some(role)
}

fn binding(kind: &str, name: &str, role_kind: &str, role: &str, subjects: &[&str]) -> Option<Value> {
    let mut binding = object(kind, name);
    binding.set(&["roleRef", "apiGroup"], GROUP);
    binding.set(&["roleRef", "kind"], role_kind);
    binding.set(&["roleRef", "name"], role);
    let subjects: Option<Vec<Value>> = subjects.iter().map(|subject| parse_subject(subject)).collect();
    binding.set(&["subjects"], subjects?);
    Some(binding)
}

fn parse_subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    let mut subject = Value::object();
    subject.set(&["kind"], kind);
    if kind == "ServiceAccount" {
        let (namespace, name) = name.split_once('/')?;
        subject.set(&["namespace"], namespace);
        subject.set(&["name"], name);
    } else {
        subject.set(&["apiGroup"], GROUP);
        subject.set(&["name"], name);
    }
    Some(subject)
}

/// A binding `argosy:ROLE` for every cluster role whose name begins with `prefix`.
fn bind_all(objects: &[Value], prefix: &str, subjects: &[&str]) -> Option<Vec<Value>> {
    let roles = objects
        .iter()
        .filter(|object| object.str_at(&["kind"]) == "ClusterRole")
        .map(|role| role.str_at(&["metadata", "name"]));
    roles
        .filter(|name| name.starts_with(prefix))
        .map(|name| binding("ClusterRoleBinding", &format!("argosy:{name}"), "ClusterRole", name, subjects))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use api::{
        Model, ResourceTable,
        decode::{self, Defaults},
        model::Gvk,
    };

    use super::*;

    #[test]
    fn every_object_is_whole_and_every_role_is_there() {
        let objects = builtin().unwrap();
        let mut names = HashSet::new();
        for object in &objects {
            let gvk = Gvk::new(GROUP, "v1", object.str_at(&["kind"]));
            let resource = ResourceTable::builtin().by_kind(&gvk).unwrap();
            let findings = decode::decode(Model::builtin(), resource.ty, &mut object.clone(), Defaults::On).unwrap();
            assert!(findings.unknown.is_empty(), "{findings:?}");
            let place = format!(
                "{} {}/{}",
                gvk.kind,
                object.str_at(&["metadata", "namespace"]),
                object.str_at(&["metadata", "name"])
            );
            assert!(names.insert(place.clone()), "{place} stands twice");
        }
        for object in objects.iter().filter(|object| object.get("roleRef").is_some()) {
            let namespace = if object.str_at(&["roleRef", "kind"]) == "Role" {
                object.str_at(&["metadata", "namespace"])
            } else {
                ""
            };
            let role =
                format!("{} {namespace}/{}", object.str_at(&["roleRef", "kind"]), object.str_at(&["roleRef", "name"]));
            assert!(names.contains(&role), "{role} is bound but not there");
        }
    }
}
