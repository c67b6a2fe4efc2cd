//! OpenAPI documents: whole, without dangling references, and with what kubectl looks for.

use std::collections::BTreeSet;

use api::{Model, ResourceTable, Value, json, openapi};

fn v2() -> Value {
    json::parse(&openapi::v2(ResourceTable::builtin())).unwrap()
}

fn v3(key: &str) -> Value {
    json::parse(&openapi::v3(ResourceTable::builtin(), key).unwrap_or_else(|| panic!("no {key}"))).unwrap()
}

/// All `$ref`s in a tree.
fn references<'v>(value: &'v Value, out: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, member)| match member {
            Value::String(text) if name == "$ref" => drop(out.insert(text)),
            other => references(other, out),
        }),
        Value::Array(items) => items.iter().for_each(|item| references(item, out)),
        _ => {}
    }
}

#[track_caller]
fn check_references(document: &Value, what: &str) {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    for reference in found {
        let path: Vec<&str> = reference.trim_start_matches("#/").split('/').collect();
        assert!(document.at(&path).is_some(), "{what}: {reference} leads nowhere");
    }
}

fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document.get("paths").and_then(Value::as_object).unwrap();
    let items = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, value)| (path, method, value)));
    items.filter(|(_, method, _)| *method != "parameters").collect()
}

#[test]
fn version_2_is_whole() {
    let document = v2();
    check_references(&document, "v2");
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        assert!(ids.insert(operation.str_at(&["operationId"])), "{method} {path}");
        assert!(operation.at(&["responses", "401", "description"]).is_some(), "{method} {path}");
    }
    // Every kind that has a path can be explained and validated.
    for resource in ResourceTable::builtin().resources() {
        let name = &Model::builtin().get(resource.ty).openapi;
        let kinds = document.at(&["definitions", name, "x-kubernetes-group-version-kind"]).and_then(Value::as_array);
        assert_eq!(kinds.map(|kinds| kinds[0].str_at(&["kind"])), Some(&*resource.kind.kind), "{name}");
    }
}

#[test]
fn kubectl_finds_the_parameters_of_patches_in_the_operation_itself() {
    for (path, method, operation) in operations(&v2())
        .into_iter()
        .filter(|(_, method, operation)| *method == "patch" && operation.str_at(&["x-kubernetes-action"]) == "patch")
    {
        let parameters = operation.get("parameters").and_then(Value::as_array).unwrap();
        let names: Vec<&str> = parameters.iter().map(|parameter| parameter.str_at(&["name"])).collect();
        assert!(names.contains(&"dryRun") && names.contains(&"fieldValidation"), "{method} {path}: {names:?}");
    }
}

#[test]
fn operations_are_named_as_upstreams() {
    let document = v2();
    let cases = [
        ("/api/v1/pods", "get", "listCoreV1PodForAllNamespaces", "list", "core_v1"),
        (
            "/api/v1/namespaces/{namespace}/pods",
            "delete",
            "deleteCoreV1CollectionNamespacedPod",
            "deletecollection",
            "core_v1",
        ),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/exec",
            "post",
            "connectCoreV1PostNamespacedPodExec",
            "connect",
            "core_v1",
        ),
        (
            "/api/v1/namespaces/{namespace}/pods/{name}/proxy/{path}",
            "head",
            "connectCoreV1HeadNamespacedPodProxyWithPath",
            "connect",
            "core_v1",
        ),
        ("/api/v1/namespaces/{namespace}/pods/{name}/log", "get", "readCoreV1NamespacedPodLog", "get", "core_v1"),
        ("/api/v1/namespaces/{name}/finalize", "put", "replaceCoreV1NamespaceFinalize", "put", "core_v1"),
        ("/apis/apps/v1/watch/deployments", "get", "watchAppsV1DeploymentListForAllNamespaces", "watchlist", "apps_v1"),
        (
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale",
            "patch",
            "patchAppsV1NamespacedDeploymentScale",
            "patch",
            "apps_v1",
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            "post",
            "createRbacAuthorizationV1ClusterRole",
            "post",
            "rbacAuthorization_v1",
        ),
        ("/apis/apps/", "get", "getAppsAPIGroup", "", "apps"),
        ("/apis/apps/v1/", "get", "getAppsV1APIResources", "", "apps_v1"),
        ("/version/", "get", "getCodeVersion", "", "version"),
    ];
    for (path, method, id, action, tag) in cases {
        let operation = document.at(&["paths", path, method]).unwrap_or_else(|| panic!("no {method} {path}"));
        let tags = operation.get("tags").and_then(Value::as_array).unwrap();
        let found =
            (operation.str_at(&["operationId"]), operation.str_at(&["x-kubernetes-action"]), tags[0].as_str().unwrap());
        assert_eq!(found, (id, action, tag), "{method} {path}");
    }
    assert!(
        document.at(&["paths", "/api/v1/watch/componentstatuses"]).is_none(),
        "component statuses cannot be watched"
    );
}

