//! Patches: tables of documents, patches and results, and the laws that hold for all.

use api::patch::{JsonPatch, PatchError, merge, strategic};
use api::{Model, Value, json};
use proptest::prelude::*;

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn json_patches() {
    // document, patch, result or the start of the error
    let cases = [
        (r#"{"a":1}"#, r#"[{"op":"add","path":"/b","value":2}]"#, Ok(r#"{"a":1,"b":2}"#)),
        (r#"{"a":[1,3]}"#, r#"[{"op":"add","path":"/a/1","value":2}]"#, Ok(r#"{"a":[1,2,3]}"#)),
        (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/-","value":2}]"#, Ok(r#"{"a":[1,2]}"#)),
        (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/-1","value":2}]"#, Ok(r#"{"a":[1,2]}"#)),
        (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/2","value":2}]"#, Err("unable to access invalid index: 2")),
        (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/x","value":2}]"#, Err("value was not a proper array index: 'x'")),
        (
            r#"{}"#,
            r#"[{"op":"add","path":"/a/b","value":2}]"#,
            Err("add operation does not apply: doc is missing path: /a/b"),
        ),
        (r#"{"a":{"b":1}}"#, r#"[{"op":"remove","path":"/a/b"}]"#, Ok(r#"{"a":{}}"#)),
        (r#"{"a":[1,2,3]}"#, r#"[{"op":"remove","path":"/a/-1"}]"#, Ok(r#"{"a":[1,2]}"#)),
        (r#"{}"#, r#"[{"op":"remove","path":"/a"}]"#, Err("unable to remove nonexistent key: a")),
        (r#"{"a":1}"#, r#"[{"op":"replace","path":"/a","value":null}]"#, Ok(r#"{"a":null}"#)),
        (r#"{}"#, r#"[{"op":"replace","path":"/a","value":1}]"#, Ok(r#"{"a":1}"#)),
        (r#"{"a":[]}"#, r#"[{"op":"replace","path":"/a/0","value":1}]"#, Err("replace operation does not apply")),
        (r#"{"a":1}"#, r#"[{"op":"replace","path":"","value":{"b":2}}]"#, Ok(r#"{"b":2}"#)),
        (
            r#"{"a":1}"#,
            r#"[{"op":"replace","path":"","value":2}]"#,
            Err("replace operation value must be object or array"),
        ),
        (r#"{"a":1}"#, r#"[{"op":"move","from":"/a","path":"/b"}]"#, Ok(r#"{"b":1}"#)),
        (r#"{"a":[1,2]}"#, r#"[{"op":"copy","from":"/a/0","path":"/a/-"}]"#, Ok(r#"{"a":[1,2,1]}"#)),
        (r#"{"a":{"b":[1]}}"#, r#"[{"op":"test","path":"/a","value":{"b":[1]}}]"#, Ok(r#"{"a":{"b":[1]}}"#)),
        (r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":2}]"#, Err("testing value /a failed")),
        (r#"{}"#, r#"[{"op":"test","path":"/a","value":null}]"#, Ok(r#"{}"#)),
        (r#"{"a/b":1,"c~d":2}"#, r#"[{"op":"remove","path":"/a~1b"},{"op":"remove","path":"/c~0d"}]"#, Ok("{}")),
        (r#"{"~1":1}"#, r#"[{"op":"remove","path":"/~01"}]"#, Ok("{}")),
        (r#"{}"#, r#"[{"op":"frob","path":"/a"}]"#, Err("Unexpected kind: frob")),
        (r#"{}"#, r#"[{"op":"add","value":1}]"#, Err("operation missing path field")),
        (
            r#"{"a":1}"#,
            r#"[{"op":"remove","path":"/a"},{"op":"test","path":"/a","value":1}]"#,
            Err("testing value /a failed"),
        ),
    ];
    for (document, patch, expect) in cases {
        let result = JsonPatch::decode(tree(patch)).unwrap().apply(tree(document));
        match expect {
            Ok(expect) => assert_eq!(result, Ok(tree(expect)), "{patch}"),
            Err(expect) => assert!(
                result.as_ref().is_err_and(|error| error.to_string().starts_with(expect)),
                "{patch}: {result:?}"
            ),
        }
    }
}

#[test]
fn patches_that_are_none() {
    let status = |error: PatchError| (error.status().code, error.status().message);
    let object = JsonPatch::decode(tree("{}")).unwrap_err();
    assert_eq!(
        status(object),
        (400, "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch".into())
    );
    assert_eq!(status(JsonPatch::decode(tree("[1]")).unwrap_err()).0, 400);
    assert_eq!(status(merge::apply(tree("{}"), tree("[]")).unwrap_err()).0, 400);
    let many = JsonPatch::decode(Value::Array(vec![Value::object(); 10_001])).unwrap_err();
    let text = "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
    assert_eq!(status(many), (413, text.into()));
    let failed =
        JsonPatch::decode(tree(r#"[{"op":"test","path":"/a","value":1}]"#)).unwrap().apply(tree("{}")).unwrap_err();
    let text = "the server rejected our request due to an error in our request";
    assert_eq!(status(failed.into()), (422, text.into()));
}

#[test]
fn copies_are_bounded() {
    let document = Value::Object([("a", Value::from("x".repeat(1 << 20)))].into_iter().collect());
    let copy = r#"{"op":"copy","from":"/a","path":"/b"}"#;
    let patch = |count| JsonPatch::decode(tree(&format!("[{}]", vec![copy; count].join(",")))).unwrap();
    assert!(patch(2).apply(document.clone()).is_ok());
    assert!(patch(3).apply(document).is_err());
}

#[test]
fn merge_patches() {
    let cases = [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
        (r#"{"a":"b","b":1}"#, r#"{"a":null}"#, r#"{"b":1}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("{}", r#"{"a":[null,{"b":null}]}"#, r#"{"a":[null,{}]}"#),
    ];
    for (document, patch, expect) in cases {
        assert_eq!(merge::apply(tree(document), tree(patch)), Ok(tree(expect)), "{document} + {patch}");
    }
}

fn strategic_patch(ty: &str, document: &str, patch: &str) -> Result<Value, PatchError> {
    let model = Model::builtin();
    let ty = model.find(ty).unwrap_or_else(|| panic!("no type {ty}"));
    strategic::apply(model, ty, tree(document), tree(patch))
}

#[test]
fn strategic_patches_of_maps() {
    let cases = [
        (
            "core.v1.PodSpec",
            r#"{"nodeName":"a","hostname":"h"}"#,
            r#"{"nodeName":"b","hostname":null}"#,
            r#"{"nodeName":"b"}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{"nodeSelector":{"a":"1","b":"2"}}"#,
            r#"{"nodeSelector":{"a":null,"c":"3"}}"#,
            r#"{"nodeSelector":{"b":"2","c":"3"}}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{"securityContext":{"runAsUser":1}}"#,
            r#"{"securityContext":{"$patch":"replace","fsGroup":2}}"#,
            r#"{"securityContext":{"fsGroup":2}}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{"securityContext":{"runAsUser":1}}"#,
            r#"{"securityContext":{"$patch":"delete"}}"#,
            r#"{"securityContext":{}}"#,
        ),
        ("core.v1.PodSpec", r#"{}"#, r#"{"securityContext":{"$patch":"delete"}}"#, "{}"),
        (
            "core.v1.PodSpec",
            r#"{}"#,
            r#"{"securityContext":{"runAsUser":null,"fsGroup":1}}"#,
            r#"{"securityContext":{"fsGroup":1}}"#,
        ),
        (
            "apps.v1.DeploymentSpec",
            r#"{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}"#,
            r#"{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}"#,
            r#"{"strategy":{"type":"Recreate"}}"#,
        ),
        (
            "core.v1.Pod",
            r#"{"metadata":{"unknown":{"a":[1]}}}"#,
            r#"{"metadata":{"unknown":{"a":[2],"b":1}}}"#,
            r#"{"metadata":{"unknown":{"a":[2],"b":1}}}"#,
        ),
    ];
    for (ty, document, patch, expect) in cases {
        assert_eq!(strategic_patch(ty, document, patch), Ok(tree(expect)), "{patch}");
    }
}

#[test]
fn strategic_patches_of_lists() {
    let cases = [
        // Lists with a merge key merge by it, new items stand in front as in upstream.
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a","image":"1"},{"name":"b"}]}"#,
            r#"{"containers":[{"name":"a","image":"2"}]}"#,
            r#"{"containers":[{"name":"a","image":"2"},{"name":"b"}]}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"}]}"#,
            r#"{"containers":[{"name":"b"}]}"#,
            r#"{"containers":[{"name":"b"},{"name":"a"}]}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"},{"name":"b"}]}"#,
            r#"{"containers":[{"name":"a","$patch":"delete"}]}"#,
            r#"{"containers":[{"name":"b"}]}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"},{"name":"b"}]}"#,
            r#"{"containers":[{"$patch":"replace"},{"name":"c"}]}"#,
            r#"{"containers":[{"name":"c"}]}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"},{"name":"b"},{"name":"c"}]}"#,
            r#"{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}],"containers":[{"name":"c","image":"x"}]}"#,
            r#"{"containers":[{"name":"b"},{"name":"c","image":"x"},{"name":"a"}]}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"},{"name":"b"}]}"#,
            r#"{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}]}"#,
            r#"{"containers":[{"name":"b"},{"name":"a"}]}"#,
        ),
        // Lists without one are replaced.
        (
            "core.v1.PodSpec",
            r#"{"tolerations":[{"key":"a"}]}"#,
            r#"{"tolerations":[{"key":"b"}]}"#,
            r#"{"tolerations":[{"key":"b"}]}"#,
        ),
        ("core.v1.Container", r#"{"args":["a"]}"#, r#"{"args":["b"]}"#, r#"{"args":["b"]}"#),
        // Lists of scalars that merge are sets.
        (
            "meta.v1.ObjectMeta",
            r#"{"finalizers":["a/1","b/1"]}"#,
            r#"{"finalizers":["c/1","a/1"]}"#,
            r#"{"finalizers":["c/1","a/1","b/1"]}"#,
        ),
        (
            "meta.v1.ObjectMeta",
            r#"{"finalizers":["a/1","b/1"]}"#,
            r#"{"$deleteFromPrimitiveList/finalizers":["a/1"]}"#,
            r#"{"finalizers":["b/1"]}"#,
        ),
        (
            "meta.v1.ObjectMeta",
            r#"{"finalizers":["a/1","b/1","c/1"]}"#,
            r#"{"$deleteFromPrimitiveList/finalizers":["a/1"],"$setElementOrder/finalizers":["c/1","b/1"]}"#,
            r#"{"finalizers":["c/1","b/1"]}"#,
        ),
        // The same port with another key is another item.
        (
            "core.v1.ServiceSpec",
            r#"{"ports":[{"port":80,"name":"http"}]}"#,
            r#"{"ports":[{"port":80,"targetPort":8080},{"port":443}]}"#,
            r#"{"ports":[{"port":80,"name":"http","targetPort":8080},{"port":443}]}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{"volumes":[{"name":"v","emptyDir":{}}]}"#,
            r#"{"volumes":[{"name":"v","$retainKeys":["name","hostPath"],"hostPath":{"path":"/x"}}]}"#,
            r#"{"volumes":[{"name":"v","hostPath":{"path":"/x"}}]}"#,
        ),
        (
            "core.v1.PodSpec",
            r#"{}"#,
            r#"{"containers":[{"name":"a","$patch":"delete"},{"name":"b","image":null}]}"#,
            r#"{"containers":[{"name":"b"}]}"#,
        ),
    ];
    for (ty, document, patch, expect) in cases {
        assert_eq!(strategic_patch(ty, document, patch), Ok(tree(expect)), "{patch}");
    }
}

#[test]
fn strategic_patches_that_do_not_apply() {
    let cases = [
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"}]}"#,
            r#"{"containers":[{"image":"x"}]}"#,
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"}]}"#,
            r#"{"containers":[{"name":"a","$patch":"frob"}]}"#,
            "unknown patch type: frob in map: map[$patch:frob name:a]",
        ),
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"}]}"#,
            r#"{"containers":["a"]}"#,
            "list element types are not identical: [[map[name:a]] [a]]",
        ),
        (
            "apps.v1.DeploymentSpec",
            r#"{"strategy":{"type":"Recreate"}}"#,
            r#"{"strategy":{"$retainKeys":["type"],"rollingUpdate":{}}}"#,
            "invalid patch format of retainKeys",
        ),
        (
            "core.v1.PodSpec",
            r#"{"containers":[{"name":"a"}]}"#,
            r#"{"$setElementOrder/containers":[{"name":"b"}],"containers":[{"name":"a"}]}"#,
            "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
        ),
        (
            "meta.v1.ObjectMeta",
            "{}",
            r#"{"$deleteFromPrimitiveListfinalizers":[]}"#,
            "invalid patch format of primitive list",
        ),
    ];
    for (ty, document, patch, expect) in cases {
        let error = strategic_patch(ty, document, patch).expect_err(patch);
        assert_eq!((error.to_string().as_str(), error.status().code), (expect, 400), "{patch}");
    }
}

fn any_tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0i64..4).prop_map(Value::from),
        "[ab]".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::vec(("[a-c]", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    prop::collection::vec(("[a-c]", any_tree()), 0..4).prop_map(|members| Value::Object(members.into_iter().collect()))
}

proptest! {
    #[test]
    fn a_merge_patch_applied_twice_changes_nothing_more(document in any_object(), patch in any_object()) {
        let once = merge::apply(document, patch.clone()).unwrap();
        prop_assert_eq!(merge::apply(once.clone(), patch).unwrap(), once);
    }

    #[test]
    fn strategic_patches_agree_with_merge_patches_outside_of_the_model(document in any_object(), patch in any_object()) {
        let (document, patch) = (document.to_string(), patch.to_string());
        let strategic = strategic_patch("core.v1.PodSpec", &document, &patch);
        prop_assert_eq!(strategic, merge::apply(tree(&document), tree(&patch)));
    }

    #[test]
    fn what_is_added_can_be_removed(document in any_object(), value in any_tree(), name in "[d-f]") {
        let patch = [("op", Value::from("add")), ("path", Value::from(format!("/{name}"))), ("value", value)];
        let add = JsonPatch::decode(Value::Array(vec![Value::Object(patch.into_iter().collect())])).unwrap();
        let remove = JsonPatch::decode(tree(&format!(r#"[{{"op":"remove","path":"/{name}"}}]"#))).unwrap();
        prop_assert_eq!(remove.apply(add.apply(document.clone()).unwrap()), Ok(document));
    }

    #[test]
    fn no_strategic_patch_panics(
        document in "\\{(\"containers\":\\[\\{\"name\":\"[ab]\"\\}\\])?\\}",
        patch in "\\{\"(containers|finalizers|[$]setElementOrder/containers|[$]deleteFromPrimitiveList/containers)\":(\\[(\\{\"(name|[$]patch)\":\"(a|delete|replace)\"\\}|1|\\[\\])?\\]|null|\\{\\})\\}",
    ) {
        let _ = strategic_patch("core.v1.PodSpec", &document, &patch);
    }
}
