//! Protobuf as Go clients write and read it: samples both ways, and every type of the model there and back.

use api::{
    Map, Model, Value, json,
    model::{Field, Shape, Type, TypeId},
    protobuf,
};
use proptest::prelude::*;

/// `(JSON, message without its envelope)`; what is not a pointer in Go is there even where it is empty.
const SAMPLES: &[(&str, &[u8])] = &[
    (
        r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"d","creationTimestamp":"2026-05-04T03:02:01Z"},"spec":{"replicas":0,"selector":{"matchLabels":{"a":"b"}},"template":{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"100m"}},"livenessProbe":{"httpGet":{"port":"http"}}}],"volumes":[{"name":"v","emptyDir":{}}]}},"strategy":{"rollingUpdate":{"maxSurge":1,"maxUnavailable":"25%"}}}}"#,
        b"\n\x19\n\x01d\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x08\x08\xa9\x98\xe0\xcf\x06\x10\x00\x12\xb3\x01\x08\x00\x12\x08\n\x06\n\x01a\x12\x01b\x1a\x87\x01\n\x10\n\x00\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12s\n\t\n\x01v\x12\x04\x12\x02\n\x00\x12J\n\x01c\x12\x00*\x00B\x0f\n\r\n\x03cpu\x12\x06\n\x04100mR \n\x14\x12\x12\n\x00\x12\n\x08\x01\x10\x00\x1a\x04http\x1a\x00\"\x00\x10\x00\x18\x00 \x00(\x000\x00j\x00r\x00\x80\x01\x00\x88\x01\x00\x90\x01\x00\xa2\x01\x00\x1a\x002\x00B\x00J\x00R\x00X\x00`\x00h\x00\x82\x01\x00\x8a\x01\x00\x9a\x01\x00\xc2\x01\x00\"\x17\n\x00\x12\x13\n\t\x08\x01\x10\x00\x1a\x0325%\x12\x06\x08\x00\x10\x01\x1a\x00(\x008\x00\x1a\x0c\x08\x00\x10\x00\x18\x00 \x00(\x008\x00",
    ),
    (
        r#"{"kind":"Secret","apiVersion":"v1","metadata":{"managedFields":[{"manager":"m","fieldsV1":{"f:data":{}}}]},"data":{"b":"AP8=","a":"eA=="},"immutable":false}"#,
        b"\n/\n\x00\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x8a\x01\x1c\n\x01m\x12\x00\x1a\x002\x00:\x0f\n\r{\"f:data\":{}}B\x00\x12\x06\n\x01a\x12\x01x\x12\x07\n\x01b\x12\x02\x00\xff\x1a\x00(\x00",
    ),
    (
        r#"{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"l"},"spec":{"holderIdentity":"h","renewTime":"2026-05-04T03:02:01.000005Z"}}"#,
        b"\n\x11\n\x01l\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\x0e\n\x01h\"\t\x08\xa9\x98\xe0\xcf\x06\x10\x88\'",
    ),
    (
        r#"{"kind":"ControllerRevision","apiVersion":"apps/v1","data":{"spec":{"x":[1]}},"revision":-2}"#,
        b"\n\x10\n\x00\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\x14\n\x12{\"spec\":{\"x\":[1]}}\x18\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ),
    (
        r#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1","spec":{"group":"g","names":{"plural":"p","kind":"P"},"scope":"Cluster","versions":[{"name":"v1","served":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":{"default":0},"b":{"enum":["x",1],"minimum":0}},"additionalProperties":false}}}]}}"#,
        b"\n\x10\n\x00\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\xc1\x01\n\x01g\x1a\n\n\x01p\x12\x00\"\x01P*\x00\"\x07Cluster:\xa4\x01\n\x02v1\x10\x01\x18\x00\"\x97\x01\n\x94\x01\n\x00\x12\x00\"\x00*\x06object2\x00:\x00P\x00`\x00z\x00\x90\x01\x00\xea\x01(\n\x01a\x12#\n\x00\x12\x00\"\x00*\x002\x00:\x00B\x03\n\x010P\x00`\x00z\x00\x90\x01\x00\xa8\x02\x00\xb8\x02\x00\xc0\x02\x00\xea\x01:\n\x01b\x125\n\x00\x12\x00\"\x00*\x002\x00:\x00P\x00Y\x00\x00\x00\x00\x00\x00\x00\x00`\x00z\x00\x90\x01\x00\xa2\x01\x05\n\x03\"x\"\xa2\x01\x03\n\x011\xa8\x02\x00\xb8\x02\x00\xc0\x02\x00\xf2\x01\x02\x08\x00\xa8\x02\x00\xb0\x02\x01\xb8\x02\x00\xc0\x02\x008\x00P\x00\x1a\x0c\x12\x08\n\x00\x12\x00\"\x00*\x00 \x00",
    ),
    (
        r#"{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{"extra":{"k":["a","b"]}}}"#,
        b"\n\x10\n\x00\x12\x00\x1a\x00\"\x00*\x002\x008\x00B\x00\x12\x11\x1a\x00*\x0b\n\x01k\x12\x06\n\x01a\n\x01b2\x00\x1a\x08\x08\x00\x12\x00\x1a\x00 \x00",
    ),
    (
        r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[{"name":"pods","namespaced":true,"kind":"Pod","verbs":["get"]}]}"#,
        b"\n\x02v1\x12\x1c\n\x04pods\x10\x01\x1a\x03Pod\"\x05\n\x03get2\x00B\x00J\x00R\x00",
    ),
    (
        r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","details":{"name":"x"},"code":404}"#,
        b"\n\x06\n\x00\x12\x00\x1a\x00\x12\x07Failure\x1a\x00\"\x08NotFound*\x0b\n\x01x\x12\x00\x1a\x00(\x002\x000\x94\x03",
    ),
];

