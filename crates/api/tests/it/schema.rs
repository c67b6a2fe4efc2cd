//! Custom resources' schemas: what they let pass, what they drop and fill in, and what is wrong with a schema itself.

use api::{
    Value,
    decode::{self, Defaults},
    json,
    model::Gvk,
    schema::{Keywords, Schema},
};

fn value(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A schema of objects with one property, `spec`.
fn schema(spec: &str) -> Schema {
    Schema::read(&value(&format!(r#"{{"type":"object","properties":{{"spec":{spec}}}}}"#)))
}

#[test]
fn values_are_checked_with_upstreams_words() {
    for (spec, object, expected) in [
        (
            r#"{"type":"integer","maximum":10}"#,
            "11",
            r#"spec: Invalid value: 11: spec in body should be less than or equal to 10"#,
        ),
        (
            r#"{"type":"integer","maximum":10,"exclusiveMaximum":true}"#,
            "10",
            "spec: Invalid value: 10: spec in body should be less than 10",
        ),
        (
            r#"{"type":"number","minimum":0.5}"#,
            "0.25",
            "spec: Invalid value: 0.25: spec in body should be greater than or equal to 0.5",
        ),
        (r#"{"type":"integer","multipleOf":5}"#, "7", "spec: Invalid value: 7: spec in body should be a multiple of 5"),
        (
            r#"{"type":"integer"}"#,
            r#""x""#,
            r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#,
        ),
        (
            r#"{"type":"integer"}"#,
            "1.5",
            r#"spec: Invalid value: "number": spec in body must be of type integer: "number"; <nil>: Invalid value: "": Checked value must be of type integer (default format) in spec"#,
        ),
        (
            r#"{"type":"integer","format":"int32"}"#,
            "3000000000",
            r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec"#,
        ),
        (r#"{"type":"string"}"#, "null", r#"spec: Invalid value: "null": spec in body must be of type string: "null""#),
        (r#"{"type":"string","nullable":true}"#, "null", ""),
        (
            r#"{"type":"string","minLength":2}"#,
            r#""a""#,
            r#"spec: Invalid value: "a": spec in body should be at least 2 chars long"#,
        ),
        (r#"{"type":"string","maxLength":2}"#, r#""abc""#, "spec: Too long: may not be more than 2 bytes"),
        (
            r#"{"type":"string","pattern":"^a+$"}"#,
            r#""b""#,
            r#"spec: Invalid value: "b": spec in body should match '^a+$'"#,
        ),
        (
            r#"{"type":"string","enum":["a","b"]}"#,
            r#""c""#,
            r#"spec: Unsupported value: "c": supported values: "a", "b""#,
        ),
        (
            r#"{"type":"string","format":"ipv4"}"#,
            r#""1.2""#,
            r#"spec: Invalid value: "1.2": spec in body must be of type ipv4: "1.2""#,
        ),
        (r#"{"type":"string","format":"unheard-of"}"#, r#""1.2""#, ""),
        (
            r#"{"type":"array","items":{"type":"string"},"maxItems":1}"#,
            r#"["a","b"]"#,
            "spec: Too many: 2: must have at most 1 items",
        ),
        (
            r#"{"type":"array","items":{"type":"string"},"minItems":1}"#,
            "[]",
            "spec: Invalid value: 0: spec in body should have at least 1 items",
        ),
        (
            r#"{"type":"array","items":{"type":"string"}}"#,
            "[1]",
            r#"spec[0]: Invalid value: "integer": spec[0] in body must be of type string: "integer""#,
        ),
        (r#"{"type":"object","required":["a"],"properties":{"a":{"type":"string"}}}"#, "{}", "spec.a: Required value"),
        (
            r#"{"type":"object","additionalProperties":{"type":"integer"}}"#,
            r#"{"k":true}"#,
            r#"spec.k: Invalid value: "boolean": spec.k in body must be of type integer: "boolean""#,
        ),
        (
            r#"{"type":"object","maxProperties":0,"x-kubernetes-preserve-unknown-fields":true}"#,
            r#"{"k":true}"#,
            "spec: Too many: 1: must have at most 0 items",
        ),
        (r#"{"x-kubernetes-int-or-string":true}"#, "1", ""),
        (r#"{"x-kubernetes-int-or-string":true}"#, r#""1""#, ""),
        (
            r#"{"x-kubernetes-int-or-string":true}"#,
            "true",
            r#"spec: Invalid value: "boolean": spec in body must be of type integer,string: "boolean""#,
        ),
        (
            r#"{"type":"integer","not":{"enum":[1]}}"#,
            "1",
            r#"<nil>: Invalid value: "": "spec" must not validate the schema (not)"#,
        ),
        (
            r#"{"type":"integer","oneOf":[{"minimum":1},{"minimum":2}]}"#,
            "3",
            r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ),
        (
            r#"{"type":"integer","anyOf":[{"minimum":5},{"maximum":1}]}"#,
            "3",
            r#"<nil>: Invalid value: "": "spec" must validate at least one schema (anyOf); spec: Invalid value: 3: spec in body should be greater than or equal to 5"#,
        ),
        (
            r#"{"type":"integer","allOf":[{"minimum":5}]}"#,
            "3",
            r#"spec: Invalid value: 3: spec in body should be greater than or equal to 5; <nil>: Invalid value: "": "spec" must validate all the schemas (allOf). None validated"#,
        ),
    ] {
        let object = value(&format!(r#"{{"spec":{object}}}"#));
        let errors: Vec<String> = schema(spec).validate("", &object, None).iter().map(ToString::to_string).collect();
        assert_eq!(errors.join("; "), expected, "{spec} {object}");
    }
}

#[test]
fn what_was_wrong_and_has_not_changed_may_stay() {
    let schema = schema(
        r#"{"type":"object","properties":{"a":{"type":"integer","maximum":1},"list":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","properties":{"k":{"type":"string"},"v":{"type":"integer","maximum":1}}}}}}"#,
    );
    let old = value(r#"{"spec":{"a":2,"list":[{"k":"x","v":5}]}}"#);
    for (new, wrong) in [
        (r#"{"spec":{"a":2,"b":1,"list":[{"k":"y"},{"k":"x","v":5}]}}"#, 0),
        (r#"{"spec":{"a":3,"list":[{"k":"x","v":5}]}}"#, 1),
        (r#"{"spec":{"a":2,"list":[{"k":"z","v":5}]}}"#, 1),
    ] {
        assert_eq!(schema.validate("", &value(new), Some(&old)).len(), wrong, "{new}");
    }
    assert_eq!(schema.validate("", &old, None).len(), 2);
}

#[test]
fn unknown_members_are_dropped_and_defaults_filled_in() {
    let spec = r#"{"type":"object","default":{"nested":{}},"properties":{
        "a":{"type":"string","default":"x"},
        "zero":{"type":"integer","default":0},
        "maybe":{"type":"string","nullable":true,"default":"d"},
        "plain":{"type":"string"},
        "nested":{"type":"object","properties":{"b":{"type":"boolean","default":false}}},
        "list":{"type":"array","items":{"type":"object","nullable":true,"properties":{"c":{"type":"integer","default":1}}}},
        "texts":{"type":"array","items":{"type":"string","default":"t"}},
        "map":{"type":"object","additionalProperties":{"type":"string"}},
        "open":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"known":{"type":"object","properties":{}}}},
        "any":{"x-kubernetes-preserve-unknown-fields":true},
        "port":{"x-kubernetes-int-or-string":true},
        "pod":{"type":"object","x-kubernetes-embedded-resource":true,"properties":{"spec":{"type":"object"}}}
    }}"#;
    let kind = Gvk::new("example.com", "v1", "Widget");
    let (model, ty) = schema(spec).model(&kind);
    for (before, after, unknown) in [
        ("{}", r#"{"spec":{"nested":{"b":false},"a":"x","zero":0,"maybe":"d"}}"#, ""),
        (r#"{"spec":{"a":null,"maybe":null,"plain":null}}"#, r#"{"spec":{"a":"x","maybe":null,"zero":0}}"#, ""),
        (
            r#"{"spec":{"colour":1,"nested":{"deep":{}}},"status":{}}"#,
            r#"{"spec":{"nested":{"b":false},"a":"x","maybe":"d","zero":0}}"#,
            "spec.colour spec.nested.deep status",
        ),
        (
            r#"{"spec":{"list":[{"d":1},null]}}"#,
            r#"{"spec":{"list":[{"c":1},null],"a":"x","maybe":"d","zero":0}}"#,
            "spec.list[0].d",
        ),
        (r#"{"spec":{"texts":["a",null]}}"#, r#"{"spec":{"texts":["a","t"],"a":"x","maybe":"d","zero":0}}"#, ""),
        (r#"{"spec":{"map":{"k":"v","n":null}}}"#, r#"{"spec":{"map":{"k":"v"},"a":"x","maybe":"d","zero":0}}"#, ""),
        (
            r#"{"spec":{"open":{"free":{"x":1},"known":{"y":1}},"any":[{"z":null}]}}"#,
            r#"{"spec":{"open":{"free":{"x":1},"known":{}},"any":[{"z":null}],"a":"x","maybe":"d","zero":0}}"#,
            "spec.open.known.y",
        ),
        (
            r#"{"spec":{"pod":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","nonsense":1},"spec":{},"rest":1},"a":5}}"#,
            r#"{"spec":{"pod":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{}},"a":5,"maybe":"d","zero":0}}"#,
            "spec.pod.rest spec.pod.metadata.nonsense",
        ),
    ] {
        let mut object = value(before);
        let findings = decode::decode(&model, ty, &mut object, Defaults::On).unwrap();
        let sorted = |value: &Value| serde_json::from_slice::<serde_json::Value>(&value.to_json()).unwrap();
        assert_eq!(sorted(&object), sorted(&value(after)), "{before}");
        assert_eq!(findings.unknown.join(" "), unknown, "{before}");
    }
    let error = decode::decode(&model, ty, &mut value(r#"{"metadata":{"labels":1}}"#), Defaults::On).unwrap_err();
    assert_eq!(error.field, "metadata.labels");
}

#[test]
fn items_of_sets_and_list_maps_are_unique() {
    for (spec, items, expected) in [
        (
            r#"{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}}"#,
            r#"["a","b","a","a"]"#,
            r#"spec[2]: Duplicate value: "a""#,
        ),
        (
            r#"{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object"}}"#,
            r#"[{"k":1,"v":1},{"k":1,"v":2},{"k":2}]"#,
            r#"spec[1]: Duplicate value: {"k":1}"#,
        ),
    ] {
        let errors = schema(spec).duplicates(&value(&format!(r#"{{"spec":{items}}}"#)));
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected);
    }
}

#[test]
fn embedded_resources_have_kinds_and_valid_metadata() {
    let schema = schema(
        r#"{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true}"#,
    );
    for (pod, expected) in [
        (r#"{"apiVersion":"v1","kind":"Pod"}"#, ""),
        (r#"{"kind":"Pod"}"#, "spec.apiVersion: Required value"),
        (r#"{"apiVersion":"v1","kind":""}"#, r#"spec.kind: Invalid value: "": must not be empty"#),
        (
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a/b"}}"#,
            r#"spec.metadata.name: Invalid value: "a/b": may not contain '/'"#,
        ),
    ] {
        let errors = schema.embedded_problems("", &value(&format!(r#"{{"spec":{pod}}}"#)));
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{pod}");
    }
}

#[test]
fn schemas_must_be_structural() {
    for (schema, expected) in [
        (r#"{"type":"object","properties":{"a":{"type":"string"}}}"#, ""),
        (r#"{"properties":{}}"#, "s.type: Required value: must not be empty at the root"),
        (
            r#"{"type":"object","properties":{"a":{}}}"#,
            "s.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"array"}}}"#,
            "s.properties[a].items: Required value: must be specified",
        ),
        (
            r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
            "s.additionalProperties: Forbidden: must not be used at the root",
        ),
        (
            r#"{"type":"object","properties":{"a":{"type":"string"}},"anyOf":[{"properties":{"a":{"type":"string"}}}]}"#,
            "s.anyOf[0].properties[a].type: Forbidden: must be empty to be structural",
        ),
        (
            r#"{"type":"object","anyOf":[{"properties":{"b":{"minimum":1}}}]}"#,
            "s.properties[b]: Required value: because it is defined in s.anyOf[0].properties[b]",
        ),
        (
            r#"{"type":"object","properties":{"p":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]}}}"#,
            "",
        ),
        (
            r#"{"type":"object","properties":{"metadata":{"type":"object","properties":{"name":{"type":"string","pattern":"^a"}}}}}"#,
            "",
        ),
        (
            r#"{"type":"object","properties":{"metadata":{"type":"object","properties":{"labels":{"type":"object"}}}}}"#,
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ),
        (
            r#"{"type":"object","properties":{"e":{"type":"object","x-kubernetes-embedded-resource":true}}}"#,
            "s.properties[e].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ),
    ] {
        let errors = Schema::read(&value(schema)).violations("s");
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{schema}");
    }
}

#[test]
fn keywords_go_together() {
    for (property, expected) in [
        (
            r#"{"type":"null"}"#,
            r#"s.properties[a].type: Unsupported value: "null": supported values: "array", "boolean", "integer", "number", "object", "string"; s.properties[a].type: Forbidden: type cannot be set to null, use nullable as an alternative"#,
        ),
        (r##"{"type":"object","$ref":"#/x"}"##, "s.properties[a].$ref: Forbidden: $ref is not supported"),
        (
            r#"{"type":"array","uniqueItems":true}"#,
            "s.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            r#"{"type":"object","properties":{"b":{"type":"string"}},"additionalProperties":{"type":"string"}}"#,
            "s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            r#"{"type":"string","x-kubernetes-list-type":"set"}"#,
            r#"s.properties[a].type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#,
        ),
        (
            r#"{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","properties":{"k":{"type":"string"}}}}"#,
            "s.properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            r#"{"type":"string","x-kubernetes-validations":[{"rule":"self == ''"}]}"#,
            "s.properties[a].x-kubernetes-validations: Forbidden: validation rules in CEL are not supported yet: express the rule by the schema's keywords, or leave it out",
        ),
    ] {
        let errors =
            Keywords::problems(&value(&format!(r#"{{"type":"object","properties":{{"a":{property}}}}}"#)), "s");
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{property}");
    }
}

#[test]
fn defaults_are_values_that_the_schema_allows() {
    for (property, expected) in [
        (r#"{"type":"string","default":"a"}"#, ""),
        (
            r#"{"type":"string","default":1}"#,
            r#"s.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer""#,
        ),
        (
            r#"{"type":"object","properties":{"b":{"type":"string"}},"default":{"c":1}}"#,
            r#"s.properties[a].default: Invalid value: {"c":1}: must not have unknown fields"#,
        ),
    ] {
        let schema = Schema::read(&value(&format!(r#"{{"type":"object","properties":{{"a":{property}}}}}"#)));
        let errors = schema.default_problems("s");
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), expected, "{property}");
    }
}
