//! The schema of every type: one declarative model, read from `model/*.model`, from which codecs, validation of fields,
//! patches and OpenAPI are derived. A CustomResourceDefinition's schema becomes the same structures.
//!
//! The text form, a line per field:
//!
//! ```text
//! package core.v1                     short name of the package; types of other packages are named in full
//! openapi io.k8s.api.core.v1          its name in OpenAPI documents
//! proto k8s.io.api.core.v1            its protobuf package
//! group "" v1                         group and version of its kinds
//!
//! type PodSpec [kind] [atomic] [scalar=SHAPE] [union(DISCRIMINATOR:,FIELD,...)]
//!   inline NAME [[]]TYPE #TAG         nested on the wire, its fields flat in JSON
//!   NAME[!] SHAPE [#TAG] [ATTRIBUTE...]    `!`: required; SHAPE: `T`, `[]T`, `{}T`
//!
//! message VolumeSource                a type that exists on the wire only
//! ```
//!
//! Attributes: `set`, `map(KEY,...)`, `atomic`, `granular` (how lists and maps merge in server-side apply), `merge`,
//! `merge(KEY)`, `mergekey(KEY)`, `replace`, `retainKeys` (strategic merge patch), `nullable`, `always` and `omitted`
//! (whether an empty value is written, and named as the default in OpenAPI), `kept` (an empty one of a client means
//! something), `gated` (behind a feature gate that is off), `sole` (with it the object that says nothing else),
//! `wire=TYPE`, `default=JSON`, `implied=JSON` (a default that OpenAPI does not publish).

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use crate::value::Value;

mod parse;

pub use parse::ModelError;

/// Index of a [`Type`] in its [`Model`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) u32);

#[derive(Debug, Default)]
pub struct Model {
    /// What stands behind: the built-in model, for those of custom resources.
    base: Option<&'static Model>,
    /// How many types the models behind have: the index of the first own one.
    first: u32,
    types: Vec<Type>,
    names: HashMap<Box<str>, TypeId>,
    kinds: HashMap<Gvk, TypeId>,
}

/// `v1` or `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// Group and version of an apiVersion; the core group is empty.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    /// Empty for the core group.
    pub group: Box<str>,
    pub version: Box<str>,
    pub kind: Box<str>,
}

