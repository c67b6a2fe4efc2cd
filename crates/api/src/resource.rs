//! The resource table: one entry per resource and version, from which routing, discovery, OpenAPI, storage keys and RBAC
//! names follow. Built in from `model/resources.table`; a CustomResourceDefinition adds entries at run time.
//!
//! The text form:
//!
//! ```text
//! group "apps" v1
//!   PLURAL SINGULAR KIND namespaced|cluster [short=A,B] [categories=A,B] [verbs=A,B] [store=PATH] [as=GROUP/VERSION] [stored=VERSION]
//!     /SUBRESOURCE [KIND] [as=GROUP/VERSION] [verbs=A,B]
//! ```
//!
//! Without `verbs` a resource has all eight and a subresource get, patch and update. `store` is the path below
//! `/registry` where it is not the plural name. `as` is the group and version of the kind where they are not the
//! resource's own. Versions of one resource (same group and plural, or the two kinds of events) share their storage: the
//! objects are stored as the first one listed, or as `stored` says.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use crate::{
    CustomResource, Model, Value,
    convert::{self, Conversion},
    enablement::RuntimeConfig,
    model::{Gvk, TypeId},
};

/// What can be done with a resource; discovery's words, and RBAC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    pub const ALL: [Verb; 8] = [
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }

    pub fn parse(text: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.as_str() == text)
    }
}

#[derive(Clone, Debug)]
pub struct Resource {
    /// Group, version and kind under which the resource is served. Its kind may belong to another group: see `kind`.
    pub group: Arc<str>,
    pub version: Arc<str>,
    pub plural: Arc<str>,
    pub singular: Arc<str>,
    /// The kind of its objects.
    pub kind: Gvk,
    /// The schema of its objects.
    pub ty: TypeId,
    pub namespaced: bool,
    pub short_names: Vec<Arc<str>>,
    pub categories: Vec<Arc<str>>,
    pub verbs: Vec<Verb>,
    pub subresources: Vec<Subresource>,
    /// Path below `/registry/` under which the objects are stored, as upstream lays them out.
    pub storage: Arc<str>,
    /// The version in which objects are stored; [`ResourceTable::storage_version`] finds the entry.
    pub stored_as: Gvk,
    /// How objects of this version differ from the stored ones beyond their `apiVersion`; mostly they do not.
    pub conversion: Option<&'static Conversion>,
    /// What only resources of a CustomResourceDefinition have.
    pub custom: Option<Arc<CustomResource>>,
}

#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: Arc<str>,
    /// The kind it takes and answers with.
    pub kind: Gvk,
    /// Whether `kind` has a group and version other than the resource's own, which discovery then states.
    pub foreign: bool,
    pub verbs: Vec<Verb>,
}

impl Resource {
    /// `pods` or `deployments.apps`.
    pub fn qualified(&self) -> String {
        crate::status::qualified(&self.group, &self.plural)
    }

    /// The group and version of the path: `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        crate::model::api_version(&self.group, &self.version)
    }

    /// The model that [`ty`](Self::ty) is of.
    pub fn model(&self) -> &Model {
        self.custom.as_ref().map_or_else(|| Model::builtin(), |custom| &custom.model)
    }

    /// The verbs that discovery lists: without those that make something, where the definition is being deleted.
    pub fn listed_verbs(&self) -> Vec<Verb> {
        let is_terminating = self.custom.as_ref().is_some_and(|custom| custom.is_terminating);
        let makes = |verb: &Verb| matches!(verb, Verb::Create | Verb::Patch | Verb::Update);
        self.verbs.iter().copied().filter(|verb| !is_terminating || !makes(verb)).collect()
    }

    /// The kind of a list of its objects.
    pub fn list_kind(&self) -> String {
        self.custom.as_ref().map_or_else(|| format!("{}List", self.kind.kind), |custom| custom.list_kind.to_string())
    }

    pub fn allows(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// Objects of this resource are kept; the others (reviews, bindings) are only answered.
    pub fn is_stored(&self) -> bool {
        self.custom.is_some() || (self.allows(Verb::List) && self.allows(Verb::Create))
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| &*sub.name == name)
    }

    /// Whether objects are stored as this version's.
    pub fn is_storage_version(&self) -> bool {
        self.kind == self.stored_as
    }

    /// Makes an object of this version one of the stored version.
    pub fn to_stored(&self, object: &mut Value) {
        if !self.is_storage_version() {
            change_version(object, &self.stored_as, self.conversion.map(|conversion| conversion.to_stored));
        }
    }

    /// Makes a stored object one of this version.
    pub fn from_stored(&self, object: &mut Value) {
        if !self.is_storage_version() {
            change_version(object, &self.kind, self.conversion.map(|conversion| conversion.from_stored));
        }
    }

    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// The key of an object among those of its resource: `NAMESPACE/NAME`, or the name for objects of the cluster.
    pub fn object_key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    /// The key of an object in the store; `namespace` is empty for objects of the cluster.
    pub fn storage_key(&self, namespace: &str, name: &str) -> String {
        self.storage_prefix() + &self.object_key(namespace, name)
    }

    /// What the keys of all its objects begin with.
    pub fn storage_prefix(&self) -> String {
        format!("/registry/{}/", self.storage)
    }
}

