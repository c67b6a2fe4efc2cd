//! Paths and their operations from the resource table.

use super::operation::{self as op, Body, Method, Operation, Parameter, Response};
use crate::model::{Gvk, Model, TypeId};
use crate::resource::{Resource, ResourceTable, Subresource, Verb};

#[derive(Clone, Debug)]
pub(super) struct PathItem {
    pub path: String,
    /// Parameters of all operations.
    pub parameters: Vec<&'static Parameter>,
    pub operations: Vec<Operation>,
}

/// Resources whose deletion is answered with the object; the others are answered with a Status.
const RETURNED: [&str; 18] = [
    "csidrivers",
    "csinodes",
    "deviceclasses",
    "devicetaintrules",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourcepoolstatusrequests",
    "resourcequotas",
    "resourceslices",
    "serviceaccounts",
    "services",
    "storageclasses",
    "volumeattachments",
    "volumeattributesclasses",
];

const OK: &[u16] = &[200];

/// A path that belongs to no group.
pub(super) struct Apart {
    /// The path, and the key of its document in version 3.
    pub key: &'static str,
    id: &'static str,
    tag: &'static str,
    content: Content,
}

enum Content {
    /// JSON of this type.
    Type(&'static str),
    /// A document of this media type.
    Document(&'static str),
}

pub(super) const APART: [Apart; 3] = [
    Apart {
        key: ".well-known/openid-configuration",
        id: "getServiceAccountIssuerOpenIDConfiguration",
        tag: "WellKnown",
        content: Content::Document("application/json"),
    },
    Apart {
        key: "openid/v1/jwks",
        id: "getServiceAccountIssuerOpenIDKeyset",
        tag: "openid",
        content: Content::Document("application/jwk-set+json"),
    },
    Apart { key: "version", id: "getCodeVersion", tag: "version", content: Content::Type("version.Info") },
];

fn apart(key: &str) -> Option<&'static Apart> {
    APART.iter().find(|apart| apart.key == key)
}

/// `api` for the core group, `apis/GROUP` for the others.
pub(super) fn group_key(group: &str) -> String {
    if group.is_empty() { "api".to_owned() } else { format!("apis/{group}") }
}

/// The group version that a document of version 3 is about: `None` inside for documents that are about none. `None` for
/// unknown keys.
pub(super) fn group_version<'t>(table: &'t ResourceTable, key: &str) -> Option<Option<(&'t str, &'t str)>> {
    if matches!(key, "api" | "apis") || apart(key).is_some() {
        return Some(None);
    }
    table.groups.iter().find_map(|group| {
        let rest = key.strip_prefix(&group_key(&group.name))?;
        if rest.is_empty() {
            return Some(None);
        }
        let version = group.versions.iter().find(|version| rest.strip_prefix('/') == Some(&*version.name))?;
        Some(Some((&*group.name, &*version.name)))
    })
}

pub(super) fn all(table: &ResourceTable, model: &Model) -> Vec<PathItem> {
    let keys = super::v3_keys(table);
    let mut items: Vec<PathItem> = keys.iter().flat_map(|key| of_key(table, model, key)).collect();
    items.sort_by(|a, b| a.path.cmp(&b.path));
    items
}

/// What is read at the path of a document's key.
fn root(table: &ResourceTable, model: &Model, key: &str) -> Option<Operation> {
    let object = |ty: &str| model.find(ty).map(Response::Object);
    let (id, tag, response) = match (key, apart(key), group_version(table, key)) {
        (_, Some(apart), _) => {
            let response = match apart.content {
                Content::Type(ty) => Response::Json(model.find(ty)?),
                Content::Document(media) => Response::Document(media),
            };
            (apart.id.to_owned(), apart.tag.to_owned(), response)
        }
        ("api", ..) => ("getCoreAPIVersions".to_owned(), "core".to_owned(), object("meta.v1.APIVersions")?),
        ("apis", ..) => ("getAPIVersions".to_owned(), "apis".to_owned(), object("meta.v1.APIGroupList")?),
        (_, _, Some(Some((group, version)))) => {
            let id = format!("get{}{}APIResources", pascal(group), capitalized(version));
            (id, tag(group, version), object("meta.v1.APIResourceList")?)
        }
        _ => {
            let group = key.strip_prefix("apis/").unwrap_or_default();
            (format!("get{}APIGroup", pascal(group)), camel(group), object("meta.v1.APIGroup")?)
        }
    };
    Some(Operation {
        method: "get",
        id,
        tag,
        action: None,
        kind: None,
        parameters: Vec::new(),
        body: Body::None,
        response,
        codes: OK,
    })
}

