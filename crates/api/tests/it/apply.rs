//! Server-side apply: sets and their text, typed walks, and what managers own after which requests.

mod laws;
mod scenarios;

use api::{
    Model, Value,
    apply::{
        Duplicates, Path, PathElement, ScaleHandler, Set, compare, extract_items, merge, reconcile, remove_items,
        to_field_set, validate,
    },
    json,
    model::{Gvk, TypeId},
};

pub(super) fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(super) fn set(text: &str) -> Set {
    Set::from_fields(&tree(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(super) fn fields(set: &Set) -> String {
    set.to_fields().to_string()
}

pub(super) fn gvk(kind: &str) -> Gvk {
    match kind {
        "Deployment" => Gvk::new("apps", "v1", kind),
        "CustomResourceDefinition" => Gvk::new("apiextensions.k8s.io", "v1", kind),
        "Role" => Gvk::new("rbac.authorization.k8s.io", "v1", kind),
        "ControllerRevision" => Gvk::new("apps", "v1", kind),
        _ => Gvk::new("", "v1", kind),
    }
}

fn ty(kind: &str) -> TypeId {
    Model::builtin().kind(&gvk(kind)).unwrap_or_else(|| panic!("no kind {kind}"))
}

#[test]
fn field_sets_are_written_in_order() {
    for (text, expected) in [
        ("{}", "{}"),
        (r#"{"f:b":{},"f:a":{}}"#, r#"{"f:a":{},"f:b":{}}"#),
        (r#"{"f:a":{"f:x":{},".":{}}}"#, r#"{"f:a":{".":{},"f:x":{}}}"#),
        (
            r#"{"v:2":{},"i:1":{},"v:\"a\"":{},"k:{\"b\":1}":{},"f:z":{},"v:true":{},"v:10":{}}"#,
            r#"{"f:z":{},"k:{\"b\":1}":{},"v:2":{},"v:10":{},"v:\"a\"":{},"v:true":{},"i:1":{}}"#,
        ),
        (
            r#"{"k:{\"protocol\":\"TCP\", \"containerPort\":80}":{}}"#,
            r#"{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{}}"#,
        ),
        // Kinds of elements that are not known are dropped, with what lies below.
        (r#"{"f:a":{},"x:future":{"f:b":{}}}"#, r#"{"f:a":{}}"#),
        (r#"{"f:a":{"f:b":{}},"f:c":{},"f:a":{"f:d":{}}}"#, r#"{"f:a":{"f:d":{}},"f:c":{}}"#),
        (r#"{"f::":{},"f:":{}}"#, r#"{"f:":{},"f::":{}}"#),
        // Inside keys Go escapes what HTML would read, in names it does not.
        (r#"{"k:{\"name\":\"a<b\"}":{},"f:a<b":{}}"#, r#"{"f:a<b":{},"k:{\"name\":\"a\\u003cb\"}":{}}"#),
    ] {
        assert_eq!(fields(&set(text)), expected, "{text}");
        assert_eq!(fields(&set(expected)), expected, "again {text}");
    }
    for text in [
        "[]",
        r#"{"f:a":1}"#,
        r#"{"a":{}}"#,
        r#"{"fa":{}}"#,
        r#"{"i:x":{}}"#,
        r#"{"k:[]":{}}"#,
        r#"{"k:{":{}}"#,
        r#"{"v:":{}}"#,
        r#"{"":{}}"#,
    ] {
        assert!(Set::from_fields(&tree(text)).is_err(), "{text}");
    }
}

#[test]
fn sets_are_combined() {
    let (a, b) =
        (set(r#"{"f:a":{".":{},"f:x":{},"f:y":{}},"f:b":{}}"#), set(r#"{"f:a":{".":{},"f:y":{},"f:z":{}},"f:c":{}}"#));
    for (what, result, expected) in [
        ("union", a.union(&b), r#"{"f:a":{".":{},"f:x":{},"f:y":{},"f:z":{}},"f:b":{},"f:c":{}}"#),
        ("intersection", a.intersection(&b), r#"{"f:a":{".":{},"f:y":{}}}"#),
        ("difference", a.difference(&b), r#"{"f:a":{"f:x":{}},"f:b":{}}"#),
        ("recursive difference", a.recursive_difference(&b), r#"{"f:b":{}}"#),
        ("leaves", a.leaves(), r#"{"f:a":{"f:x":{},"f:y":{}},"f:b":{}}"#),
        (
            "child without parent",
            set(r#"{"f:a":{"f:x":{}}}"#).difference(&set(r#"{"f:a":{}}"#)),
            r#"{"f:a":{"f:x":{}}}"#,
        ),
        ("parent without child", set(r#"{"f:a":{}}"#).difference(&set(r#"{"f:a":{"f:x":{}}}"#)), r#"{"f:a":{}}"#),
    ] {
        assert_eq!(fields(&result), expected, "{what}");
    }
    assert_eq!(a.len(), 4);
    let shown: Vec<String> = a.paths().iter().map(Path::to_string).collect();
    assert_eq!(shown, [".a", ".b", ".a.x", ".a.y"]);
    assert!(a.has(&Path::of(&["a", "x"])) && !a.has(&Path::of(&["a", "z"])) && !a.has(&Path::of(&[])));
    let path = Path(vec![
        PathElement::field("spec"),
        PathElement::key([("protocol", "TCP".into()), ("containerPort", 80.into())]),
        PathElement::value("x"),
        PathElement::Index(3),
    ]);
    assert_eq!(path.to_string(), r#".spec[containerPort=80,protocol="TCP"][="x"][3]"#);
}

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"finalizers":["a","b"],"labels":{"l":"1"}},
    "spec":{"containers":[{"name":"c","ports":[{"containerPort":80}]}],"nodeSelector":{"n":"1"},"tolerations":[{"key":"t"}],"hostUsers":null}}"#;

#[test]
fn objects_say_fields() {
    for (kind, object, expected) in [
        (
            "Pod",
            POD,
            r#"{"f:apiVersion":{},"f:kind":{},"f:metadata":{"f:finalizers":{"v:\"a\"":{},"v:\"b\"":{}},"f:labels":{"f:l":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}},"f:hostUsers":{},"f:nodeSelector":{},"f:tolerations":{}}}"#,
        ),
        (
            "ConfigMap",
            r#"{"data":{},"metadata":{"annotations":null,"labels":{}}}"#,
            r#"{"f:data":{},"f:metadata":{"f:annotations":{},"f:labels":{}}}"#,
        ),
        // Owned as one, because they cannot be told apart.
        (
            "Pod",
            r#"{"spec":{"containers":[{"name":"c","image":"a"},{"name":"c","image":"b"}]}}"#,
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{}}}}"#,
        ),
        // Without a schema: objects member by member, lists as one.
        (
            "CustomResourceDefinition",
            r#"{"spec":{"versions":[{"name":"v1"}],"names":{"shortNames":["a"]}}}"#,
            r#"{"f:spec":{"f:names":{"f:shortNames":{}},"f:versions":{}}}"#,
        ),
        ("ControllerRevision", r#"{"data":{"a":{"b":1}},"revision":1}"#, r#"{"f:data":{},"f:revision":{}}"#),
    ] {
        assert_eq!(fields(&to_field_set(Model::builtin(), ty(kind), &tree(object), &Set::new())), expected, "{object}");
    }
    let skip = set(r#"{"f:spec":{},"f:metadata":{"f:labels":{}},"f:kind":{}}"#);
    let left = to_field_set(Model::builtin(), ty("Pod"), &tree(POD), &skip);
    assert_eq!(fields(&left), r#"{"f:apiVersion":{},"f:metadata":{"f:finalizers":{"v:\"a\"":{},"v:\"b\"":{}}}}"#);
}

#[test]
fn objects_are_compared() {
    // kind, left, right, removed, modified, added
    for (kind, left, right, removed, modified, added) in [
        (
            "ConfigMap",
            r#"{"data":{"a":"1","b":"2"}}"#,
            r#"{"data":{"b":"3","c":"4"}}"#,
            r#"{"f:data":{"f:a":{}}}"#,
            r#"{"f:data":{"f:b":{}}}"#,
            r#"{"f:data":{"f:c":{}}}"#,
        ),
        ("ConfigMap", "{}", r#"{"data":{"a":"1"}}"#, "{}", "{}", r#"{"f:data":{".":{},"f:a":{}}}"#),
        ("ConfigMap", r#"{"data":{"a":"1"}}"#, "{}", r#"{"f:data":{".":{},"f:a":{}}}"#, "{}", "{}"),
        ("ConfigMap", r#"{"data":{"a":"1"}}"#, r#"{"data":{}}"#, r#"{"f:data":{"f:a":{}}}"#, "{}", "{}"),
        ("ConfigMap", "{}", r#"{"data":{}}"#, "{}", "{}", r#"{"f:data":{}}"#),
        (
            "Pod",
            r#"{"spec":{"nodeSelector":{"a":"1"}}}"#,
            r#"{"spec":{"nodeSelector":{"a":"1","b":"2"}}}"#,
            "{}",
            r#"{"f:spec":{"f:nodeSelector":{}}}"#,
            "{}",
        ),
        (
            "Pod",
            r#"{"metadata":{"finalizers":["a","b"]}}"#,
            r#"{"metadata":{"finalizers":["b","c"]}}"#,
            r#"{"f:metadata":{"f:finalizers":{"v:\"a\"":{}}}}"#,
            "{}",
            r#"{"f:metadata":{"f:finalizers":{"v:\"c\"":{}}}}"#,
        ),
        // The order of items is nobody's.
        (
            "Pod",
            r#"{"metadata":{"finalizers":["a","b"]}}"#,
            r#"{"metadata":{"finalizers":["b","a"]}}"#,
            "{}",
            "{}",
            "{}",
        ),
        // A key's default is as good as the key.
        (
            "Pod",
            r#"{"spec":{"containers":[{"name":"c","ports":[{"containerPort":80,"hostPort":1}]}]}}"#,
            r#"{"spec":{"containers":[{"name":"c","ports":[{"containerPort":80,"hostPort":2,"protocol":"TCP"}]}]}}"#,
            "{}",
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{"f:hostPort":{}}}}}}}"#,
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{"f:protocol":{}}}}}}}"#,
        ),
        // A new item brings the objects that Go holds by value with it; those of an object that was there are not new.
        (
            "Deployment",
            "{}",
            r#"{"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"c"}]}}}}"#,
            "{}",
            "{}",
            r#"{"f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:name":{},"f:resources":{}}}}}}}"#,
        ),
        // Items that stand twice are one value.
        (
            "Pod",
            r#"{"spec":{"containers":[{"name":"c","image":"a"}]}}"#,
            r#"{"spec":{"containers":[{"name":"c","image":"a"},{"name":"c","image":"b"}]}}"#,
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{},"f:resources":{}}}}}"#,
            "{}",
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{}}}}"#,
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"name":"c","image":"a"},{"name":"c","image":"b"}]}}"#,
            r#"{"spec":{"containers":[{"name":"c","image":"a"},{"name":"c","image":"c"}]}}"#,
            "{}",
            r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{}}}}"#,
            "{}",
        ),
        // An item that is one value.
        (
            "Pod",
            r#"{"metadata":{"ownerReferences":[{"uid":"u","name":"a"}]}}"#,
            r#"{"metadata":{"ownerReferences":[{"uid":"u","name":"b"}]}}"#,
            "{}",
            r#"{"f:metadata":{"f:ownerReferences":{"k:{\"uid\":\"u\"}":{}}}}"#,
            "{}",
        ),
    ] {
        let result = compare(Model::builtin(), ty(kind), &tree(left), &tree(right), &Set::new());
        let shown = [fields(&result.removed), fields(&result.modified), fields(&result.added)];
        assert_eq!(shown, [removed, modified, added], "{left}\n{right}");
        assert_eq!(result.is_same(), shown == ["{}", "{}", "{}"]);
    }
}