fn change_version(object: &mut Value, kind: &Gvk, convert: Option<fn(&mut crate::Map)>) {
    let Some(map) = object.as_object_mut() else { return };
    map.insert("apiVersion", kind.api_version());
    map.insert("kind", &*kind.kind);
    if let Some(convert) = convert {
        convert(map);
    }
}

#[derive(Clone, Debug, Default)]
pub struct ResourceTable {
    /// Groups and their versions in the order of discovery; the core group first, preferred versions first.
    pub groups: Vec<Group>,
    /// Places of the groups.
    by_name: HashMap<Arc<str>, usize>,
}

#[derive(Clone, Debug)]
pub struct Group {
    pub name: Arc<str>,
    pub versions: Vec<Version>,
}

#[derive(Clone, Debug)]
pub struct Version {
    pub name: Arc<str>,
    pub resources: Vec<Arc<Resource>>,
    /// Places of the resources.
    by_plural: HashMap<Arc<str>, usize>,
}

#[derive(Debug, thiserror::Error)]
#[error("resources.table:{line}: {message}")]
pub struct TableError {
    pub line: usize,
    pub message: String,
}

const SOURCE: &str = include_str!("../model/resources.table");

impl ResourceTable {
    /// The resources of Kubernetes 1.36.
    pub fn builtin() -> &'static ResourceTable {
        static TABLE: OnceLock<ResourceTable> = OnceLock::new();
        TABLE.get_or_init(|| match parse(SOURCE, Model::builtin()) {
            Ok(table) => table,
            // The text is part of the binary, and a test reads it.
            Err(error) => unreachable!("{error}"),
        })
    }

    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(*self.by_name.get(name)?)
    }

    pub fn version(&self, group: &str, version: &str) -> Option<&Version> {
        self.group(group)?.versions.iter().find(|entry| &*entry.name == version)
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let version = self.version(group, version)?;
        version.resources.get(*version.by_plural.get(plural)?)
    }

    /// The entry that serves objects of a kind.
    pub fn by_kind(&self, gvk: &Gvk) -> Option<&Arc<Resource>> {
        self.version(&gvk.group, &gvk.version)?
            .resources
            .iter()
            .find(|resource| resource.kind == *gvk && resource.is_stored())
    }

    /// The entry of the version that a resource's objects are stored as. It need not be served.
    pub fn storage_version(&self, resource: &Resource) -> Option<&Arc<Resource>> {
        self.by_kind(&resource.stored_as)
    }

    /// The entry in whose form writes are prepared, admitted and validated, and by whose name errors speak of objects: that
    /// of the stored version; for custom resources the version of the request.
    pub fn hub(resource: &Arc<Resource>) -> &Arc<Resource> {
        if resource.is_storage_version() || resource.custom.is_some() {
            return resource;
        }
        ResourceTable::builtin().storage_version(resource).unwrap_or(resource)
    }

    /// What of the table a server with this configuration serves.
    pub fn served(&self, config: &RuntimeConfig) -> ResourceTable {
        let mut table = self.clone();
        for group in &mut table.groups {
            for version in &mut group.versions {
                version.resources.retain(|entry| config.enables(&entry.group, &entry.version, &entry.plural));
            }
            group.versions.retain(|version| !version.resources.is_empty());
        }
        table.groups.retain(|group| !group.versions.is_empty());
        table.index();
        table
    }

    /// The table with more resources. Groups that it does not have yet come last, by name; the versions of a group as clients
    /// prefer them.
    pub fn with<'r>(&self, resources: impl IntoIterator<Item = &'r Arc<Resource>>) -> ResourceTable {
        let mut table = self.clone();
        let builtin = table.groups.len();
        for resource in resources {
            let at = *table.by_name.entry(resource.group.clone()).or_insert_with(|| {
                table.groups.push(Group { name: resource.group.clone(), versions: Vec::new() });
                table.groups.len() - 1
            });
            let versions = &mut table.groups[at].versions;
            let at = versions.iter().position(|version| version.name == resource.version).unwrap_or_else(|| {
                versions.push(Version {
                    name: resource.version.clone(),
                    resources: Vec::new(),
                    by_plural: HashMap::new(),
                });
                versions.len() - 1
            });
            // What is built in stays what it is.
            if versions[at].resources.iter().all(|other| other.plural != resource.plural) {
                versions[at].resources.push(resource.clone());
            }
        }
        for group in &mut table.groups[builtin..] {
            group.versions.sort_by_cached_key(|version| std::cmp::Reverse(priority(&version.name)));
            for version in &mut group.versions {
                version.resources.sort_by(|a, b| a.plural.cmp(&b.plural));
            }
        }
        table.groups[builtin..].sort_by(|a, b| a.name.cmp(&b.name));
        table.index();
        table
    }

    fn index(&mut self) {
        self.by_name = self.groups.iter().enumerate().map(|(at, group)| (group.name.clone(), at)).collect();
        for version in self.groups.iter_mut().flat_map(|group| &mut group.versions) {
            version.by_plural =
                version.resources.iter().enumerate().map(|(at, resource)| (resource.plural.clone(), at)).collect();
        }
    }

    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups.iter().flat_map(|group| group.versions.iter().flat_map(|version| &version.resources))
    }
}