/// The paths of one document of version 3, sorted.
pub(super) fn of_key(table: &ResourceTable, model: &Model, key: &str) -> Vec<PathItem> {
    let item = |operation| PathItem { path: format!("/{key}/"), parameters: Vec::new(), operations: vec![operation] };
    let item = root(table, model, key).map(item);
    let mut items: Vec<PathItem> = item.into_iter().collect();
    if let Some(version) = group_version(table, key).flatten().and_then(|(group, name)| table.version(group, name)) {
        for resource in &version.resources {
            Paths { key, resource, model, items: &mut items }.add_all();
        }
    }
    for item in &mut items {
        hoist(item);
    }
    items.sort_by(|a, b| a.path.cmp(&b.path));
    items
}

/// Moves parameters that all operations have to their path.
fn hoist(item: &mut PathItem) {
    let Some((first, others)) = item.operations.split_first() else { return };
    let is_common = |parameter: &&&Parameter| others.iter().all(|other| other.parameters.contains(parameter));
    let common: Vec<&Parameter> = first.parameters.iter().filter(is_common).copied().collect();
    for operation in &mut item.operations {
        operation.parameters.retain(|parameter| !common.contains(parameter));
    }
    item.parameters = common;
    item.parameters.sort_by_key(|parameter| parameter.name);
}

pub(super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// `rbac.authorization.k8s.io` as `RbacAuthorization`.
fn pascal(group: &str) -> String {
    match group.strip_suffix(".k8s.io").unwrap_or(group) {
        "" => "Core".to_owned(),
        name => name.split('.').map(capitalized).collect(),
    }
}

/// The same as `rbacAuthorization`.
fn camel(group: &str) -> String {
    let name = pascal(group);
    let (first, rest) = name.split_at(name.chars().next().map_or(0, char::len_utf8));
    first.to_lowercase() + rest
}

fn tag(group: &str, version: &str) -> String {
    format!("{}_{version}", camel(group))
}

struct Paths<'a> {
    key: &'a str,
    resource: &'a Resource,
    model: &'a Model,
    items: &'a mut Vec<PathItem>,
}