#[test]
fn configurations_are_laid_over_objects() {
    let named = |names: &str| {
        let items: Vec<String> = names.chars().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect();
        tree(&format!(r#"{{"spec":{{"containers":[{}]}}}}"#, items.join(",")))
    };
    // Items of the object, of the configuration, of both in their order.
    for (object, config, expected) in [
        ("ab", "", "ab"),
        ("", "ab", "ab"),
        ("ab", "ba", "ba"),
        ("ab", "cd", "abcd"),
        ("abc", "b", "abc"),
        ("abc", "cb", "acb"),
        ("abcd", "dxa", "bcdxa"),
        ("abc", "xb", "axbc"),
        ("abcdef", "fxcy", "abdefxcy"),
    ] {
        let merged = merge(Model::builtin(), ty("Pod"), &named(object), &named(config)).expect("merge");
        let items = merged.at(&["spec", "containers"]).and_then(Value::as_array).unwrap_or_default();
        let names: String = items.iter().map(|item| item.str_at(&["name"])).collect();
        assert_eq!(
            names.chars().collect::<std::collections::BTreeSet<_>>(),
            expected.chars().collect(),
            "{object} {config}"
        );
        assert_eq!(names, expected, "{object} {config}");
    }
    for (kind, object, config, expected) in [
        ("ConfigMap", r#"{"data":{"a":"1","b":"2"}}"#, r#"{"data":{"b":"3"}}"#, r#"{"data":{"a":"1","b":"3"}}"#),
        ("ConfigMap", r#"{"data":{"a":"1"}}"#, r#"{"data":{"a":null}}"#, r#"{"data":{"a":null}}"#),
        ("ConfigMap", r#"{"data":{"a":"1"}}"#, r#"{"data":{}}"#, r#"{"data":{"a":"1"}}"#),
        (
            "Pod",
            r#"{"spec":{"nodeSelector":{"a":"1"}}}"#,
            r#"{"spec":{"nodeSelector":{"b":"1"}}}"#,
            r#"{"spec":{"nodeSelector":{"b":"1"}}}"#,
        ),
        (
            "Pod",
            r#"{"spec":{"tolerations":[{"key":"a"}]}}"#,
            r#"{"spec":{"tolerations":[]}}"#,
            r#"{"spec":{"tolerations":[]}}"#,
        ),
        (
            "Pod",
            r#"{"spec":{"containers":[{"name":"c","image":"a"},{"name":"c","image":"b"}]}}"#,
            r#"{"spec":{"containers":[{"name":"c","image":"x"}]}}"#,
            r#"{"spec":{"containers":[{"name":"c","image":"x"}]}}"#,
        ),
        (
            "Pod",
            r#"{"metadata":{"finalizers":["a"]}}"#,
            r#"{"metadata":{"finalizers":["b"]}}"#,
            r#"{"metadata":{"finalizers":["a","b"]}}"#,
        ),
    ] {
        let merged = merge(Model::builtin(), ty(kind), &tree(object), &tree(config)).expect("merge");
        assert_eq!(merged.to_string(), expected, "{object} {config}");
    }
    // A key that Go always writes is empty where it is left out.
    let keyless = tree(r#"{"spec":{"containers":[{}]}}"#);
    let merged = merge(Model::builtin(), ty("Pod"), &keyless, &named("a")).expect("merge");
    assert_eq!(merged.to_string(), r#"{"spec":{"containers":[{},{"name":"a"}]}}"#);
}

#[test]
fn items_are_taken_out() {
    let object = tree(
        r#"{"metadata":{"finalizers":["a","b"]},"spec":{"containers":[{"name":"c","image":"i"},{"name":"d"}],"nodeSelector":{"n":"1"}}}"#,
    );
    let part = set(
        r#"{"f:metadata":{"f:finalizers":{"v:\"a\"":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:image":{}},"k:{\"name\":\"d\"}":{}},"f:nodeSelector":{}}}"#,
    );
    let left = remove_items(Model::builtin(), ty("Pod"), &object, &part);
    assert_eq!(left.to_string(), r#"{"metadata":{"finalizers":["b"]},"spec":{"containers":[{"name":"c"}]}}"#);
    let taken = extract_items(Model::builtin(), ty("Pod"), &object, &part);
    assert_eq!(
        taken.to_string(),
        r#"{"metadata":{"finalizers":["a"]},"spec":{"containers":[{"image":"i"},{"name":"d"}],"nodeSelector":{"n":"1"}}}"#
    );
    // A container of which everything below goes stays, empty.
    let all = set(r#"{"f:metadata":{"f:finalizers":{"v:\"a\"":{},"v:\"b\"":{}}}}"#);
    let left = remove_items(Model::builtin(), ty("Pod"), &tree(r#"{"metadata":{"finalizers":["a","b"]}}"#), &all);
    assert_eq!(left.to_string(), r#"{"metadata":{"finalizers":[]}}"#);
}

#[test]
fn configurations_are_checked() {
    let pod = |spec: &str| format!(r#"{{"apiVersion":"v1","kind":"Pod","spec":{spec}}}"#);
    for (object, expected) in [
        (
            pod(r#"{"containers":[{"name":"c"},{"name":"c"}]}"#),
            r#".spec.containers: duplicate entries for key [name="c"]"#,
        ),
        (pod(r#"{"colour":1}"#), ".spec.colour: field not declared in schema"),
        (pod(r#"{"hostNetwork":"yes"}"#), ".spec.hostNetwork: expected boolean, got &{yes}"),
        (pod(r#"{"priority":"high"}"#), ".spec.priority: expected numeric (int or float), got string"),
        (pod(r#"{"nodeName":1}"#), ".spec.nodeName: expected string, got &value.valueUnstructured{Value:1}"),
        (pod(r#"{"containers":{}}"#), ".spec.containers: expected list, got &{map[]}"),
        (pod("[]"), ".spec: expected map, got &{[]}"),
        (
            pod(r#"{"tolerations":[{"key":1}],"dnsPolicy":true}"#),
            "errors:\n  .spec.tolerations[0].key: expected string, got &value.valueUnstructured{Value:1}\n  .spec.dnsPolicy: expected string, got &value.valueUnstructured{Value:true}",
        ),
        (
            pod(r#"{"containers":[{"image":"i"},{"image":"j"}]}"#),
            r#".spec.containers: duplicate entries for key [name=""]"#,
        ),
        (
            r#"{"metadata":{"finalizers":["a","a"]}}"#.to_owned(),
            r#".metadata.finalizers: duplicate entries for key [="a"]"#,
        ),
    ] {
        let error = validate(Model::builtin(), ty("Pod"), &tree(&object), Duplicates::Refused).expect_err(&object);
        assert_eq!(error.to_string(), expected, "{object}");
    }
    for object in [
        POD,
        r#"{"metadata":null,"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":1}},"readinessProbe":{"httpGet":{"port":"x"}}}]}}"#,
    ] {
        assert_eq!(validate(Model::builtin(), ty("Pod"), &tree(object), Duplicates::Refused), Ok(()));
    }
    let twice = tree(r#"{"spec":{"containers":[{"name":"c"},{"name":"c"}]}}"#);
    assert_eq!(validate(Model::builtin(), ty("Pod"), &twice, Duplicates::Allowed), Ok(()));
}

#[test]
fn what_became_one_value_is_owned_as_one() {
    let old = set(
        r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:args":{"i:0":{}},"f:image":{}}},"f:nodeSelector":{"f:a":{}},"f:unknown":{"f:x":{}}}}"#,
    );
    let new = reconcile(Model::builtin(), ty("Pod"), &old).map(|set| fields(&set));
    let expected = r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:args":{},"f:image":{}}},"f:nodeSelector":{},"f:unknown":{"f:x":{}}}}"#;
    assert_eq!(new.as_deref(), Some(expected));
    assert_eq!(reconcile(Model::builtin(), ty("Pod"), &set(expected)), None);
}

#[test]
fn replicas_are_owned_through_the_scale() {
    let entry = |manager: &str, operation: &str, version: &str, subresource: &str, fields: &str| {
        let subresource =
            if subresource.is_empty() { String::new() } else { format!(r#","subresource":"{subresource}""#) };
        format!(
            r#"{{"manager":"{manager}","operation":"{operation}","apiVersion":"{version}","fieldsType":"FieldsV1","fieldsV1":{fields}{subresource}}}"#
        )
    };
    let replicas = r#"{"f:spec":{"f:replicas":{}}}"#;
    let both = r#"{"f:spec":{"f:paused":{},"f:replicas":{}}}"#;
    let list = |entries: &[String]| format!("[{}]", entries.join(","));
    let parent = tree(&list(&[
        entry("a", "Apply", "apps/v1", "", both),
        entry("u", "Update", "apps/v1", "status", r#"{"f:status":{}}"#),
        entry("old", "Update", "apps/v0", "", replicas),
    ]));
    let knows = |version: &str| version == "apps/v1";
    let handler =
        ScaleHandler { parent: Some(&parent), api_version: "apps/v1", replicas: &["spec", "replicas"], knows: &knows };
    let scale = Value::from(handler.to_subresource().expect("entries"));
    assert_eq!(scale.to_string(), list(&[entry("a", "Apply", "autoscaling/v1", "", replicas)]));
    let back = Value::from(handler.to_parent(Some(&scale)).expect("entries"));
    assert_eq!(
        back.to_string(),
        list(&[
            entry("a", "Apply", "apps/v1", "", both),
            entry("u", "Update", "apps/v1", "status", r#"{"f:status":{}}"#)
        ])
    );
    let stolen = tree(&list(&[entry("s", "Update", "autoscaling/v1", "scale", replicas)]));
    let back = Value::from(handler.to_parent(Some(&stolen)).expect("entries"));
    let expected = [
        entry("a", "Apply", "apps/v1", "", r#"{"f:spec":{"f:paused":{}}}"#),
        entry("s", "Update", "apps/v1", "scale", replicas),
        entry("u", "Update", "apps/v1", "status", r#"{"f:status":{}}"#),
    ];
    assert_eq!(back.to_string(), list(&expected));
}