/// What versions are ordered by (apimachinery `pkg/version`): `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then all others by
/// name, the first one first.
fn priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let name = std::cmp::Reverse(version.to_owned());
    let parse = || -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        for (word, stage) in [("alpha", 1), ("beta", 2)] {
            if let Some((major, minor)) = rest.split_once(word) {
                return Some((stage, number(major)?, number(minor)?));
            }
        }
        Some((3, number(rest)?, 0))
    };
    let (stage, major, minor) = parse().unwrap_or_default();
    (stage, major, minor, name)
}

/// A number as versions have them: without leading zeros.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text && *number > 0)
}

fn parse(text: &str, model: &Model) -> Result<ResourceTable, TableError> {
    let mut table = ResourceTable::default();
    let mut place: Option<(Arc<str>, Arc<str>)> = None;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let error = |message: String| TableError { line: index + 1, message };
        if let Some(sub) = line.strip_prefix("    /") {
            let resource = table
                .groups
                .last_mut()
                .and_then(|group| group.versions.last_mut()?.resources.last_mut())
                .ok_or_else(|| error("a subresource without its resource".into()))?;
            let sub = subresource(sub, resource).map_err(error)?;
            Arc::make_mut(resource).subresources.push(sub);
        } else if let Some(rest) = line.strip_prefix("  ") {
            let (group, version) = place.clone().ok_or_else(|| error("a resource before its group".into()))?;
            let entry = resource(rest, group, version, model).map_err(error)?;
            if let Some(version) = table.groups.last_mut().and_then(|group| group.versions.last_mut()) {
                version.resources.push(Arc::new(entry));
            }
        } else {
            let words: Vec<&str> = line.split(' ').collect();
            let ["group", group, version] = words[..] else {
                return Err(error("expected: group \"NAME\" VERSION".into()));
            };
            let (group, version): (Arc<str>, Arc<str>) = (group.trim_matches('"').into(), version.into());
            if table.groups.last().is_none_or(|last| last.name != group) {
                table.groups.push(Group { name: group.clone(), versions: Vec::new() });
            }
            if let Some(last) = table.groups.last_mut() {
                last.versions.push(Version { name: version.clone(), resources: Vec::new(), by_plural: HashMap::new() });
            }
            place = Some((group, version));
        }
    }
    share_storage(&mut table);
    table.index();
    Ok(table)
}

/// All versions of a resource are stored as the one that says so, or else as the first one of its group lists; the events of
/// events.k8s.io as the core's.
fn share_storage(table: &mut ResourceTable) {
    let mut first: HashMap<Arc<str>, Gvk> = HashMap::new();
    for resource in table.resources().filter(|resource| resource.is_stored()) {
        first.entry(resource.storage.clone()).or_insert_with(|| resource.stored_as.clone());
    }
    for resource in
        table.groups.iter_mut().flat_map(|group| &mut group.versions).flat_map(|version| &mut version.resources)
    {
        if let Some(stored) = first.get(&resource.storage).filter(|_| resource.is_stored()) {
            let resource = Arc::make_mut(resource);
            resource.stored_as = stored.clone();
            resource.conversion = convert::between(&resource.kind, stored);
        }
    }
}

