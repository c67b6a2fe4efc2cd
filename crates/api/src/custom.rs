//! From a CustomResourceDefinition to entries of the resource table: one for each version, with the schema, columns and
//! subresources of that version. From there on a custom resource takes the path of every other.

use std::sync::Arc;

use crate::{
    Model, Resource, Value,
    model::Gvk,
    resource::{Subresource, Verb},
    schema::{Names, Schema},
    table::{self, Column},
};

/// What a custom resource has beyond any other, in one version.
#[derive(Debug)]
pub struct CustomResource {
    /// The types that its schema makes, over the built-in ones.
    pub model: Model,
    pub schema: Schema,
    pub columns: Vec<Column>,
    pub list_kind: Arc<str>,
    /// Paths that field selectors may name in this version, as `spec.color`.
    pub selectable: Vec<Arc<str>>,
    /// The same of all versions: what is kept of each object.
    pub indexed: Arc<[Arc<str>]>,
    pub scale: Option<ScalePaths>,
    /// What users of a deprecated version are told.
    pub warning: Option<String>,
    /// The definition is being deleted: nothing new is created.
    pub is_terminating: bool,
    /// The definition's schema as it was written.
    published: Value,
}

/// Where a custom resource has what `autoscaling/v1` Scale shows: member names from the root.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalePaths {
    pub spec_replicas: Vec<Box<str>>,
    pub status_replicas: Vec<Box<str>>,
    pub selector: Option<Vec<Box<str>>>,
}

/// All versions of a custom resource.
#[derive(Clone, Debug)]
pub struct Versions {
    /// The one that objects are stored as, served or not.
    pub stored: Arc<Resource>,
    pub served: Vec<Arc<Resource>>,
}

impl CustomResource {
    /// Adds this version's types to a model that OpenAPI documents are made from.
    pub fn publish(&self, kind: &Gvk, model: &mut Model) {
        let names = Names { kind, list_kind: &self.list_kind, selectable: &self.selectable };
        names.publish(&self.published, model);
    }
}

/// Names that a version refers to: `.spec.replicas` as its members.
fn steps(path: &str) -> Vec<Box<str>> {
    path.trim_start_matches('.').split('.').map(Into::into).collect()
}

fn texts(value: Option<&Value>) -> Vec<Arc<str>> {
    value.and_then(Value::as_array).unwrap_or_default().iter().filter_map(Value::as_str).map(Into::into).collect()
}

/// Whether a condition of a definition's status is true.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    let conditions = definition.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    conditions.iter().any(|entry| entry.str_at(&["type"]) == condition && entry.str_at(&["status"]) == "True")
}

/// The entries of a definition; `None` where no version of it is the stored one, which validation does not let pass.
pub fn versions(definition: &Value) -> Option<Versions> {
    let versions = definition.at(&["spec", "versions"])?.as_array()?;
    let is = |version: &Value, flag: &str| version.get(flag).and_then(Value::as_bool) == Some(true);
    let stored = versions.iter().find(|version| is(version, "storage"))?;
    let mut indexed: Vec<Arc<str>> = versions.iter().flat_map(selectable).collect();
    indexed.sort_unstable();
    indexed.dedup();
    let builder = Builder { definition, stored: stored.str_at(&["name"]), indexed: indexed.into() };
    let entry = |version: &Value| Arc::new(builder.entry(version));
    let stored_entry = entry(stored);
    let served = versions.iter().filter(|version| is(version, "served"));
    let served = served
        .map(|version| if std::ptr::eq(version, stored) { stored_entry.clone() } else { entry(version) })
        .collect();
    Some(Versions { served, stored: stored_entry })
}

