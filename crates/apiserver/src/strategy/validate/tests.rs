//! The rules as a table: `cases/*.txt` hold valid objects, changes to them, and what is said about each. See
//! `cases/README.md` for the form.

use api::{Resource, ResourceTable, Value, decode, json};

use super::{change, create, warnings};
use crate::rest::Scope;

const CASES: [(&str, &str); 12] = [
    ("pods", include_str!("cases/pods.txt")),
    ("core", include_str!("cases/core.txt")),
    ("services", include_str!("cases/services.txt")),
    ("workloads", include_str!("cases/workloads.txt")),
    ("groups", include_str!("cases/groups.txt")),
    ("devices", include_str!("cases/devices.txt")),
    ("policies", include_str!("cases/policies.txt")),
    ("certificates", include_str!("cases/certificates.txt")),
    ("podgroups", include_str!("cases/podgroups.txt")),
    ("reported", include_str!("cases/reported.txt")),
    ("nodes", include_str!("cases/nodes.txt")),
    ("updates", include_str!("cases/updates.txt")),
];

/// A valid object, and the kind of thing it is.
struct Base {
    resource: std::sync::Arc<Resource>,
    object: Value,
}

impl Base {
    /// `group/version/resource {...}`; the core group's name is empty.
    fn parse(line: &str) -> Base {
        let (place, text) = line.split_once(' ').expect("a resource and an object");
        let mut parts = place.split('/');
        let mut part = || parts.next().expect("group/version/resource");
        let resource = ResourceTable::builtin().find(part(), part(), part()).expect(place).clone();
        let object = json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{place}: {error}"));
        Base { resource, object }
    }

    /// The object with defaults after these changes: `path=json` sets, `-path` removes, ` ; ` between them.
    fn with(&self, changes: &str) -> Value {
        let mut object = self.object.clone();
        for change in changes.split(" ; ").map(str::trim).filter(|change| !change.is_empty()) {
            match change.strip_prefix('-') {
                Some(path) => remove(&mut object, path),
                None => {
                    let (path, text) = change.split_once('=').expect(change);
                    let value = json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{change}: {error}"));
                    *place(&mut object, path) = value;
                }
            }
        }
        decode::decode(self.resource.model(), self.resource.ty, &mut object, decode::Defaults::On)
            .unwrap_or_else(|error| panic!("{changes}: {error}"));
        object
    }
}

/// The steps of a path: names between dots or in `[...]`, and numbers in `[...]`.
fn steps(path: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    for part in path.split_inclusive(']') {
        let (names, key) = part.strip_suffix(']').and_then(|part| part.split_once('[')).unwrap_or((part, ""));
        steps.extend(names.split('.').filter(|name| !name.is_empty()));
        steps.extend(Some(key).filter(|key| !key.is_empty()));
    }
    steps
}

/// The place at a path, made where it is missing.
fn place<'v>(object: &'v mut Value, path: &str) -> &'v mut Value {
    steps(path).into_iter().fold(object, |here, step| match step.parse::<usize>() {
        Ok(index) => {
            if here.is_null() {
                *here = Value::Array(Vec::new());
            }
            let items = here.as_array_mut().expect(path);
            while items.len() <= index {
                items.push(Value::Null);
            }
            &mut items[index]
        }
        Err(_) => {
            if here.is_null() {
                *here = Value::object();
            }
            here.as_object_mut().expect(path).entry_or_insert_with(step, || Value::Null)
        }
    })
}

fn remove(object: &mut Value, path: &str) {
    let all = steps(path);
    let (last, parents) = all.split_last().expect(path);
    let parent = parents.iter().fold(object, |here, step| match step.parse::<usize>() {
        Ok(index) => &mut here.as_array_mut().expect(path)[index],
        Err(_) => here.get_mut(step).expect(path),
    });
    parent.take(&[last]).unwrap_or_else(|| panic!("{path} is not there"));
}

/// What is said about one line, and what should be.
fn said(base: &Base, line: &str) -> (Vec<String>, Vec<String>) {
    let (changes, expected) = line.split_once(" => ").unwrap_or_else(|| panic!("no => in {line}"));
    let expected = expected.split(" && ").map(|text| text.trim().to_owned()).filter(|text| text != "ok").collect();
    let mode = changes.split(' ').next().unwrap_or_default();
    let changes = changes.strip_prefix(mode).filter(|_| mode.len() == 1).unwrap_or(changes);
    let texts = |errors: Vec<api::status::FieldError>| {
        errors.iter().map(|error| error.to_string().replace('\n', " ")).collect()
    };
    let old = || base.with("");
    let found = match mode {
        "~" => texts(change(&base.resource, Scope::Main, &base.with(changes), &old())),
        "%" => texts(change(&base.resource, Scope::Status, &base.with(changes), &old())),
        "^" => texts(change(&base.resource, Scope::Free, &base.with(changes), &old())),
        "!" => warnings(&base.resource, &base.with(changes), None),
        _ => texts(create(&base.resource, &base.with(changes))),
    };
    (found, expected)
}

#[test]
fn every_case_says_what_upstream_says() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (file, text) in CASES {
        let mut base = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(object) = line.strip_prefix("@ ") {
                base = Some(Base::parse(object));
                continue;
            }
            count += 1;
            let (found, expected) = said(base.as_ref().expect("a base comes first"), line);
            if found != expected {
                wrong.push(format!("{file}: {line}\n   found: {}", found.join(" && ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count > 300, "only {count} cases were read");
}

#[test]
fn every_base_is_valid() {
    for (file, text) in CASES {
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("@ ")) {
            let errors = create(&Base::parse(line).resource, &Base::parse(line).with(""));
            assert!(errors.is_empty(), "{file}: {line}: {errors:?}");
        }
    }
}

#[test]
fn what_was_wrong_before_is_no_reason_to_refuse_a_change() {
    let line = r#"apps/v1/deployments {"metadata":{"name":"d","namespace":"default"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":0}]}]}}}}"#;
    let base = Base::parse(line);
    let said = |changes: &str| {
        let errors = change(&base.resource, Scope::Main, &base.with(changes), &base.with(""));
        errors.iter().map(|error| error.field.clone()).collect::<Vec<_>>()
    };
    let port = "spec.template.spec.containers[0].ports[0].containerPort";
    assert_eq!(create(&base.resource, &base.with("")).len(), 1, "a port that is none");
    assert_eq!(said("spec.replicas=2"), Vec::<String>::new());
    assert_eq!(said(&format!("spec.replicas=-1 ; {port}=70000")), ["spec.replicas", port]);
}
