//! Laws that hold for all objects and configurations.

use std::collections::BTreeMap;

use api::{
    Value,
    apply::{ApplyError, Path, PathElement, Set},
};
use proptest::prelude::*;

use super::{fields, scenarios::World, set};

fn element() -> impl Strategy<Value = PathElement> {
    prop_oneof![
        4 => "[ab]".prop_map(|name| PathElement::field(&name)),
        1 => (0..2i64).prop_map(|key| PathElement::key([("k", Value::Int(key))])),
        1 => (0..2i64).prop_map(PathElement::value),
        1 => (0..2i64).prop_map(PathElement::Index),
    ]
}

fn sets() -> impl Strategy<Value = Set> {
    let path = proptest::collection::vec(element(), 1..4).prop_map(Path);
    proptest::collection::vec(path, 0..12).prop_map(|paths| paths.into_iter().collect())
}

/// Data of a ConfigMap and containers of a Pod at once: the values of few names.
type Said = (BTreeMap<String, u8>, BTreeMap<String, (u8, Option<bool>)>);

fn said(names: &'static str) -> impl Strategy<Value = Said> {
    let annotations = proptest::collection::btree_map(names, 0..3u8, 0..4);
    let containers = proptest::collection::btree_map(names, (0..3u8, any::<Option<bool>>()), 0..4);
    (annotations, containers)
}

fn text((annotations, containers): &Said) -> String {
    let annotations: Vec<String> = annotations.iter().map(|(name, value)| format!(r#""{name}":"{value}""#)).collect();
    let container = |(name, (image, tty)): (&String, &(u8, Option<bool>))| {
        let tty = tty.map(|tty| format!(r#","tty":{tty}"#)).unwrap_or_default();
        format!(r#"{{"name":"{name}","image":"{image}"{tty}}}"#)
    };
    let containers: Vec<String> = containers.iter().map(container).collect();
    format!(
        r#"{{"metadata":{{"annotations":{{{}}}}},"spec":{{"containers":[{}]}}}}"#,
        annotations.join(","),
        containers.join(",")
    )
}

fn container<'v>(body: &'v Value, name: &str) -> Option<&'v Value> {
    body.at(&["spec", "containers"]).and_then(Value::as_array)?.iter().find(|item| item.str_at(&["name"]) == name)
}

/// Whether the object has all of what was said.
fn shows(body: &Value, (annotations, containers): &Said) -> bool {
    annotations.iter().all(|(name, value)| body.str_at(&["metadata", "annotations", name]) == value.to_string())
        && containers.iter().all(|(name, (image, tty))| {
            let item = container(body, name);
            let has_tty = |item: &Value| tty.is_none() || item.get("tty").and_then(Value::as_bool) == *tty;
            item.is_some_and(|item| item.str_at(&["image"]) == image.to_string() && has_tty(item))
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sets_are_sets(a in sets(), b in sets(), c in sets()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.difference(&b.union(&c)), a.difference(&b).difference(&c));
        prop_assert_eq!(a.intersection(&b.union(&c)), a.intersection(&b).union(&a.intersection(&c)));
        prop_assert!(a.recursive_difference(&b).difference(&a.difference(&b)).is_empty());
        prop_assert_eq!(a.len(), a.paths().len());
        prop_assert!(a.paths().iter().all(|path| a.has(path)));
        prop_assert_eq!(set(&fields(&a)), a);
    }

    #[test]
    fn applying_again_changes_nothing(before in said("[a-d]"), config in said("[a-d]"), force in any::<bool>()) {
        let mut world = World::new("Pod");
        world.update("someone", &text(&before));
        if world.apply("me", &text(&config), force).is_ok() {
            prop_assert!(shows(&world.body(), &config), "{}", world.live);
            let once = world.live.clone();
            world.apply("me", &text(&config), force).expect("what was applied can be applied");
            prop_assert_eq!(&world.live, &once);
        } else {
            prop_assert!(!force);
        }
    }

    #[test]
    fn what_an_applier_does_not_own_stays(before in said("[a-d]"), configs in proptest::collection::vec(said("[a-d]"), 1..4)) {
        let mut world = World::new("Pod");
        world.update("someone", &text(&before));
        for config in &configs {
            world.apply("me", &text(config), true).expect("forced");
        }
        world.apply("me", r#"{"spec":{}}"#, true).expect("forced");
        // Of a value that both once said the last word counts; what was never applied is as it was.
        let applied = |name: &str| configs.iter().any(|config| config.0.contains_key(name));
        for (name, value) in before.0.iter().filter(|(name, _)| !applied(name)) {
            let kept = world.body().str_at(&["metadata", "annotations", name]).to_owned();
            prop_assert_eq!(kept, value.to_string());
        }
        for name in before.1.keys() {
            prop_assert!(container(&world.body(), name).is_some(), "{} went: {}", name, world.live);
        }
        let owners = world.owners();
        prop_assert!(owners.iter().all(|owner| !owner.starts_with("me Apply") || owner.ends_with(r#"{"f:spec":{}}"#)), "{:?}", owners);
    }

    #[test]
    fn appliers_of_different_fields_never_meet(a in said("[ab]"), b in said("[cd]"), next in said("[ab]")) {
        let mut world = World::new("Pod");
        world.apply("a", &text(&a), false).expect("the first");
        world.apply("b", &text(&b), false).expect("other fields");
        world.apply("a", &text(&next), false).expect("own fields");
        world.apply("b", &text(&b), false).expect("own fields");
        prop_assert!(shows(&world.body(), &b) && shows(&world.body(), &next), "{}", world.live);
        let gone = |name: &str| !next.1.contains_key(name) && !b.1.contains_key(name);
        prop_assert!(a.1.keys().filter(|name| gone(name)).all(|name| container(&world.body(), name).is_none()));
    }

    #[test]
    fn a_refused_apply_names_what_others_own(before in said("[a-c]"), config in said("[a-c]")) {
        let mut world = World::new("Pod");
        world.update("someone", &text(&before));
        let untouched = world.live.clone();
        match world.apply("me", &text(&config), false) {
            Ok(()) => prop_assert!(shows(&world.body(), &before) && shows(&world.body(), &config)),
            Err(ApplyError::Conflicts(conflicts)) => {
                prop_assert_eq!(&world.live, &untouched);
                prop_assert!(conflicts.iter().all(|conflict| &*conflict.manager == "someone"));
                prop_assert!(!shows(&world.body(), &config));
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