/// A number that changes with a definition's spec and accepted names, and with nothing else.
pub fn digest(definition: &Value) -> u64 {
    let parts = [definition.get("spec"), definition.at(&["status", "acceptedNames"])];
    let bytes = parts.into_iter().flatten().flat_map(Value::to_json);
    // FNV-1a: any stable hash of eight bytes will do.
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn selectable(version: &Value) -> Vec<Arc<str>> {
    let fields = version.get("selectableFields").and_then(Value::as_array).unwrap_or_default();
    fields.iter().map(|field| field.str_at(&["jsonPath"]).trim_start_matches('.').into()).collect()
}

struct Builder<'a> {
    definition: &'a Value,
    stored: &'a str,
    indexed: Arc<[Arc<str>]>,
}

impl Builder<'_> {
    fn text(&self, path: &[&str]) -> &str {
        self.definition.str_at(path)
    }

    fn entry(&self, version: &Value) -> Resource {
        let (group, name) = (self.text(&["spec", "group"]), version.str_at(&["name"]));
        let names = |name: &str| self.text(&["status", "acceptedNames", name]);
        let kind = Gvk::new(group, name, names("kind"));
        let custom = self.custom(version, &kind);
        let ty = custom.1;
        Resource {
            group: group.into(),
            version: name.into(),
            plural: names("plural").into(),
            singular: names("singular").into(),
            ty,
            namespaced: self.text(&["spec", "scope"]) == "Namespaced",
            short_names: texts(self.definition.at(&["status", "acceptedNames", "shortNames"])),
            categories: texts(self.definition.at(&["status", "acceptedNames", "categories"])),
            verbs: Verb::ALL.to_vec(),
            subresources: subresources(version, &kind),
            storage: format!("{group}/{}", names("plural")).into(),
            stored_as: Gvk { version: self.stored.into(), ..kind.clone() },
            kind,
            conversion: None,
            custom: Some(Arc::new(custom.0)),
        }
    }

    fn custom(&self, version: &Value, kind: &Gvk) -> (CustomResource, crate::model::TypeId) {
        let published = version.at(&["schema", "openAPIV3Schema"]).cloned().unwrap_or_else(Value::object);
        let schema = Schema::read(&published);
        let (model, ty) = schema.model(kind);
        let columns = version.get("additionalPrinterColumns").and_then(Value::as_array).unwrap_or_default();
        let columns = table::custom_columns(columns).or_else(|_| table::custom_columns(&[])).unwrap_or_default();
        let is_deprecated = version.get("deprecated").and_then(Value::as_bool) == Some(true);
        let warning = || match version.str_at(&["deprecationWarning"]) {
            "" => format!("{} {} is deprecated", kind.api_version(), kind.kind),
            text => text.to_owned(),
        };
        let custom = CustomResource {
            model,
            schema,
            columns,
            list_kind: self.text(&["status", "acceptedNames", "listKind"]).into(),
            selectable: selectable(version),
            indexed: self.indexed.clone(),
            scale: version.at(&["subresources", "scale"]).map(scale),
            warning: is_deprecated.then(warning),
            is_terminating: is_true(self.definition, "Terminating"),
            published,
        };
        (custom, ty)
    }
}

fn scale(scale: &Value) -> ScalePaths {
    ScalePaths {
        spec_replicas: steps(scale.str_at(&["specReplicasPath"])),
        status_replicas: steps(scale.str_at(&["statusReplicasPath"])),
        selector: Some(scale.str_at(&["labelSelectorPath"])).filter(|path| !path.is_empty()).map(steps),
    }
}

fn subresources(version: &Value, kind: &Gvk) -> Vec<Subresource> {
    let verbs = || vec![Verb::Get, Verb::Patch, Verb::Update];
    let has = |name: &str| version.at(&["subresources", name]).is_some_and(|sub| !sub.is_null());
    let status = || Subresource { name: "status".into(), kind: kind.clone(), foreign: false, verbs: verbs() };
    let scale = || Subresource {
        name: "scale".into(),
        kind: Gvk::new("autoscaling", "v1", "Scale"),
        foreign: true,
        verbs: verbs(),
    };
    [has("status").then(status), has("scale").then(scale)].into_iter().flatten().collect()
}
