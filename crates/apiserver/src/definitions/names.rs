//! Which names a definition gets, and the conditions that follow (apiextensions-apiserver `pkg/controller/status`,
//! `establish`, `nonstructuralschema` and `apiapproval`). Pure: a definition and its neighbours in, a definition out.

use api::{Value, custom::is_true, schema::Schema, status::FieldError};
use jiff::Timestamp;

use super::conditions::{self, Condition};
use crate::strategy;

/// The names that a definition has got.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Accepted {
    resources: Vec<String>,
    kinds: Vec<String>,
}

impl Accepted {
    pub(super) fn of(definition: &Value) -> Accepted {
        let name = |name: &str| definition.str_at(&["status", "acceptedNames", name]).to_owned();
        let short = list(definition, "status", "shortNames").iter().filter_map(Value::as_str).map(str::to_owned);
        let full = |names: Vec<String>| names.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>();
        Accepted {
            resources: full([name("plural"), name("singular")].into_iter().chain(short).collect()),
            kinds: full(vec![name("kind"), name("listKind")]),
        }
    }
}

fn part(of: &str) -> [&str; 2] {
    if of == "spec" { ["spec", "names"] } else { ["status", "acceptedNames"] }
}

fn list<'v>(definition: &'v Value, of: &str, name: &str) -> &'v [Value] {
    let [first, second] = part(of);
    definition.at(&[first, second, name]).and_then(Value::as_array).unwrap_or_default()
}

/// The definition with its status as it should be, given the names that the others of its group have.
pub(super) fn plan<'o>(definition: &Value, others: impl Iterator<Item = &'o Accepted>, now: Timestamp) -> Value {
    let mut planned = definition.clone();
    if definition.at(&["spec", "names"]) != definition.at(&["status", "acceptedNames"]) {
        let others: Vec<&Accepted> = others.collect();
        let condition = accept(definition, &mut planned, &others);
        let is_accepted = condition.status == "True";
        conditions::set(&mut planned, condition, now);
        if !is_accepted && conditions::find(&planned, "Established").is_none() {
            conditions::set(&mut planned, conditions::NOT_ESTABLISHED, now);
        }
    }
    if is_true(&planned, "NamesAccepted") && !is_true(&planned, "Established") {
        conditions::set(&mut planned, conditions::ESTABLISHED, now);
    }
    match non_structural(definition) {
        Some(message) => {
            let condition = Condition {
                kind: "NonStructuralSchema",
                status: "True",
                reason: "Violations".into(),
                message: message.into(),
            };
            conditions::set(&mut planned, condition, now);
        }
        None => conditions::remove(&mut planned, "NonStructuralSchema"),
    }
    match strategy::conformance(definition) {
        Some((status, reason, message)) => {
            let kind = "KubernetesAPIApprovalPolicyConformant";
            conditions::set(
                &mut planned,
                Condition { kind, status, reason: reason.into(), message: message.into() },
                now,
            );
        }
        None => conditions::remove(&mut planned, "KubernetesAPIApprovalPolicyConformant"),
    }
    planned
}

/// Takes every name that is free; the condition tells of the last one that is not.
fn accept(definition: &Value, planned: &mut Value, others: &[&Accepted]) -> Condition {
    let is_taken = |name: &str, is_kind: bool| {
        let names = |other: &&Accepted| {
            if is_kind {
                other.kinds.iter().any(|known| known == name)
            } else {
                other.resources.iter().any(|known| known == name)
            }
        };
        others.iter().any(names)
    };
    let mut condition = conditions::NAMES_ACCEPTED;
    let mut refuse = |reason: &'static str, message: String| {
        condition =
            Condition { kind: "NamesAccepted", status: "False", reason: reason.into(), message: message.into() };
    };
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (name, is_kind, reason) in [("plural", false, "PluralConflict"), ("singular", false, "SingularConflict")] {
        take(definition, planned, name, |wanted| is_taken(wanted, is_kind))
            .into_iter()
            .for_each(|taken| refuse(reason, in_use(&taken)));
    }
    let own = list(definition, "status", "shortNames");
    let wanted = list(definition, "spec", "shortNames");
    let taken: Vec<String> = wanted
        .iter()
        .filter(|name| !own.contains(name))
        .filter_map(Value::as_str)
        .filter(|name| is_taken(name, false))
        .map(in_use)
        .collect();
    match taken.as_slice() {
        [] => copy(definition, planned, "shortNames"),
        [one] => refuse("ShortNamesConflict", one.clone()),
        many => refuse("ShortNamesConflict", format!("[{}]", many.join(", "))),
    }
    for (name, is_kind, reason) in [("kind", true, "KindConflict"), ("listKind", true, "ListKindConflict")] {
        take(definition, planned, name, |wanted| is_taken(wanted, is_kind))
            .into_iter()
            .for_each(|taken| refuse(reason, in_use(&taken)));
    }
    copy(definition, planned, "categories");
    condition
}