#[test]
fn schemas_carry_what_merging_needs() {
    let (second, third) = (v2(), v3("api/v1"));
    let spec = |document: &Value, root: &[&str], field: &str| {
        let path: Vec<&str> = root.iter().copied().chain(["io.k8s.api.core.v1.PodSpec", "properties", field]).collect();
        document.at(&path).cloned().unwrap_or_else(|| panic!("{path:?}"))
    };
    for (document, root) in [(&second, ["definitions"].as_slice()), (&third, &["components", "schemas"])] {
        let volumes = spec(document, root, "volumes");
        assert_eq!(volumes.str_at(&["x-kubernetes-patch-strategy"]), "merge,retainKeys");
        assert_eq!(volumes.str_at(&["x-kubernetes-patch-merge-key"]), "name");
        assert_eq!(volumes.str_at(&["x-kubernetes-list-type"]), "map");
        assert_eq!(volumes.get("x-kubernetes-list-map-keys"), Some(&Value::Array(vec!["name".into()])));
    }
    let quantity = "io.k8s.apimachinery.pkg.api.resource.Quantity";
    assert_eq!(second.str_at(&["definitions", quantity, "type"]), "string");
    assert!(third.at(&["components", "schemas", quantity, "oneOf"]).is_some());
    let protocol = ["io.k8s.api.core.v1.ContainerPort", "properties", "protocol", "default"];
    assert_eq!(third.at(&["components", "schemas"]).and_then(|schemas| schemas.at(&protocol)), Some(&"TCP".into()));
    assert_eq!(second.at(&["definitions"]).and_then(|schemas| schemas.at(&protocol)), None);
    let selector =
        third.at(&["components", "schemas", "io.k8s.api.core.v1.PersistentVolumeClaimSpec", "properties", "selector"]);
    assert!(selector.is_some_and(|selector| selector.get("allOf").is_some() && selector.get("$ref").is_none()));
}

#[test]
fn every_document_of_version_3_is_whole() {
    let table = ResourceTable::builtin();
    let keys = openapi::v3_keys(table);
    assert!(
        ["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version"]
            .iter()
            .all(|key| keys.iter().any(|known| known == key))
    );
    let mut paths = 0;
    for key in &keys {
        let document = v3(key);
        check_references(&document, key);
        assert!(!operations(&document).is_empty(), "{key}");
        paths += document.get("paths").and_then(Value::as_object).unwrap().len();
    }
    assert_eq!(paths, v2().get("paths").and_then(Value::as_object).unwrap().len());
    for key in ["", "apis/none", "api/v2", "apis/apps/v1/deployments", "apisx"] {
        assert!(openapi::v3(table, key).is_none(), "{key}");
    }
}

