//! Nobody grants more than they have: roles and bindings of RBAC are checked against what their writer may do
//! (upstream `pkg/registry/rbac/*/policybased` and `pkg/registry/rbac/validation`). It is the store's business there; here
//! it is the last of the mutating steps, which is the same moment.

use std::collections::BTreeSet;

use api::{Status, Value};
use async_trait::async_trait;

use super::{Operation, Plugin, Review};
use crate::auth::{Attributes, MASTERS, rbac, rbac::Rule};

pub struct RbacEscalation;

const GROUP: &str = "rbac.authorization.k8s.io";

#[async_trait]
impl Plugin for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    async fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        let writes = matches!(review.operation, Operation::Create | Operation::Update);
        if &*review.resource.group != GROUP || !writes || review.user.in_group(MASTERS) {
            return Ok(());
        }
        if review.is_collection_only(object) {
            return Ok(());
        }
        match &*review.resource.plural {
            "roles" | "clusterroles" => check_role(review, object).await,
            "rolebindings" | "clusterrolebindings" => check_binding(review, object).await,
            _ => Ok(()),
        }
    }
}

async fn authorized(review: &Review<'_>, verb: &str, resource: &str, name: &str) -> Result<bool, Status> {
    let attributes = Attributes { namespace: review.namespace, name, ..review.asks(verb, GROUP, resource) };
    review.is_allowed(&attributes).await
}

async fn check_role(review: &Review<'_>, role: &Value) -> Result<(), Status> {
    // A create is asked without a name, as its request has none.
    let name = if review.operation == Operation::Create { "" } else { review.name };
    if authorized(review, "escalate", &review.resource.plural, name).await? {
        return Ok(());
    }
    confirm(review, &rbac::parse_rules(role))?;
    let aggregates = |role: &Value| {
        let selectors = role.at(&["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array);
        selectors.is_some_and(|selectors| !selectors.is_empty())
    };
    if (aggregates(role) || review.old.is_some_and(aggregates)) && confirm(review, &everything()).is_err() {
        return Err(review.forbidden("must have cluster-admin privileges to use the aggregationRule"));
    }
    Ok(())
}

async fn check_binding(review: &Review<'_>, binding: &Value) -> Result<(), Status> {
    let name = binding.str_at(&["roleRef", "name"]);
    // Another kind of role is refused by validation.
    let (resource, key) = match binding.str_at(&["roleRef", "kind"]) {
        "ClusterRole" => ("clusterroles", name.to_owned()),
        "Role" if !review.namespace.is_empty() => ("roles", format!("{}/{name}", review.namespace)),
        _ => return Ok(()),
    };
    if authorized(review, "bind", resource, name).await? {
        return Ok(());
    }
    let role = review.find(resource, &key).await?.ok_or_else(|| Status::not_found(GROUP, resource, name))?;
    confirm(review, &rbac::parse_rules(&role.tree()))
}

fn everything() -> [Rule; 2] {
    let all = || vec![Box::from("*")];
    [
        Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), urls: all(), ..Rule::default() },
    ]
}

/// Whether the writer has all of `wanted` (ConfirmNoEscalation).
fn confirm(review: &Review<'_>, wanted: &[Rule]) -> Result<(), Status> {
    let user = review.user;
    let owned = review.server.authorization.rbac.rules_of(user, review.namespace);
    let missing = missing(&owned, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.into_iter().collect();
    Err(review.forbidden(&format!(
        "user \"{}\" (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        missing.join("\n")
    )))
}

/// What of `wanted` no rule of `owned` gives, as texts.
fn missing(owned: &[Rule], wanted: &[Rule]) -> BTreeSet<String> {
    let lacking = wanted.iter().flat_map(break_down).filter(|atom| !owned.iter().any(|rule| rule.covers(atom)));
    // Verbs on the same thing are told together.
    let mut compact: Vec<Rule> = Vec::new();
    for mut atom in lacking {
        let same = |rule: &&mut Rule| {
            atom.urls.is_empty()
                && (&rule.groups, &rule.resources, &rule.names, &rule.urls)
                    == (&atom.groups, &atom.resources, &atom.names, &atom.urls)
        };
        match compact.iter_mut().find(same) {
            Some(rule) => rule.verbs.append(&mut atom.verbs),
            None => compact.push(atom),
        }
    }
    compact.iter().map(describe).collect()
}

/// Rules with one verb, one group, one resource and at most one name each, or one verb and one URL.
fn break_down(rule: &Rule) -> Vec<Rule> {
    let one = |text: &str| vec![Box::from(text)];
    let mut atoms = Vec::new();
    for group in &rule.groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let atom = Rule { verbs: one(verb), groups: one(group), resources: one(resource), ..Rule::default() };
                if rule.names.is_empty() {
                    atoms.push(atom);
                } else {
                    atoms.extend(rule.names.iter().map(|name| Rule { names: one(name), ..atom.clone() }));
                }
            }
        }
    }
    for url in &rule.urls {
        atoms.extend(rule.verbs.iter().map(|verb| Rule { urls: one(url), verbs: one(verb), ..Rule::default() }));
    }
    atoms
}

fn describe(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.urls),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ];
    let named = parts.iter().filter(|(_, list)| !list.is_empty());
    let texts: Vec<String> = named.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
    format!("{{{}}}", texts.join(", "))
}

fn quoted(list: &[impl AsRef<str>]) -> String {
    let texts: Vec<String> = list.iter().map(|text| format!("\"{}\"", text.as_ref())).collect();
    format!("[{}]", texts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<Rule> {
        rbac::parse_rules(&api::json::parse(format!(r#"{{"rules":{text}}}"#).as_bytes()).expect("json")).to_vec()
    }

    #[test]
    fn what_is_missing_is_named() {
        const PODS: &str = r#"[{"apiGroups":[""],"resources":["pods","pods/log"],"verbs":["get","list"]}]"#;
        const ALL: &str = r#"[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]"#;
        let cases = [
            (PODS, PODS, ""),
            (ALL, PODS, ""),
            (
                r#"[{"apiGroups":[""],"resources":["pods"],"verbs":["*"]}]"#,
                PODS,
                r#"{APIGroups:[""], Resources:["pods/log"], Verbs:["get" "list"]}"#,
            ),
            (r#"[{"apiGroups":[""],"resources":["pods","*/log"],"verbs":["get","list"]}]"#, PODS, ""),
            (
                r#"[{"apiGroups":[""],"resources":["pods","pods/log"],"resourceNames":["a"],"verbs":["get","list"]}]"#,
                r#"[{"apiGroups":[""],"resources":["pods"],"resourceNames":["a","b"],"verbs":["get"]}]"#,
                r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get"]}"#,
            ),
            (PODS, ALL, r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#),
            (
                r#"[{"nonResourceURLs":["/healthz/*"],"verbs":["get"]}]"#,
                r#"[{"nonResourceURLs":["/healthz/a","/metrics"],"verbs":["get"]}]"#,
                r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#,
            ),
        ];
        for (owned, wanted, text) in cases {
            let missing: Vec<String> = missing(&rules(owned), &rules(wanted)).into_iter().collect();
            assert_eq!(missing.join("\n"), text, "{owned} {wanted}");
        }
    }
}