/// Gives a definition a name that it wants; else that name.
fn take(definition: &Value, planned: &mut Value, name: &str, is_taken: impl Fn(&str) -> bool) -> Option<String> {
    let wanted = definition.str_at(&["spec", "names", name]);
    if wanted != definition.str_at(&["status", "acceptedNames", name]) && is_taken(wanted) {
        return Some(wanted.to_owned());
    }
    planned.set(&["status", "acceptedNames", name], wanted);
    None
}

fn copy(definition: &Value, planned: &mut Value, name: &str) {
    match definition.at(&["spec", "names", name]) {
        Some(value) => planned.set(&["status", "acceptedNames", name], value.clone()),
        None => planned.take(&["status", "acceptedNames", name]).is_some(),
    };
}

/// What is not structural, of definitions that were stored before that was required.
fn non_structural(definition: &Value) -> Option<String> {
    let mut errors: Vec<FieldError> = Vec::new();
    if definition.at(&["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true)) {
        errors.push(FieldError::invalid("spec.preserveUnknownFields", true, "must be false"));
    }
    let versions = definition.at(&["spec", "versions"]).and_then(Value::as_array).unwrap_or_default();
    for (index, version) in versions.iter().enumerate() {
        if let Some(schema) = version.at(&["schema", "openAPIV3Schema"]) {
            errors.extend(Schema::read(schema).violations(&format!("spec.versions[{index}].schema.openAPIV3Schema")));
        }
    }
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use api::json;

    use super::*;

    fn definition(plural: &str, kind: &str, accepted: &str) -> Value {
        let text = format!(
            r#"{{"spec":{{"group":"example.com","names":{{"plural":"{plural}","singular":"{kind}","kind":"{kind}","listKind":"{kind}List","shortNames":["w"]}}}},"status":{{"acceptedNames":{accepted}}}}}"#
        );
        json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_taken_where_they_are_free() {
        let first = plan(&definition("widgets", "widget", "{}"), std::iter::empty(), Timestamp::UNIX_EPOCH);
        assert!(is_true(&first, "NamesAccepted") && is_true(&first, "Established"));
        let names = Accepted::of(&first);
        for (plural, kind, reason, message) in [
            ("widgets", "other", "ShortNamesConflict", "\"w\" is already in use"),
            ("others", "widget", "ListKindConflict", "\"widgetList\" is already in use"),
        ] {
            let second = plan(&definition(plural, kind, "{}"), [&names].into_iter(), Timestamp::UNIX_EPOCH);
            let condition = conditions::find(&second, "NamesAccepted").unwrap();
            assert_eq!((condition.str_at(&["reason"]), condition.str_at(&["message"])), (reason, message));
            assert_eq!(conditions::find(&second, "Established").unwrap().str_at(&["reason"]), "NotAccepted");
            assert!(!is_true(&second, "NamesAccepted") && !is_true(&second, "Established"));
        }
        // Its own names are no conflict, and nothing is planned twice.
        assert_eq!(plan(&first, std::iter::empty(), Timestamp::UNIX_EPOCH), first);
    }
}