#[test]
fn the_index_leads_to_the_documents() {
    let index = openapi::v3_index(ResourceTable::builtin(), |key| format!("h{}", key.len()));
    let url = index.str_at(&["paths", "apis/apps/v1", "serverRelativeURL"]);
    assert_eq!(url, "/openapi/v3/apis/apps/v1?hash=h12");
}

/// The fields of a protobuf message: numbers as they are, the others' bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (number, rest) = bytes.split_at(length);
        *bytes = rest;
        number.iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let number = varint(&mut bytes);
        let content = match key & 7 {
            0 => &[][..],
            2 => bytes.split_off(..number as usize).unwrap(),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, number, content));
    }
    found
}

/// What stands under a path of tags; the last of several.
fn under<'b>(bytes: &'b [u8], path: &[u64]) -> &'b [u8] {
    path.iter().fold(bytes, |bytes, tag| {
        fields(bytes).into_iter().rfind(|field| field.0 == *tag).map(|field| field.2).unwrap()
    })
}

/// The value of `NamedX { name = 1, value = 2 }` under `tag`.
fn named<'b>(bytes: &'b [u8], tag: u64, name: &str) -> &'b [u8] {
    let all = fields(bytes).into_iter().filter(|field| field.0 == tag);
    all.map(|field| field.2)
        .find(|entry| under(entry, &[1]) == name.as_bytes())
        .map(|entry| under(entry, &[2]))
        .unwrap()
}

#[test]
fn version_2_is_the_same_in_protobuf() {
    let text = openapi::v2(ResourceTable::builtin());
    let (tree, message) = (json::parse(&text).unwrap(), openapi::v2_protobuf(&text).unwrap());
    assert_eq!((under(&message, &[1]), under(&message, &[2, 1])), (&b"2.0"[..], &b"Kubernetes"[..]));
    for (name, tag, inner) in
        [("paths", 8, 2), ("definitions", 9, 1), ("parameters", 10, 1), ("securityDefinitions", 13, 1)]
    {
        let expected = tree.get(name).and_then(Value::as_object).unwrap().len();
        let found = fields(under(&message, &[tag])).iter().filter(|field| field.0 == inner).count();
        assert_eq!((found, expected > 0), (expected, true), "{name}");
    }
    // What kubectl reads: kinds of definitions, merge keys of properties, parameters of patches.
    let definition = named(under(&message, &[9]), 1, "io.k8s.api.core.v1.PodSpec");
    assert_eq!(under(definition, &[22, 1]), b"object");
    let volumes = named(under(definition, &[25]), 1, "volumes");
    assert_eq!(under(named(volumes, 31, "x-kubernetes-patch-merge-key"), &[2]), b"\"name\"");
    assert_eq!(under(volumes, &[23, 1, 1]), b"#/definitions/io.k8s.api.core.v1.Volume");
    let labels = named(
        under(named(under(&message, &[9]), 1, "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), &[25]),
        1,
        "labels",
    );
    assert_eq!(under(labels, &[21, 1, 22, 1]), b"string");
    let item = named(under(&message, &[8]), 2, "/api/v1/namespaces/{namespace}/pods/{name}");
    let patch = under(item, &[8]);
    let kind = named(patch, 13, "x-kubernetes-group-version-kind");
    assert_eq!(under(kind, &[2]), br#"{"group":"","kind":"Pod","version":"v1"}"#);
    let parameters: Vec<&[u8]> = fields(patch).into_iter().filter(|field| field.0 == 8).map(|field| field.2).collect();
    assert_eq!(under(parameters[0], &[1, 1, 3]), b"body");
    assert!(
        parameters
            .iter()
            .any(|parameter| fields(parameter)[0].0 == 1 && parameter.windows(6).any(|part| part == b"dryRun"))
    );
    assert!(parameters.iter().any(|parameter| fields(parameter)[0].0 == 2), "a reference");
    let answer = named(under(patch, &[9]), 1, "200");
    assert_eq!(under(answer, &[1, 2, 1, 1]), b"#/definitions/io.k8s.api.core.v1.Pod");
}