#[test]
fn samples_are_written_and_read_byte_for_byte() {
    let model = Model::builtin();
    for (text, message) in SAMPLES {
        let object = json::parse(text.as_bytes()).unwrap();
        let bytes = protobuf::encode(model, &object).unwrap();
        let (version, kind) = (object.str_at(&["apiVersion"]), object.str_at(&["kind"]));
        let expected = protobuf::envelope(version, kind, message);
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{text}");
        assert_eq!(protobuf::decode(model, None, &expected).unwrap(), object);
    }
}

#[test]
fn maps_are_sorted_and_what_says_nothing_is_dropped() {
    let model = Model::builtin();
    let text = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","labels":{}},"data":{"b":"2","a":"1"},"unknown":1}"#;
    let bytes = protobuf::encode(model, &json::parse(text.as_bytes()).unwrap()).unwrap();
    let plain = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"a":"1","b":"2"}}"#;
    assert_eq!(protobuf::decode(model, None, &bytes).unwrap().to_string(), plain);
}

#[test]
fn what_does_not_fit_its_type_is_an_error() {
    for text in [
        r#"{"kind":"Nothing","apiVersion":"v1"}"#,
        r#"{"kind":"ConfigMap","apiVersion":"v1","data":"x"}"#,
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":[]}"#,
        r#"{"kind":"ConfigMap","apiVersion":"v1","immutable":"yes"}"#,
        r#"{"kind":"Secret","apiVersion":"v1","data":{"a":"not base64"}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{"creationTimestamp":"yesterday"}}"#,
    ] {
        assert!(protobuf::encode(Model::builtin(), &json::parse(text.as_bytes()).unwrap()).is_err(), "{text}");
    }
}

#[test]
fn a_list_is_its_items_messages_in_a_row() {
    let model = Model::builtin();
    let text = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"},"data":{"k":"v"}}]}"#;
    let list = json::parse(text.as_bytes()).unwrap();
    let (map, meta) = (model.find("core.v1.ConfigMap").unwrap(), model.find("meta.v1.ListMeta").unwrap());
    let items = list.get("items").and_then(Value::as_array).unwrap();
    let items: Vec<Vec<u8>> = items.iter().map(|item| protobuf::message(model, map, item).unwrap()).collect();
    let meta = protobuf::message(model, meta, list.get("metadata").unwrap()).unwrap();
    let tail: Vec<u8> =
        items.iter().flat_map(|item| [protobuf::item_head(item.len()), item.clone()].concat()).collect();
    let head = protobuf::list_head("v1", "ConfigMapList", &meta, tail.len());
    assert_eq!([head, tail, protobuf::LIST_TAIL.to_vec()].concat(), protobuf::encode(model, &list).unwrap());
}

#[test]
fn a_watch_frame_is_an_event_behind_its_length() {
    let frame = protobuf::watch_frame("ADDED", b"k8s\0...");
    assert_eq!(frame.escape_ascii().to_string(), r"\x00\x00\x00\x12\n\x05ADDED\x12\t\n\x07k8s\x00...");
}

