//! Writes what the fuzz targets start from into `corpus/TARGET`: each kind of the model with every field said, as JSON, YAML
//! and protobuf, and for the targets of two documents pairs that have much to do with each other.

use std::{error::Error, fs, path::Path};

use api::{
    Map, Model, Value, json,
    model::{Shape, TypeId},
    protobuf,
};

/// Deep enough for a container's probe in a template in a Deployment.
const DEPTH: usize = 9;

/// The targets take inputs up to 64 KiB.
const BYTES_MAX: usize = 60_000;

const POD: &str = r#"{"metadata":{"name":"a","finalizers":["x/y"],"managedFields":[{"manager":"applier","operation":"Apply","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{}}}}}}}}]},"spec":{"containers":[{"name":"a","image":"x","ports":[{"containerPort":80,"protocol":"TCP"}],"env":[{"name":"A","value":"1"}]}],"tolerations":[{"key":"a"}]}}"#;
const CONFIGURATION: &str = r#"{"metadata":{"name":"a","labels":{"a":"b"},"finalizers":["x/z"]},"spec":{"containers":[{"name":"a","image":"y","ports":[{"containerPort":80},{"containerPort":81,"protocol":"UDP"}]},{"name":"b","image":"z"}]}}"#;

const PATCHES: [&str; 3] = [
    r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["x/y"],"labels":{"$patch":"replace","a":"b"}},"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"a","$patch":"delete"},{"name":"b","image":"q","$retainKeys":["name","image"]}]}}"#,
    r#"[{"op":"add","path":"/metadata/labels","value":{}},{"op":"test","path":"/spec/containers/0/name","value":"a"},{"op":"copy","from":"/spec/containers/0","path":"/spec/containers/-"},{"op":"move","from":"/metadata","path":"/x"},{"op":"remove","path":"/x"},{"op":"replace","path":"/spec","value":{}}]"#,
    r#"{"metadata":{"finalizers":null},"spec":{"containers":[{"name":"c"}]}}"#,
];

const SCHEMA: &str = r#"{"type":"object","properties":{"a":{"type":"string","pattern":"^a+$","maxLength":5,"enum":["a","aa"],"default":"a"},"n":{"type":"integer","minimum":1,"maximum":9,"multipleOf":2,"format":"int32"},"l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"maxItems":4,"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"},"v":{"x-kubernetes-int-or-string":true}}}},"s":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},"e":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true},"m":{"type":"object","maxProperties":3,"additionalProperties":{"type":"number","nullable":true}}},"oneOf":[{"required":["a"]},{"required":["z"]}],"not":{"required":["y"]}}"#;
const CUSTOM: &str = r#"{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"a"},"spec":{"replicas":3},"a":"aa","n":4,"l":[{"k":"x","v":1},{"k":"y","v":"2"}],"s":["a","b"],"e":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"q"}},"m":{"x":1.5,"y":null}}"#;

const COLUMNS: [&str; 9] = [
    ".spec.replicas",
    ".spec['replicas','x']",
    "..name",
    ".l[0:2:1].k",
    ".l[?(@.k=='x')].v",
    ".l[?(@.v>3)]",
    ".m.*",
    r#"{.a}{"x"}{range .l[*]}{.k}{end}"#,
    ".l[-1]",
];

const YAML: [&str; 3] = [
    "a: 1\nb: [x, {y: z}]\nc: |\n  t\n  u\nd: &x {a: 1}\ne: *x\n<<: *x\n",
    "---\nkind: Pod\nmetadata: {name: 'a'}\nspec:\n- 0x1F\n- 1e3\n- ~\n- 2026-01-01\n- !!str 1\n",
    "\"a\\u00e9\": >-\n  folded\n  text\n? k\n: v\n...\n",
];

const SELECTORS: [&str; 4] =
    ["a=b,c in (d,e),!f,g!=h,i notin (j)", "metadata.name=a,status.phase!=Running", "x/y==z,n>3,m<4", r"a=\,b\=c"];