impl Gvk {
    pub fn new(group: &str, version: &str, kind: &str) -> Gvk {
        Gvk { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// What an object's apiVersion (`v1` or `apps/v1`) and kind name.
    pub fn of(api_version: &str, kind: &str) -> Gvk {
        let (group, version) = split_api_version(api_version);
        Gvk::new(group, version, kind)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

#[derive(Debug, Default)]
pub struct Type {
    /// `core.v1.PodSpec`
    pub name: Box<str>,
    /// `io.k8s.api.core.v1.PodSpec`
    pub openapi: Box<str>,
    /// `k8s.io.api.core.v1.PodSpec`
    pub proto: Box<str>,
    /// Set for types with apiVersion and kind.
    pub kind: Option<Gvk>,
    /// Server-side apply treats the whole object as one value.
    pub atomic: bool,
    /// The JSON is not an object with these fields but a value of this shape.
    pub scalar: Option<Shape>,
    /// Sorted by name. Without apiVersion and kind.
    pub fields: Vec<Field>,
    /// Messages that are nested on the wire while their fields stand here.
    pub inline: Vec<Inline>,
    pub unions: Vec<Union>,
    /// Exists on the wire only, to be named by [`Inline::shape`].
    pub wire_only: bool,
    /// What stands on the wire, by ascending tags.
    pub wire_order: Vec<WireMember>,
    /// Fields that hold an object in every answer, be it empty: structs in upstream's Go types, which `omitempty` keeps.
    pub structs: Vec<usize>,
    /// Fields that stand in every answer, and what they hold when there is nothing to say.
    pub zeros: Vec<(usize, Value)>,
    /// Only of types that a CustomResourceDefinition's schema makes.
    pub custom: Option<Custom>,
}

/// What types of custom resources have beyond others. Their values are checked by the schema after decoding, all at once,
/// and not by the decoder.
#[derive(Debug, Default)]
pub struct Custom {
    /// Members without a field stay: `x-kubernetes-preserve-unknown-fields`.
    pub open: bool,
    /// How a value stands as an item of a list or a value of a map: its default, whether it may be null, and how it merges.
    pub item: Option<Box<Field>>,
    /// Its schema in OpenAPI documents of version 2 and 3, in place of one that follows from the fields.
    pub published: Option<Arc<[Value; 2]>>,
}

/// A member of a message: an index into the type's fields or inlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireMember {
    Field(usize),
    Inline(usize),
}

#[derive(Debug)]
pub struct Inline {
    pub name: Box<str>,
    pub shape: Shape,
    pub tag: u32,
}

/// Fields of which only one is set, and the field that says which.
#[derive(Debug, PartialEq)]
pub struct Union {
    pub discriminator: Option<Box<str>>,
    pub fields: Vec<Box<str>>,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: Box<str>,
    pub shape: Shape,
    pub required: bool,
    /// 0: has none of its own (it is part of an [`Inline`]).
    pub tag: u32,
    /// The type on the wire where it does not follow from the shape.
    pub wire: Option<Box<str>>,
    pub list: ListKind,
    /// For maps and objects: `Some(true)` atomic, `Some(false)` granular.
    pub atomic_map: Option<bool>,
    pub patch: PatchStrategy,
    /// Tells an explicit zero value (0, "", an empty object) from none: what is a pointer in upstream's Go types.
    pub nullable: bool,
    /// Whether Go writes an empty value, where `required` and the shape do not say so: `always` and `omitted`.
    pub empty: Option<bool>,
    /// An empty value tells the server something, so that it is not left out of what a client sends.
    pub kept: bool,
    /// Behind a feature gate that is off by default: what a client says of it is dropped.
    pub gated: bool,
    /// An object from which such a gated field is dropped goes with it, unless it says something else.
    pub sole: bool,
    /// An empty value is left out, as Go's `omitempty` does; from the fields above.
    pub(crate) omits_empty: bool,
    /// Published in OpenAPI and filled in.
    pub default: Option<Value>,
    /// Filled in, but not published.
    pub implied: Option<Value>,
    /// Null is a value of its own, as the `nullable` of a custom resource's schema says.
    pub keeps_null: bool,
}

/// How the items of a list are identified (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ListKind {
    #[default]
    Unset,
    Atomic,
    Set,
    Map(Vec<Box<str>>),
}

/// Strategic merge patch (`x-kubernetes-patch-strategy` and `-merge-key`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PatchStrategy {
    pub merge: bool,
    pub merge_key: Option<Box<str>>,
    pub replace: bool,
    pub retain_keys: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Bool,
    Int32,
    Int64,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON value.
    Any,
    /// Any JSON object.
    Object,
    FieldsV1,
    RawExtension,
    Type(TypeId),
    List(Box<Shape>),
    Map(Box<Shape>),
}

impl Model {
    /// The types of Kubernetes 1.36.
    pub fn builtin() -> &'static Model {
        static MODEL: OnceLock<Model> = OnceLock::new();
        MODEL.get_or_init(|| match parse::parse(SOURCES) {
            Ok(model) => model,
            // The text is part of the binary, and a test reads it.
            Err(error) => unreachable!("{error}"),
        })
    }

    /// An empty model whose types are added to those of Kubernetes.
    pub fn over_builtin() -> Model {
        let base = Model::builtin();
        Model { base: Some(base), first: base.types.len() as u32, ..Model::default() }
    }

    pub fn get(&self, id: TypeId) -> &Type {
        match self.base {
            Some(base) if id.0 < self.first => base.get(id),
            _ => &self.types[(id.0 - self.first) as usize],
        }
    }

    /// Adds a type; its kind, if it has one, is found from then on.
    pub fn add(&mut self, mut ty: Type) -> TypeId {
        ty.arrange();
        let id = TypeId(self.first + self.types.len() as u32);
        if let Some(kind) = &ty.kind {
            self.kinds.insert(kind.clone(), id);
        }
        self.names.insert(ty.name.clone(), id);
        self.types.push(ty);
        id
    }

    /// By short name: `core.v1.PodSpec`.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied().or_else(|| self.base?.find(name))
    }

    pub fn kind(&self, gvk: &Gvk) -> Option<TypeId> {
        self.kinds.get(gvk).copied().or_else(|| self.base?.kind(gvk))
    }

    /// Its own types, without those of the model behind.
    pub fn types(&self) -> impl ExactSizeIterator<Item = (TypeId, &Type)> {
        self.types.iter().enumerate().map(|(index, ty)| (TypeId(self.first + index as u32), ty))
    }
}

impl Field {
    /// A field with a name and a shape, and nothing else to it.
    pub fn new(name: impl Into<Box<str>>, shape: Shape) -> Field {
        Field {
            name: name.into(),
            shape,
            required: false,
            tag: 0,
            wire: None,
            list: ListKind::Unset,
            atomic_map: None,
            patch: PatchStrategy::default(),
            nullable: false,
            empty: None,
            kept: false,
            gated: false,
            sole: false,
            omits_empty: false,
            default: None,
            implied: None,
            keeps_null: false,
        }
    }
}