/// Numbers that follow from a seed.
struct Source(u64);

impl Source {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn text(&mut self) -> String {
        ["a", "name-1", "ü€", "with \"quotes\"\n", "x/y:z"][self.below(5) as usize].into()
    }

    /// An object of a type, of at most `depth` levels, without values that say nothing.
    fn object(&mut self, model: &Model, ty: &Type, depth: usize) -> Value {
        let mut map = Map::new();
        for field in ty.fields.iter().filter(|field| is_on_wire(model, ty, field)) {
            // A quantity that is not a pointer is always something.
            let is_optional = field.nullable || field.shape != Shape::Quantity;
            if is_optional && (depth == 0 || self.below(3) == 0) {
                continue;
            }
            let value = self.value(model, &field.shape, depth.saturating_sub(1));
            let is_empty =
                value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(<[_]>::is_empty);
            if !is_empty || field.nullable && matches!(field.shape, Shape::Type(_)) {
                map.insert(field.name.clone(), value);
            }
        }
        map.into()
    }

    fn value(&mut self, model: &Model, shape: &Shape, depth: usize) -> Value {
        match shape {
            Shape::Bool => true.into(),
            Shape::Int32 => [1, -1, 300, i32::MIN][self.below(4) as usize].into(),
            Shape::Int64 => [1, -1, i64::MAX, i64::MIN][self.below(4) as usize].into(),
            Shape::Double => [0.5, -1e300][self.below(2) as usize].into(),
            Shape::String => self.text().into(),
            Shape::Bytes => "AAH/".into(),
            Shape::Time => ["1969-12-31T23:59:58Z", "2026-05-04T03:02:01Z"][self.below(2) as usize].into(),
            Shape::MicroTime => {
                ["1969-12-31T23:59:58.000001Z", "2026-05-04T03:02:01.123456Z"][self.below(2) as usize].into()
            }
            Shape::Quantity => ["0", "100m", "1Gi"][self.below(3) as usize].into(),
            Shape::IntOrString if self.below(2) == 0 => 80.into(),
            Shape::IntOrString => "http".into(),
            Shape::Any => json::parse([&b"[1,\"a\",null]"[..], b"1.5", b"{\"x\":{}}"][self.below(3) as usize]).unwrap(),
            Shape::Object | Shape::FieldsV1 | Shape::RawExtension => json::parse(b"{\"f:a\":{\".\":{}}}").unwrap(),
            Shape::List(item) => (0..self.below(3)).map(|_| self.value(model, item, depth)).collect::<Vec<_>>().into(),
            Shape::Map(item) => (0..self.below(3))
                .map(|key| (format!("k{key}"), self.value(model, item, depth)))
                .collect::<Map>()
                .into(),
            Shape::Type(id) => match model.get(*id) {
                ty if ty.scalar.is_some() && !ty.inline.is_empty() => self.one_of(model, ty, depth),
                ty if ty.scalar.is_some() => Value::object(),
                ty => self.object(model, ty, depth),
            },
        }
    }

    fn one_of(&mut self, model: &Model, ty: &Type, depth: usize) -> Value {
        match &ty.inline[self.below(ty.inline.len() as u64) as usize].shape {
            Shape::Bool => (self.below(2) == 0).into(),
            Shape::List(item) => vec![self.value(model, item, depth)].into(),
            shape => self.value(model, shape, depth),
        }
    }
}

/// A field without a tag stands in one of the messages that are flat in JSON, or nowhere.
fn is_on_wire(model: &Model, ty: &Type, field: &Field) -> bool {
    let in_inline = |shape: &Shape| {
        let Shape::Type(id) = shape else { return false };
        let inner = model.get(*id);
        inner.field(&field.name).is_some_and(|same| is_on_wire(model, inner, same))
    };
    field.tag > 0 || ty.inline.iter().any(|inline| in_inline(&inline.shape))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_type_survives_the_way_there_and_back(seed: u64) {
        let model = Model::builtin();
        let types: Vec<TypeId> = model.types().filter(|(_, ty)| ty.scalar.is_none()).map(|(id, _)| id).collect();
        prop_assert!(types.len() > 700);
        for id in types {
            let ty = model.get(id);
            let object = Source(seed).object(model, ty, 4);
            let message = protobuf::message(model, id, &object).unwrap();
            let back = protobuf::decode(model, Some(id), &protobuf::envelope("", "", &message)).unwrap();
            prop_assert_eq!(&back, &object, "{}", ty.name);
        }
    }
}
