//! Discovery documents from the resource table: the classic ones (`APIVersions`, `APIGroupList`, `APIResourceList`) and
//! the aggregated one (`apidiscovery.k8s.io/v2`).

use crate::{
    Value,
    model::api_version,
    resource::{Group, Resource, ResourceTable, Subresource, Verb, Version},
    value::{object, strings},
};

fn verbs(verbs: &[Verb]) -> Value {
    let mut names: Vec<&str> = verbs.iter().map(|verb| verb.as_str()).collect();
    names.sort_unstable();
    strings(&names)
}

/// `/api`: `server` is the `host:port` that clients are told of.
pub fn core_versions(table: &ResourceTable, server: &str) -> Value {
    let versions: Vec<&str> =
        table.group("").map(|group| group.versions.iter().map(|version| &*version.name).collect()).unwrap_or_default();
    object([
        ("kind", "APIVersions".into()),
        ("versions", strings(&versions)),
        (
            "serverAddressByClientCIDRs",
            vec![object([("clientCIDR", "0.0.0.0/0".into()), ("serverAddress", server.into())])].into(),
        ),
    ])
}

/// `/apis`
pub fn groups(table: &ResourceTable) -> Value {
    let named = table.groups.iter().filter(|group| !group.name.is_empty());
    object([
        ("kind", "APIGroupList".into()),
        ("apiVersion", "v1".into()),
        ("groups", named.map(describe_group).collect::<Vec<_>>().into()),
    ])
}

/// `/apis/GROUP`; `None` for an unknown group.
pub fn group(table: &ResourceTable, name: &str) -> Option<Value> {
    let group = table.group(name).filter(|group| !group.name.is_empty())?;
    let mut document = describe_group(group);
    if let Some(map) = document.as_object_mut() {
        map.insert_first("apiVersion", "v1");
        map.insert_first("kind", "APIGroup");
    }
    Some(document)
}

fn describe_group(group: &Group) -> Value {
    let version = |version: &Version| {
        object([("groupVersion", api_version(&group.name, &version.name).into()), ("version", (&*version.name).into())])
    };
    let preferred = group.versions.first().map(version).unwrap_or_default();
    object([
        ("name", (&*group.name).into()),
        ("versions", group.versions.iter().map(version).collect::<Vec<_>>().into()),
        ("preferredVersion", preferred),
    ])
}

/// `/api/v1` or `/apis/GROUP/VERSION`; `None` where there is no such version.
pub fn resources(table: &ResourceTable, group: &str, version: &str) -> Option<Value> {
    let entry = table.version(group, version)?;
    let mut list = Vec::new();
    for resource in &entry.resources {
        list.push(describe(resource));
        list.extend(resource.subresources.iter().map(|sub| describe_subresource(resource, sub)));
    }
    list.sort_by(|a, b| a.str_at(&["name"]).cmp(b.str_at(&["name"])));
    let mut document = object([
        ("kind", "APIResourceList".into()),
        ("groupVersion", api_version(group, version).into()),
        ("resources", list.into()),
    ]);
    // As upstream: its list for the core group is older than the version of lists.
    if !group.is_empty() {
        document.set(&["apiVersion"], "v1");
    }
    Some(document)
}

fn describe(resource: &Resource) -> Value {
    let mut document = object([
        ("name", (&*resource.plural).into()),
        ("singularName", (&*resource.singular).into()),
        ("namespaced", resource.namespaced.into()),
    ]);
    if resource.kind.group != resource.group.as_ref().into()
        || resource.kind.version != resource.version.as_ref().into()
    {
        document.set(&["group"], &*resource.kind.group);
        document.set(&["version"], &*resource.kind.version);
    }
    document.set(&["kind"], &*resource.kind.kind);
    document.set(&["verbs"], verbs(&resource.listed_verbs()));
    if !resource.short_names.is_empty() {
        document.set(&["shortNames"], strings(&resource.short_names));
    }
    if !resource.categories.is_empty() {
        document.set(&["categories"], strings(&resource.categories));
    }
    if resource.is_stored() {
        document.set(&["storageVersionHash"], storage_version_hash(resource));
    }
    document
}

fn describe_subresource(resource: &Resource, sub: &Subresource) -> Value {
    let mut document = object([
        ("name", format!("{}/{}", resource.plural, sub.name).into()),
        ("singularName", "".into()),
        ("namespaced", resource.namespaced.into()),
    ]);
    if sub.foreign {
        document.set(&["group"], &*sub.kind.group);
        document.set(&["version"], &*sub.kind.version);
    }
    document.set(&["kind"], &*sub.kind.kind);
    document.set(&["verbs"], verbs(&sub.verbs));
    document
}

/// A word that changes with the version that objects are stored as (apiserver `pkg/endpoints/discovery/storageversionhash.go`).
fn storage_version_hash(resource: &Resource) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};
    let kind = &resource.stored_as;
    let hash = Sha256::digest(format!("{}/{}/{}", kind.group, kind.version, kind.kind));
    STANDARD.encode(&hash[..8])
}

/// The aggregated document of `/api` (`core`) or `/apis`.
pub fn aggregated(table: &ResourceTable, core: bool) -> Value {
    let groups = table.groups.iter().filter(|group| group.name.is_empty() == core);
    object([
        ("kind", "APIGroupDiscoveryList".into()),
        ("apiVersion", "apidiscovery.k8s.io/v2".into()),
        ("metadata", Value::object()),
        ("items", groups.map(aggregate_group).collect::<Vec<_>>().into()),
    ])
}

fn aggregate_group(group: &Group) -> Value {
    let versions = group.versions.iter().map(|version| {
        object([
            ("version", (&*version.name).into()),
            (
                "resources",
                version.resources.iter().map(|resource| aggregate_resource(resource)).collect::<Vec<_>>().into(),
            ),
            ("freshness", "Current".into()),
        ])
    });
    let metadata = if group.name.is_empty() { Value::object() } else { object([("name", (&*group.name).into())]) };
    object([("metadata", metadata), ("versions", versions.collect::<Vec<_>>().into())])
}

fn response_kind(resource: &Resource, kind: &crate::model::Gvk, foreign: bool) -> Value {
    // As upstream writes it: group and version only where they are not the resource's own.
    let own =
        !foreign && kind.group == resource.group.as_ref().into() && kind.version == resource.version.as_ref().into();
    let (group, version) = if own { ("", "") } else { (&*kind.group, &*kind.version) };
    object([("group", group.into()), ("version", version.into()), ("kind", (&*kind.kind).into())])
}

fn aggregate_resource(resource: &Resource) -> Value {
    let mut document = object([
        ("resource", (&*resource.plural).into()),
        ("responseKind", response_kind(resource, &resource.kind, false)),
        ("scope", if resource.namespaced { "Namespaced" } else { "Cluster" }.into()),
        ("singularResource", (&*resource.singular).into()),
        ("verbs", verbs(&resource.listed_verbs())),
    ]);
    if !resource.short_names.is_empty() {
        document.set(&["shortNames"], strings(&resource.short_names));
    }
    if !resource.categories.is_empty() {
        document.set(&["categories"], strings(&resource.categories));
    }
    if !resource.subresources.is_empty() {
        let subs = resource.subresources.iter().map(|sub| {
            object([
                ("subresource", (&*sub.name).into()),
                ("responseKind", response_kind(resource, &sub.kind, sub.foreign)),
                ("verbs", verbs(&sub.verbs)),
            ])
        });
        document.set(&["subresources"], subs.collect::<Vec<_>>());
    }
    document
}