impl Paths<'_> {
    fn add_all(mut self) {
        self.add_collection();
        self.add_named();
        for sub in &self.resource.subresources {
            self.add_subresource(sub);
        }
        if self.resource.allows(Verb::Watch) {
            self.add_watches();
        }
    }

    fn add_collection(&mut self) {
        let resource = self.resource;
        let kind = &resource.kind.kind;
        let scoped = self.scoped();
        let mut operations = Vec::new();
        if let Some(list) = self.list_type().filter(|_| resource.allows(Verb::List)) {
            operations.push(self.op(
                "get",
                "list",
                format!("list#{scoped}"),
                op::LIST,
                Body::None,
                Response::Stream(list),
            ));
            if resource.namespaced {
                let id = format!("list#{kind}ForAllNamespaces");
                let all = self.op("get", "list", id, op::LIST, Body::None, Response::Stream(list));
                self.push(&resource.plural, [], vec![all]);
            }
        }
        if resource.allows(Verb::Create) {
            let ty = self.ty();
            let body = Body::Object(ty);
            let create = self.op("post", "post", format!("create#{scoped}"), op::WRITE, body, Response::Object(ty));
            operations.push(Operation { codes: &[200, 201, 202], ..create });
        }
        let status = self.model.find("meta.v1.Status").zip(self.model.find("meta.v1.DeleteOptions"));
        if let Some((status, options)) = status.filter(|_| resource.allows(Verb::DeleteCollection)) {
            let id = format!("delete#Collection{scoped}");
            let (body, answer) = (Body::Options(options), Response::Object(status));
            operations.push(self.op("delete", "deletecollection", id, op::DELETE_COLLECTION, body, answer));
        }
        let path = self.collection_path();
        self.push(&path, self.scope_parameters(false), operations);
    }

    fn add_named(&mut self) {
        let resource = self.resource;
        let mut operations = self.object_operations(&resource.verbs, &self.scoped(), self.ty(), &resource.kind);
        let types = self.model.find("meta.v1.Status").zip(self.model.find("meta.v1.DeleteOptions"));
        if let Some((status, options)) = types.filter(|_| resource.allows(Verb::Delete)) {
            let answer = if RETURNED.contains(&&*resource.plural) { self.ty() } else { status };
            let id = format!("delete#{}", self.scoped());
            let delete = self.op("delete", "delete", id, op::DELETE, Body::Options(options), Response::Object(answer));
            operations.push(Operation { codes: &[200, 202], ..delete });
        }
        let path = format!("{}/{{name}}", self.collection_path());
        self.push(&path, self.scope_parameters(true), operations);
    }

    /// Get, replace and patch, of an object or of one of its subresources.
    fn object_operations(&self, verbs: &[Verb], name: &str, ty: TypeId, kind: &Gvk) -> Vec<Operation> {
        let mut operations = Vec::new();
        let object = Response::Object(ty);
        if verbs.contains(&Verb::Get) {
            operations.push(self.op("get", "get", format!("read#{name}"), &[], Body::None, object));
        }
        if verbs.contains(&Verb::Update) {
            let put = self.op("put", "put", format!("replace#{name}"), op::WRITE, Body::Object(ty), object);
            operations.push(Operation { codes: &[200, 201], ..put });
        }
        if let Some(patch) = self.model.find("meta.v1.Patch").filter(|_| verbs.contains(&Verb::Patch)) {
            let mut change = self.op("patch", "patch", format!("patch#{name}"), op::WRITE, Body::Patch(patch), object);
            change.parameters.push(&op::FORCE);
            operations.push(Operation { codes: &[200, 201], ..change });
        }
        for operation in &mut operations {
            operation.kind = Some(kind.clone());
        }
        operations
    }

    fn add_subresource(&mut self, sub: &Subresource) {
        let path = format!("{}/{{name}}/{}", self.collection_path(), sub.name);
        let name = format!("{}{}", self.scoped(), capitalized(&sub.name));
        if sub.kind.kind.ends_with("Options") {
            return self.add_connection(sub, &path, &name);
        }
        if &*sub.name == "log" {
            let read = self.op("get", "get", format!("read#{name}"), op::LOG, Body::None, Response::Log);
            return self.push(&path, self.scope_parameters(true), vec![read]);
        }
        let Some(ty) = self.model.kind(&sub.kind) else { return };
        let mut operations = self.object_operations(&sub.verbs, &name, ty, &sub.kind);
        if sub.verbs.contains(&Verb::Create) {
            let object = Response::Object(ty);
            let create = self.op("post", "post", format!("create#{name}"), op::WRITE, Body::Object(ty), object);
            operations.push(Operation { codes: &[200, 201, 202], kind: Some(sub.kind.clone()), ..create });
        }
        self.push(&path, self.scope_parameters(true), operations);
    }

    /// Upgraded connections and proxies: every method that the verbs stand for, with and without a path behind.
    fn add_connection(&mut self, sub: &Subresource, path: &str, name: &str) {
        let is_proxy = &*sub.name == "proxy";
        let methods: &[Method] =
            if is_proxy { &["delete", "get", "head", "options", "patch", "post", "put"] } else { &["get", "post"] };
        let scope = self.scope_parameters(true);
        let operations = |suffix: &str| -> Vec<Operation> {
            let parameters = op::connection(&sub.kind.kind);
            let operation = |method: &Method| {
                let id = format!("connect#{}{name}{suffix}", capitalized(method));
                let connect = self.op(method, "connect", id, parameters, Body::None, Response::Text);
                let parameters = parameters.to_vec();
                Operation { kind: Some(sub.kind.clone()), parameters, ..connect }
            };
            methods.iter().map(operation).collect()
        };
        let plain = operations("");
        let behind = is_proxy.then(|| operations("WithPath"));
        self.push(path, scope.clone(), plain);
        if let Some(behind) = behind {
            let with_path: Vec<&Parameter> = scope.into_iter().chain([&op::PATH_REST]).collect();
            self.push(&format!("{path}/{{path}}"), with_path, behind);
        }
    }

    /// The paths of old that are watches by themselves.
    fn add_watches(&mut self) {
        let Some(event) = self.model.find("meta.v1.WatchEvent") else { return };
        let resource = self.resource;
        let (kind, scoped) = (&resource.kind.kind, self.scoped());
        let watch = |action: &'static str, id: String| {
            vec![self.op("get", action, id, op::LIST, Body::None, Response::Stream(event))]
        };
        let collection = self.collection_path();
        let everywhere = resource.namespaced.then(|| watch("watchlist", format!("watch#{kind}ListForAllNamespaces")));
        let list = watch("watchlist", format!("watch#{scoped}List"));
        let one = watch("watch", format!("watch#{scoped}"));
        if let Some(everywhere) = everywhere {
            self.push(&format!("watch/{}", resource.plural), [], everywhere);
        }
        self.push(&format!("watch/{collection}"), self.scope_parameters(false), list);
        if resource.allows(Verb::Get) {
            self.push(&format!("watch/{collection}/{{name}}"), self.scope_parameters(true), one);
        }
    }

    /// `NamespacedPod` or `Node`.
    fn scoped(&self) -> String {
        format!("{}{}", if self.resource.namespaced { "Namespaced" } else { "" }, self.resource.kind.kind)
    }

    fn collection_path(&self) -> String {
        let plural = &self.resource.plural;
        if self.resource.namespaced { format!("namespaces/{{namespace}}/{plural}") } else { plural.to_string() }
    }

    fn scope_parameters(&self, with_name: bool) -> Vec<&'static Parameter> {
        let name = with_name.then_some(&op::NAME);
        let namespace = self.resource.namespaced.then_some(&op::NAMESPACE);
        name.into_iter().chain(namespace).collect()
    }

    /// The type of the resource's objects in the model that the document is made from.
    fn ty(&self) -> TypeId {
        self.model.kind(&self.resource.kind).unwrap_or(self.resource.ty)
    }

    /// The type of a list of the resource's objects.
    fn list_type(&self) -> Option<TypeId> {
        let kind = &self.resource.kind;
        self.model.kind(&Gvk::new(&kind.group, &kind.version, &self.resource.list_kind()))
    }

    /// In `id`, `#` stands for the group and version.
    fn op(
        &self,
        method: Method,
        action: &'static str,
        id: String,
        parameters: &[&'static Parameter],
        body: Body,
        response: Response,
    ) -> Operation {
        let (group, version) = (&self.resource.group, &self.resource.version);
        let place = format!("{}{}", pascal(group), capitalized(version));
        Operation {
            method,
            id: id.replace('#', &place),
            tag: tag(group, version),
            action: Some(action),
            kind: Some(self.resource.kind.clone()),
            parameters: parameters.iter().copied().chain([&op::PRETTY]).collect(),
            body,
            response,
            codes: OK,
        }
    }

    fn push(&mut self, path: &str, scope: impl AsRef<[&'static Parameter]>, mut operations: Vec<Operation>) {
        if operations.is_empty() {
            return;
        }
        for operation in &mut operations {
            operation.parameters.extend(scope.as_ref());
        }
        let path = format!("/{}/{path}", self.key);
        self.items.push(PathItem { path, parameters: Vec::new(), operations });
    }
}