fn resource(text: &str, group: Arc<str>, version: Arc<str>, model: &Model) -> Result<Resource, String> {
    let mut words = text.split(' ');
    let mut next = || words.next().ok_or_else(|| "too few words".to_owned());
    let (plural, singular, kind, scope) = (next()?, next()?, next()?, next()?);
    let namespaced = match scope {
        "namespaced" => true,
        "cluster" => false,
        _ => return Err(format!("unknown scope {scope:?}")),
    };
    let mut gvk = Gvk::new(&group, &version, kind);
    let mut stored_version = None;
    let mut entry = Resource {
        namespaced,
        short_names: Vec::new(),
        categories: Vec::new(),
        verbs: Verb::ALL.to_vec(),
        subresources: Vec::new(),
        storage: plural.into(),
        stored_as: gvk.clone(),
        conversion: None,
        custom: None,
        ty: TypeId(0),
        kind: gvk.clone(),
        plural: plural.into(),
        singular: singular.into(),
        group,
        version,
    };
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("unknown word {word:?}"))?;
        match name {
            "short" => entry.short_names = list(value),
            "categories" => entry.categories = list(value),
            "verbs" => entry.verbs = verbs(value)?,
            "store" => entry.storage = value.into(),
            "as" => gvk = foreign(value, kind)?,
            "stored" => stored_version = Some(value),
            _ => return Err(format!("unknown attribute {name:?}")),
        }
    }
    entry.ty = model.kind(&gvk).ok_or_else(|| format!("no type for {gvk:?}"))?;
    entry.stored_as = Gvk { version: stored_version.map_or_else(|| gvk.version.clone(), Into::into), ..gvk.clone() };
    entry.kind = gvk;
    Ok(entry)
}

fn subresource(text: &str, parent: &Resource) -> Result<Subresource, String> {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default();
    let mut kind = parent.kind.clone();
    let mut allowed = vec![Verb::Get, Verb::Patch, Verb::Update];
    let mut is_foreign = false;
    for word in words {
        match word.split_once('=') {
            Some(("verbs", value)) => allowed = verbs(value)?,
            Some(("as", value)) => {
                is_foreign = true;
                kind = foreign(value, &kind.kind)?;
            }
            None => kind.kind = word.into(),
            Some(_) => return Err(format!("unknown attribute {word:?}")),
        }
    }
    Ok(Subresource { name: name.into(), kind, foreign: is_foreign, verbs: allowed })
}

fn list(value: &str) -> Vec<Arc<str>> {
    value.split(',').map(Into::into).collect()
}

fn verbs(value: &str) -> Result<Vec<Verb>, String> {
    value.split(',').map(|verb| Verb::parse(verb).ok_or_else(|| format!("unknown verb {verb:?}"))).collect()
}

fn foreign(value: &str, kind: &str) -> Result<Gvk, String> {
    let (group, version) = value.split_once('/').ok_or_else(|| format!("as={value}: expected GROUP/VERSION"))?;
    Ok(Gvk::new(group, version, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = parse(SOURCE, Model::builtin()).unwrap();
        let pods = table.find("", "v1", "pods").unwrap();
        assert_eq!(pods.storage_key("default", "a"), "/registry/pods/default/a");
        assert_eq!(pods.subresource("exec").unwrap().verbs, [Verb::Create, Verb::Get]);
        let scale = table.find("apps", "v1", "deployments").unwrap().subresource("scale").unwrap().clone();
        assert_eq!(scale.kind, Gvk::new("autoscaling", "v1", "Scale"));
        let services = table.find("", "v1", "services").unwrap();
        assert_eq!(services.storage_key("a", "b"), "/registry/services/specs/a/b");
        assert_eq!(services.subresource("status").unwrap().kind.kind, "Service".into());
        assert!(!table.find("", "v1", "bindings").unwrap().is_stored());
        let events = table.find("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(events.stored_as, Gvk::new("", "v1", "Event"));
    }

    #[test]
    fn names_are_unique_within_a_version() {
        for group in &ResourceTable::builtin().groups {
            for version in &group.versions {
                let mut names: Vec<&str> = version.resources.iter().map(|resource| &*resource.plural).collect();
                let all = names.len();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), all, "{}/{}", group.name, version.name);
            }
        }
    }
}
