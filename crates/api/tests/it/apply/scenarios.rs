//! Requests in order, and who owns what after them: the cases that structured-merge-diff's own tests of merging cover.

use api::{
    Model, Value,
    apply::{ApplyError, FieldManager, Set},
    decode::{Defaults, decode},
};

use super::{gvk, tree};

/// An object that is being written to. Time passes by a second with each request.
pub(super) struct World {
    kind: &'static str,
    skip: Set,
    pub live: Value,
    second: usize,
}

impl World {
    pub(super) fn new(kind: &'static str) -> World {
        World { kind, skip: FieldManager::unowned(&[&["status"]]), live: Value::object(), second: 0 }
    }

    fn with<T>(&mut self, version: Option<&str>, work: impl FnOnce(&FieldManager<'_>, &Value) -> T) -> T {
        self.second += 1;
        let mut kind = gvk(self.kind);
        let ty = Model::builtin().kind(&kind).expect("a kind");
        if let Some(version) = version {
            kind.version = version.into();
        }
        let knows = |version: &str| !version.ends_with("gone");
        let now = format!("2026-01-01T00:{:02}:{:02}Z", self.second / 60, self.second % 60);
        let manager = FieldManager {
            model: Model::builtin(),
            ty,
            kind: &kind,
            subresource: "",
            skip: &self.skip,
            resource: None,
            knows: &knows,
            now: &now,
        };
        work(&manager, &self.live)
    }

    fn accept(&mut self, mut object: Value) {
        let ty = Model::builtin().kind(&gvk(self.kind)).expect("a kind");
        decode(Model::builtin(), ty, &mut object, Defaults::Off).expect("decoded");
        object.set(&["metadata", "uid"], "uid");
        self.live = object;
    }

    fn complete(&self, object: &str) -> Value {
        let mut object = tree(object);
        object.set(&["apiVersion"], gvk(self.kind).api_version());
        object.set(&["kind"], self.kind);
        object
    }

    pub(super) fn update_as(&mut self, version: Option<&str>, manager: &str, object: &str) {
        let mut object = self.complete(object);
        if !self.live.str_at(&["metadata", "uid"]).is_empty() {
            object.set(&["metadata", "uid"], "uid");
        }
        self.with(version, |fields, live| fields.update(live, &mut object, manager));
        self.accept(object);
    }

    pub(super) fn update(&mut self, manager: &str, object: &str) {
        self.update_as(None, manager, object);
    }

    pub(super) fn apply(&mut self, manager: &str, config: &str, force: bool) -> Result<(), ApplyError> {
        let config = self.complete(config);
        let object = self.with(None, |fields, live| fields.apply(live, &config, manager, force))?;
        self.accept(object);
        Ok(())
    }

    /// The object without what every object has.
    pub(super) fn body(&self) -> Value {
        let mut body = self.live.clone();
        for path in [&["apiVersion"][..], &["kind"], &["metadata", "uid"], &["metadata", "managedFields"]] {
            body.take(path);
        }
        if body.get("metadata").and_then(Value::as_object).is_some_and(api::Map::is_empty) {
            body.take(&["metadata"]);
        }
        body
    }

    /// `manager Operation fields`, in order.
    pub(super) fn owners(&self) -> Vec<String> {
        let entries = self.live.at(&["metadata", "managedFields"]).and_then(Value::as_array).unwrap_or_default();
        let fields = |entry: &Value| entry.get("fieldsV1").map(Value::to_string).unwrap_or_default();
        entries
            .iter()
            .map(|entry| format!("{} {} {}", entry.str_at(&["manager"]), entry.str_at(&["operation"]), fields(entry)))
            .collect()
    }
}

enum Step {
    Apply(&'static str, &'static str),
    Force(&'static str, &'static str),
    Update(&'static str, &'static str),
    /// Refused, with these fields: `holder: path`.
    Refused(&'static str, &'static str, &'static [&'static str]),
}
use Step::{Apply, Force, Refused, Update};