impl Field {
    /// What upstream's JSON has for the field when it is empty; `None` where the field is left out then.
    fn zero(&self, model: &Model) -> Option<Value> {
        let is_value = match &self.shape {
            Shape::Type(id) => matches!(model.get(*id).scalar, None | Some(Shape::Object)),
            shape => matches!(
                shape,
                Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString | Shape::RawExtension
            ),
        };
        // A Go struct is never empty in the eyes of `omitempty`.
        let is_struct = is_value && !self.nullable;
        self.empty.unwrap_or(self.required || is_struct).then(|| match &self.shape {
            _ if self.nullable => Value::Null,
            Shape::Type(_) if is_struct => Value::object(),
            Shape::Bool => false.into(),
            Shape::Int32 | Shape::Int64 | Shape::IntOrString => 0.into(),
            Shape::Double => 0.0.into(),
            Shape::String => "".into(),
            Shape::Quantity => "0".into(),
            _ => Value::Null,
        })
    }
}

impl Type {
    /// Notes what upstream's answers always have, and what they leave out.
    fn note_zeros(&mut self, model: &Model) {
        for (at, field) in self.fields.iter_mut().enumerate() {
            match field.zero(model) {
                Some(Value::Object(_)) => self.structs.push(at),
                Some(value) => self.zeros.push((at, value)),
                None => field.omits_empty = !field.nullable && !field.kept,
            }
        }
    }

    /// Brings fields into the order in which they are looked up, and notes the one in which they stand on the wire.
    pub(crate) fn arrange(&mut self) {
        self.fields.sort_by(|a, b| a.name.cmp(&b.name));
        let tagged = self.fields.iter().enumerate().filter(|(_, field)| field.tag > 0);
        let mut order: Vec<(u32, WireMember)> = tagged.map(|(at, field)| (field.tag, WireMember::Field(at))).collect();
        order.extend(self.inline.iter().enumerate().map(|(at, inline)| (inline.tag, WireMember::Inline(at))));
        order.sort_by_key(|(tag, _)| *tag);
        self.wire_order = order.into_iter().map(|(_, member)| member).collect();
    }

    /// Whether members without a field stay.
    pub fn is_open(&self) -> bool {
        self.custom.as_ref().is_some_and(|custom| custom.open)
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok().map(|at| &self.fields[at])
    }
}

/// The text of the built-in model.
macro_rules! sources {
    ($($name:literal,)*) => {
        const SOURCES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../model/", $name, ".model"))),)*];
    };
}

sources! {
    "admission.v1", "admissionregistration.v1", "admissionregistration.v1alpha1", "admissionregistration.v1beta1",
    "apidiscovery.v2", "apiextensions.v1", "apiregistration.v1", "apiserverinternal.v1alpha1", "apps.v1", "authentication.v1",
    "authorization.v1", "autoscaling.v1", "autoscaling.v2", "batch.v1", "certificates.v1", "certificates.v1alpha1",
    "certificates.v1beta1", "coordination.v1", "coordination.v1alpha2", "coordination.v1beta1", "core.v1",
    "discovery.v1", "events.v1", "flowcontrol.v1", "meta.v1", "networking.v1", "networking.v1beta1", "node.v1",
    "policy.v1", "rbac.v1", "resource.v1", "resource.v1alpha3", "resource.v1beta1", "resource.v1beta2",
    "scheduling.v1", "scheduling.v1alpha2", "storage.v1", "storage.v1beta1", "storagemigration.v1beta1", "version",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_listed_and_read() {
        let listed: Vec<String> = SOURCES.iter().map(|(name, _)| format!("{name}.model")).collect();
        let mut present: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/model"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".model"))
            .collect();
        present.sort();
        assert_eq!(listed, present);
        let model = parse::parse(SOURCES).unwrap();
        let pod = model.get(model.kind(&Gvk::new("", "v1", "Pod")).unwrap());
        assert_eq!(&*pod.openapi, "io.k8s.api.core.v1.Pod");
        let spec = model.get(model.find("core.v1.PodSpec").unwrap());
        let containers = spec.field("containers").unwrap();
        assert!(containers.required && containers.tag == 2);
        assert_eq!(containers.list, ListKind::Map(vec!["name".into()]));
        assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
    }

    #[test]
    fn damaged_sources_are_named_with_their_line() {
        for (text, line) in [
            ("type X\n", 1),
            ("package a.v1\ntype X\n  f Missing #1\n", 3),
            ("package a.v1\ntype X\n  f string #x\n", 3),
            ("package a.v1\ntype X\n  f string #1 nonsense\n", 3),
            ("package a.v1\nwhat\n", 2),
        ] {
            let error = parse::parse(&[("a", text)]).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
    }
}
