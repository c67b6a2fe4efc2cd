//! Laws of strategic merge patches, for all pods and patches.

use std::collections::{BTreeMap, BTreeSet};

use api::{Model, Value, json, patch::strategic};
use proptest::prelude::*;

/// What a pod, or a patch of one, says. In a patch, `None` takes away.
#[derive(Clone, Debug, Default)]
struct Said {
    selector: BTreeMap<String, Option<u8>>,
    containers: BTreeMap<String, Option<Container>>,
    finalizers: BTreeSet<String>,
    /// Of the finalizers, those to take away.
    released: BTreeSet<String>,
    /// A list without a merge key.
    tolerations: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Container {
    image: u8,
    tty: Option<bool>,
    env: BTreeMap<String, Option<u8>>,
}

fn container(names: &'static str, removes: bool) -> impl Strategy<Value = Container> {
    (0..3u8, any::<Option<bool>>(), keyed(names, (0..3u8).boxed(), removes)).prop_map(|(image, tty, env)| Container {
        image,
        tty,
        env,
    })
}

fn keyed<T: Clone + std::fmt::Debug + 'static>(
    names: &'static str,
    values: BoxedStrategy<T>,
    removes: bool,
) -> impl Strategy<Value = BTreeMap<String, Option<T>>> {
    let value = values.prop_map(Some);
    let value = if removes { prop_oneof![3 => value, 1 => Just(None)].boxed() } else { value.boxed() };
    prop::collection::btree_map(names, value, 0..4)
}

fn said(names: &'static str, removes: bool) -> impl Strategy<Value = Said> {
    let some = prop::collection::btree_set(names, 0..3);
    let released = if removes { some.clone().boxed() } else { Just(BTreeSet::new()).boxed() };
    (
        keyed(names, (0..3u8).boxed(), removes),
        keyed(names, container(names, removes).boxed(), removes),
        some,
        released,
        prop::option::of(prop::collection::vec(0..3u8, 0..3)),
    )
        .prop_map(|(selector, containers, finalizers, released, tolerations)| {
            let released: BTreeSet<String> = released.difference(&finalizers).cloned().collect();
            Said { selector, containers, finalizers, released, tolerations }
        })
}

fn joined(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(",")
}