struct Case {
    name: &'static str,
    kind: &'static str,
    steps: &'static [Step],
    object: &'static str,
    owners: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "two appliers of the same value both own it",
        kind: "ConfigMap",
        steps: &[Apply("a", r#"{"data":{"x":"1"}}"#), Apply("b", r#"{"data":{"x":"1","y":"2"}}"#)],
        object: r#"{"data":{"x":"1","y":"2"}}"#,
        owners: &[r#"a Apply {"f:data":{"f:x":{}}}"#, r#"b Apply {"f:data":{"f:x":{},"f:y":{}}}"#],
    },
    Case {
        name: "an applier that no longer says a field takes it away, if nobody else says it",
        kind: "ConfigMap",
        steps: &[
            Apply("a", r#"{"data":{"x":"1","y":"2","z":"3"}}"#),
            Apply("b", r#"{"data":{"y":"2"}}"#),
            Apply("a", r#"{"data":{"z":"3"}}"#),
        ],
        object: r#"{"data":{"y":"2","z":"3"}}"#,
        owners: &[r#"b Apply {"f:data":{"f:y":{}}}"#, r#"a Apply {"f:data":{"f:z":{}}}"#],
    },
    Case {
        name: "an updater's value stays when an applier lets go of it",
        kind: "ConfigMap",
        steps: &[
            Apply("a", r#"{"data":{"x":"1","y":"1"}}"#),
            Update("u", r#"{"data":{"x":"2","y":"1"}}"#),
            Refused("a", r#"{"data":{"x":"1","y":"1"}}"#, &["\"u\" using v1: .data.x"]),
            Apply("a", r#"{"data":{"y":"1"}}"#),
        ],
        object: r#"{"data":{"x":"2","y":"1"}}"#,
        owners: &[r#"a Apply {"f:data":{"f:y":{}}}"#, r#"u Update {"f:data":{"f:x":{}}}"#],
    },
    Case {
        name: "force takes a field from all who own it",
        kind: "ConfigMap",
        steps: &[
            Apply("a", r#"{"data":{"x":"1"}}"#),
            Apply("b", r#"{"data":{"x":"1"}}"#),
            Refused("c", r#"{"data":{"x":"2"}}"#, &["\"a\": .data.x", "\"b\": .data.x"]),
            Force("c", r#"{"data":{"x":"2"}}"#),
        ],
        object: r#"{"data":{"x":"2"}}"#,
        owners: &[r#"c Apply {"f:data":{"f:x":{}}}"#],
    },
    Case {
        name: "an update that takes away owns nothing",
        kind: "ConfigMap",
        steps: &[Apply("a", r#"{"data":{"x":"1","y":"2"}}"#), Update("u", r#"{"data":{"y":"2"}}"#)],
        object: r#"{"data":{"y":"2"}}"#,
        owners: &[r#"a Apply {"f:data":{"f:y":{}}}"#],
    },
    Case {
        name: "an applier that lost a field to a removal gets it back",
        kind: "ConfigMap",
        steps: &[Apply("a", r#"{"data":{"x":"1"}}"#), Update("u", "{}"), Apply("a", r#"{"data":{"x":"1"}}"#)],
        object: r#"{"data":{"x":"1"}}"#,
        owners: &[r#"a Apply {"f:data":{"f:x":{}}}"#],
    },
    Case {
        name: "items of a list map belong to those who say them",
        kind: "Pod",
        steps: &[
            Apply("a", r#"{"spec":{"containers":[{"name":"x","image":"1"}]}}"#),
            Apply("b", r#"{"spec":{"containers":[{"name":"y","image":"2"}]}}"#),
            Apply("a", r#"{"spec":{}}"#),
        ],
        object: r#"{"spec":{"containers":[{"name":"y","image":"2"}]}}"#,
        owners: &[
            r#"b Apply {"f:spec":{"f:containers":{"k:{\"name\":\"y\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
            r#"a Apply {"f:spec":{}}"#,
        ],
    },
    Case {
        name: "an item that another says too stays, without what only the applier said of it",
        kind: "Pod",
        steps: &[
            Apply("a", r#"{"spec":{"containers":[{"name":"x","image":"1","workingDir":"/"}]}}"#),
            Apply("b", r#"{"spec":{"containers":[{"name":"x","tty":true}]}}"#),
            Apply("a", r#"{"spec":{"containers":[]}}"#),
        ],
        object: r#"{"spec":{"containers":[{"name":"x","tty":true}]}}"#,
        owners: &[r#"b Apply {"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{".":{},"f:name":{},"f:tty":{}}}}}"#],
    },
    Case {
        name: "an item that nobody else has as such goes, with what an updater put into it",
        kind: "Pod",
        steps: &[
            Apply("a", r#"{"spec":{"containers":[{"name":"x","image":"1"}]}}"#),
            Update("u", r#"{"spec":{"containers":[{"name":"x","image":"1","tty":true}]}}"#),
            Apply("a", r#"{"spec":{"hostname":"h"}}"#),
        ],
        object: r#"{"spec":{"hostname":"h"}}"#,
        owners: &[r#"a Apply {"f:spec":{"f:hostname":{}}}"#],
    },
    Case {
        name: "sets merge by value",
        kind: "ConfigMap",
        steps: &[
            Apply("a", r#"{"metadata":{"finalizers":["x.io/1","x.io/2"]}}"#),
            Apply("b", r#"{"metadata":{"finalizers":["x.io/2","x.io/3"]}}"#),
            Apply("a", r#"{"metadata":{"finalizers":["x.io/1"]}}"#),
            Apply("b", r#"{"metadata":{"finalizers":["x.io/3"]}}"#),
        ],
        object: r#"{"metadata":{"finalizers":["x.io/1","x.io/3"]}}"#,
        owners: &[
            r#"a Apply {"f:metadata":{"f:finalizers":{"v:\"x.io/1\"":{}}}}"#,
            r#"b Apply {"f:metadata":{"f:finalizers":{"v:\"x.io/3\"":{}}}}"#,
        ],
    },
    Case {
        name: "an atomic value is owned as one",
        kind: "Pod",
        steps: &[
            Apply("a", r#"{"spec":{"nodeSelector":{"x":"1"}}}"#),
            Refused("b", r#"{"spec":{"nodeSelector":{"y":"1"}}}"#, &["\"a\": .spec.nodeSelector"]),
            Force("b", r#"{"spec":{"nodeSelector":{"y":"1"}}}"#),
        ],
        object: r#"{"spec":{"nodeSelector":{"y":"1"}}}"#,
        owners: &[r#"b Apply {"f:spec":{"f:nodeSelector":{}}}"#],
    },
    Case {
        name: "names, status and other things of the server are nobody's",
        kind: "Pod",
        steps: &[Apply(
            "a",
            r#"{"metadata":{"name":"n","namespace":"s","generation":3},"status":{"phase":"Running"}}"#,
        )],
        object: r#"{"metadata":{"name":"n","namespace":"s","generation":3},"status":{"phase":"Running"}}"#,
        owners: &[],
    },
    Case {
        name: "the same manager updates and applies in two roles",
        kind: "ConfigMap",
        steps: &[
            Update("m", r#"{"data":{"x":"1"}}"#),
            Apply("m", r#"{"data":{"x":"1"}}"#),
            Refused("m", r#"{"data":{"x":"2"}}"#, &["\"m\" using v1: .data.x"]),
        ],
        object: r#"{"data":{"x":"1"}}"#,
        owners: &[r#"m Apply {"f:data":{"f:x":{}}}"#, r#"m Update {"f:data":{".":{},"f:x":{}}}"#],
    },
    Case {
        name: "null takes a field away and stays said",
        kind: "ConfigMap",
        steps: &[Apply("a", r#"{"data":{"x":"1","y":"2"}}"#), Apply("a", r#"{"data":{"x":null,"y":"2"}}"#)],
        object: r#"{"data":{"x":"","y":"2"}}"#,
        owners: &[r#"a Apply {"f:data":{"f:x":{},"f:y":{}}}"#],
    },
];

#[test]
fn managers_own_what_they_say() {
    for case in CASES {
        let mut world = World::new(case.kind);
        for (index, step) in case.steps.iter().enumerate() {
            let at = format!("{}, step {index}", case.name);
            match step {
                Apply(manager, config) => {
                    world.apply(manager, config, false).unwrap_or_else(|error| panic!("{at}: {error}"))
                }
                Force(manager, config) => {
                    world.apply(manager, config, true).unwrap_or_else(|error| panic!("{at}: {error}"))
                }
                Update(manager, object) => world.update(manager, object),
                Refused(manager, config, expected) => match world.apply(manager, config, false) {
                    Err(error @ ApplyError::Conflicts(_)) => {
                        let status = error.status();
                        let causes = status.details.map(|details| details.causes).unwrap_or_default();
                        let shown: Vec<String> = causes
                            .iter()
                            .map(|cause| {
                                format!("{}: {}", cause.message.trim_start_matches("conflict with "), cause.field)
                            })
                            .collect();
                        assert_eq!(
                            (status.code, shown.iter().map(String::as_str).collect::<Vec<_>>()),
                            (409, expected.to_vec()),
                            "{at}"
                        );
                    }
                    other => panic!("{at}: {other:?}"),
                },
            }
        }
        assert_eq!(world.body(), tree(case.object), "{}", case.name);
        assert_eq!(world.owners(), case.owners, "{}", case.name);
    }
}

#[test]
fn old_updates_are_merged() {
    let mut world = World::new("ConfigMap");
    let mut data = String::new();
    for index in 0..14 {
        data.push_str(&format!(r#"{}"k{index:02}":"1""#, if index > 0 { "," } else { "" }));
        world.update(&format!("m{index:02}"), &format!(r#"{{"data":{{{data}}}}}"#));
    }
    let owners = world.owners();
    assert_eq!(owners.len(), 10, "{owners:#?}");
    assert_eq!(
        owners[0],
        r#"ancient-changes Update {"f:data":{".":{},"f:k00":{},"f:k01":{},"f:k02":{},"f:k03":{},"f:k04":{}}}"#
    );
    assert_eq!(owners[9], r#"m13 Update {"f:data":{"f:k13":{}}}"#);
}

#[test]
fn entries_change_with_what_they_own() {
    let mut world = World::new("ConfigMap");
    world.update("a", r#"{"data":{"x":"1"}}"#);
    let first = world.live.clone();
    world.update("b", r#"{"data":{"x":"1"}}"#);
    assert_eq!(world.live, first, "nothing changed, and neither did a time");
    world.apply("c", r#"{"data":{"x":"1"}}"#, false).expect("the same value");
    let list = |world: &World| world.live.at(&["metadata", "managedFields"]).cloned().unwrap_or_default();
    assert_eq!(list(&world).as_array().map(<[Value]>::len), Some(2));
    let before = list(&world);
    world.apply("c", r#"{"data":{"x":"1"}}"#, false).expect("again");
    assert_eq!(list(&world), before);
    // Versions that are no longer served take their entries along; updates through another version are another role.
    world.update_as(Some("gone"), "old", r#"{"data":{"x":"2"}}"#);
    assert!(world.owners().iter().any(|owner| owner.starts_with("old Update")));
    world.update("a", r#"{"data":{"x":"3"}}"#);
    assert_eq!(world.owners(), [r#"a Update {"f:data":{".":{},"f:x":{}}}"#]);
}

#[test]
fn clients_may_send_entries() {
    let entry = |operation: &str, kind: &str, fields: &str| {
        format!(
            r#"[{{"manager":"x","operation":"{operation}","apiVersion":"v1","fieldsType":"{kind}","fieldsV1":{fields}}}]"#
        )
    };
    let own = r#"{"f:data":{"f:x":{}}}"#;
    let kept = r#"a Update {"f:data":{".":{},"f:x":{}}}"#;
    let given = r#"x Update {"f:data":{"f:x":{}}}"#;
    for (list, expected) in [
        ("[]".to_owned(), vec![]),
        ("[{}]".to_owned(), vec![]),
        (r#"[{"manager":"","operation":""}]"#.to_owned(), vec![]),
        (entry("Update", "FieldsV1", own), vec![given]),
        (entry("Patch", "FieldsV1", own), vec![kept]),
        (entry("Update", "FieldsV2", own), vec![kept]),
        (entry("Update", "", own), vec![kept]),
        (entry("Update", "FieldsV1", r#"{"what":{}}"#), vec![kept]),
        (r#"[{},{}]"#.to_owned(), vec![kept]),
        (r#""text""#.to_owned(), vec![kept]),
        ("null".to_owned(), vec![kept]),
    ] {
        let mut world = World::new("ConfigMap");
        world.update("a", r#"{"data":{"x":"1"}}"#);
        let mut object = world.live.clone();
        object.set(&["metadata", "managedFields"], tree(&list));
        world.update("b", &object.to_string());
        assert_eq!(world.owners(), expected, "{list}");
    }
}

#[test]
fn what_is_nobodys_stays() {
    let mut world = World::new("ConfigMap");
    world.update("a", r#"{"data":{"x":"1"}}"#);
    let mut object = world.live.clone();
    let fields = r#"{"f:apiVersion":{},"f:kind":{"f:x":{}},"f:metadata":{"f:uid":{}},"f:data":{"f:x":{}}}"#;
    let entry = r#""manager":"x","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1""#;
    object.set(&["metadata", "managedFields"], tree(&format!(r#"[{{{entry},"fieldsV1":{fields}}}]"#)));
    world.update("b", &object.to_string());
    let config = world.complete(r#"{"data":{"y":"2"}}"#);
    let after = world.with(None, |fields, live| fields.apply(live, &config, "x", false)).expect("applied");
    let said = [&["apiVersion"][..], &["kind"], &["metadata", "uid"], &["data", "x"], &["data", "y"]];
    assert_eq!(said.map(|path| after.str_at(path)), ["v1", "ConfigMap", "uid", "", "2"]);
}