const QUANTITIES: [&str; 9] =
    ["1", "100m", "1.5Gi", "2e3", "-1E-9", "12345678901234567890n", "+.5Ki", "0.0001k", "9Ei"];

/// What a seed says where a shape leaves the choice.
fn value(model: &Model, shape: &Shape, depth: usize) -> Value {
    let parsed = |text: &[u8]| json::parse(text).expect("JSON");
    match shape {
        Shape::Bool => true.into(),
        Shape::Int32 | Shape::Int64 => 1.into(),
        Shape::Double => 1.5.into(),
        Shape::String => "a".into(),
        Shape::Bytes => "AAH/".into(),
        Shape::Time => "2026-05-04T03:02:01Z".into(),
        Shape::MicroTime => "2026-05-04T03:02:01.123456Z".into(),
        Shape::Quantity => "1500m".into(),
        Shape::IntOrString => "25%".into(),
        Shape::Any => parsed(br#"[1,"a",null]"#),
        Shape::FieldsV1 => parsed(br#"{"f:a":{".":{}}}"#),
        Shape::Object | Shape::RawExtension => parsed(br#"{"apiVersion":"v1","kind":"ConfigMap"}"#),
        Shape::List(item) => vec![value(model, item, depth)].into(),
        Shape::Map(item) => [("a".to_owned(), value(model, item, depth))].into_iter().collect::<Map>().into(),
        Shape::Type(id) => match &model.get(*id).scalar {
            Some(shape) => value(model, shape, depth),
            None => object(model, *id, depth),
        },
    }
}

fn object(model: &Model, ty: TypeId, depth: usize) -> Value {
    let mut map = Map::new();
    for field in model.get(ty).fields.iter().filter(|_| depth > 0) {
        map.insert(field.name.clone(), value(model, &field.shape, depth - 1));
    }
    map.into()
}

/// Two documents as the targets take them.
fn pair(one: &str, other: &str) -> Vec<u8> {
    [one.as_bytes(), b"\0", other.as_bytes()].concat()
}

fn main() -> Result<(), Box<dyn Error>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let seed = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        if bytes.len() <= BYTES_MAX { fs::write(folder.join(format!("seed-{name}")), bytes) } else { Ok(()) }
    };
    let model = Model::builtin();
    let kinds = model.types().filter_map(|(id, ty)| Some((id, ty.kind.as_ref()?)));
    for (number, (id, kind)) in kinds.enumerate() {
        let choice = u16::try_from(number)?.to_le_bytes();
        let name = number.to_string();
        let mut full = object(model, id, DEPTH);
        full.set(&["apiVersion"], kind.api_version());
        full.set(&["kind"], kind.kind.clone());
        let text = full.to_json();
        seed("object", &name, &[&choice[..], &text].concat())?;
        if let Ok(message) = protobuf::message(model, id, &full) {
            seed("protobuf", &name, &[&choice[..], &message].concat())?;
        }
        if number % 16 == 0 {
            seed("json", &name, &text)?;
            seed("yaml", &name, &text)?;
        }
        if *kind.kind == *"Pod" {
            let text = String::from_utf8(text)?;
            seed("patch", &name, &pair(&text, &text))?;
            seed("apply", &name, &pair(&text, &text))?;
        }
    }
    seed("apply", "pod", &pair(POD, CONFIGURATION))?;
    seed("schema", "custom", &pair(SCHEMA, CUSTOM))?;
    let all = |target: &str, texts: &[&str], bytes: &dyn Fn(&str) -> Vec<u8>| {
        texts.iter().enumerate().try_for_each(|(number, text)| seed(target, &format!("text-{number}"), &bytes(text)))
    };
    let alone = |text: &str| text.as_bytes().to_vec();
    all("patch", &PATCHES, &|patch| pair(POD, patch))?;
    all("column", &COLUMNS, &|path| pair(path, CUSTOM))?;
    all("yaml", &YAML, &alone)?;
    all("selector", &SELECTORS, &alone)?;
    all("quantity", &QUANTITIES, &alone)?;
    Ok(())
}