fn env(env: &BTreeMap<String, Option<u8>>) -> String {
    joined(env.iter().map(|(name, value)| match value {
        Some(value) => format!(r#"{{"name":"{name}","value":"{value}"}}"#),
        None => format!(r#"{{"name":"{name}","$patch":"delete"}}"#),
    }))
}

impl Said {
    fn tree(&self) -> Value {
        let selector = joined(self.selector.iter().map(|(name, value)| match value {
            Some(value) => format!(r#""{name}":"{value}""#),
            None => format!(r#""{name}":null"#),
        }));
        let containers = joined(self.containers.iter().map(|(name, container)| match container {
            Some(Container { image, tty, env: variables }) => {
                let tty = tty.map(|tty| format!(r#","tty":{tty}"#)).unwrap_or_default();
                format!(r#"{{"name":"{name}","image":"{image}"{tty},"env":[{}]}}"#, env(variables))
            }
            None => format!(r#"{{"name":"{name}","$patch":"delete"}}"#),
        }));
        let quoted = |names: &BTreeSet<String>| joined(names.iter().map(|name| format!(r#""{name}""#)));
        let released = match quoted(&self.released) {
            none if none.is_empty() => none,
            names => format!(r#","$deleteFromPrimitiveList/finalizers":[{names}]"#),
        };
        let tolerations = self.tolerations.as_ref().map(|keys| {
            format!(r#","tolerations":[{}]"#, joined(keys.iter().map(|key| format!(r#"{{"key":"{key}"}}"#))))
        });
        let text = format!(
            r#"{{"metadata":{{"finalizers":[{}]{released}}},"spec":{{"nodeSelector":{{{selector}}},"containers":[{containers}]{}}}}}"#,
            quoted(&self.finalizers),
            tolerations.unwrap_or_default()
        );
        json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }
}

fn apply(document: &Value, patch: &Value) -> Value {
    let model = Model::builtin();
    let pod = model.find("core.v1.Pod").expect("type");
    strategic::apply(model, pod, document.clone(), patch.clone()).unwrap_or_else(|error| panic!("{patch}: {error}"))
}

fn items<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    value.at(path).and_then(Value::as_array).unwrap_or_default()
}

fn named<'v>(list: &'v [Value], name: &str) -> Option<&'v Value> {
    list.iter().find(|item| item.str_at(&["name"]) == name)
}

/// Without the order of lists that are merged by key.
fn unordered(value: &Value) -> String {
    let sorted = |list: &[Value], of: &dyn Fn(&Value) -> String| {
        let mut texts: Vec<String> = list.iter().map(of).collect();
        texts.sort();
        texts.join(" ")
    };
    let container = |container: &Value| {
        let mut bare = container.clone();
        let env = bare.take(&["env"]).unwrap_or_default();
        format!("{bare} {}", sorted(env.as_array().unwrap_or_default(), &Value::to_string))
    };
    let mut selector: Vec<_> =
        value.at(&["spec", "nodeSelector"]).and_then(Value::as_object).into_iter().flat_map(api::Map::iter).collect();
    selector.sort_by_key(|(name, _)| *name);
    format!(
        "{selector:?} {} {} {:?}",
        sorted(items(value, &["spec", "containers"]), &container),
        sorted(items(value, &["metadata", "finalizers"]), &Value::to_string),
        value.at(&["spec", "tolerations"])
    )
}

/// Whether everything that was said is so.
fn shows(pod: &Value, said: &Said) -> Result<(), String> {
    let check = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {pod}")) };
    for (name, value) in &said.selector {
        let found = pod.at(&["spec", "nodeSelector", name]).and_then(Value::as_str).map(str::to_owned);
        check(found == value.map(|value| value.to_string()), name)?;
    }
    let containers = items(pod, &["spec", "containers"]);
    for (name, wanted) in &said.containers {
        let found = named(containers, name);
        check(found.is_some() == wanted.is_some(), name)?;
        let (Some(found), Some(wanted)) = (found, wanted) else { continue };
        check(found.str_at(&["image"]) == wanted.image.to_string(), "image")?;
        check(wanted.tty.is_none() || found.get("tty").and_then(Value::as_bool) == wanted.tty, "tty")?;
        for (name, value) in &wanted.env {
            let found = named(items(found, &["env"]), name).map(|found| found.str_at(&["value"]).to_owned());
            check(found == value.map(|value| value.to_string()), "env")?;
        }
    }
    let finalizers = items(pod, &["metadata", "finalizers"]);
    let has = |name: &String| finalizers.iter().any(|item| item.as_str() == Some(name));
    check(said.finalizers.iter().all(has) && !said.released.iter().any(has), "finalizers")?;
    let tolerations = items(pod, &["spec", "tolerations"]).iter().map(|item| item.str_at(&["key"]).to_owned());
    check(said.tolerations.as_ref().is_none_or(|keys| tolerations.eq(keys.iter().map(u8::to_string))), "tolerations")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_patch_says_how_it_is_afterwards(pod in said("[a-d]", false), patch in said("[a-d]", true)) {
        let patched = apply(&pod.tree(), &patch.tree());
        shows(&patched, &patch).map_err(TestCaseError::fail)?;
        prop_assert!(!patched.to_string().contains(['$']), "no directive is left: {}", patched);
        prop_assert!(!patched.to_string().contains("null"), "nothing is null: {}", patched);
    }

    #[test]
    fn a_patch_applied_again_changes_nothing_more(pod in said("[a-d]", false), patch in said("[a-d]", true)) {
        let patched = apply(&pod.tree(), &patch.tree());
        prop_assert_eq!(unordered(&apply(&patched, &patch.tree())), unordered(&patched));
    }

    #[test]
    fn what_a_patch_does_not_name_stays(pod in said("[a-c]", false), patch in said("[d-f]", true)) {
        let mut patch = patch;
        patch.tolerations = None;
        let patched = apply(&pod.tree(), &patch.tree());
        shows(&patched, &pod).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn patches_of_different_things_commute(
        pod in said("[a-f]", false),
        one in said("[a-c]", true),
        other in said("[d-f]", true),
    ) {
        let (pod, mut other) = (pod.tree(), other);
        other.tolerations = None;
        let (one, other) = (one.tree(), other.tree());
        let first = apply(&apply(&pod, &one), &other);
        let second = apply(&apply(&pod, &other), &one);
        prop_assert_eq!(unordered(&first), unordered(&second));
    }

    #[test]
    fn a_patch_that_says_nothing_changes_nothing(pod in said("[a-d]", false)) {
        let pod = pod.tree();
        prop_assert_eq!(apply(&pod, &Said::default().tree()), pod.clone());
        prop_assert_eq!(apply(&pod, &Value::object()), pod);
    }
}
