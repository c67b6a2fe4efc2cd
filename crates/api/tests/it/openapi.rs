//! OpenAPI documents: whole, without dangling references, and with what kubectl looks for.

use std::collections::BTreeSet;

use api::{Model, ResourceTable, Value, json, openapi};

fn v2() -> Value {
    json::parse(&openapi::v2(ResourceTable::builtin(), Model::builtin())).unwrap()
}

fn v3(key: &str) -> Value {
    json::parse(&openapi::v3(ResourceTable::builtin(), Model::builtin(), key).unwrap_or_else(|| panic!("no {key}"))).unwrap()
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
    let items = paths.iter().flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, value)| (path, method, value)));
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
    for (path, method, operation) in operations(&v2()).into_iter().filter(|(_, method, operation)| *method == "patch" && operation.str_at(&["x-kubernetes-action"]) == "patch") {
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
        ("/api/v1/namespaces/{namespace}/pods", "delete", "deleteCoreV1CollectionNamespacedPod", "deletecollection", "core_v1"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/exec", "post", "connectCoreV1PostNamespacedPodExec", "connect", "core_v1"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/proxy/{path}", "head", "connectCoreV1HeadNamespacedPodProxyWithPath", "connect", "core_v1"),
        ("/api/v1/namespaces/{namespace}/pods/{name}/log", "get", "readCoreV1NamespacedPodLog", "get", "core_v1"),
        ("/api/v1/namespaces/{name}/finalize", "put", "replaceCoreV1NamespaceFinalize", "put", "core_v1"),
        ("/apis/apps/v1/watch/deployments", "get", "watchAppsV1DeploymentListForAllNamespaces", "watchlist", "apps_v1"),
        ("/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale", "patch", "patchAppsV1NamespacedDeploymentScale", "patch", "apps_v1"),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", "post", "createRbacAuthorizationV1ClusterRole", "post", "rbacAuthorization_v1"),
        ("/apis/apps/", "get", "getAppsAPIGroup", "", "apps"),
        ("/apis/apps/v1/", "get", "getAppsV1APIResources", "", "apps_v1"),
        ("/version/", "get", "getCodeVersion", "", "version"),
    ];
    for (path, method, id, action, tag) in cases {
        let operation = document.at(&["paths", path, method]).unwrap_or_else(|| panic!("no {method} {path}"));
        let tags = operation.get("tags").and_then(Value::as_array).unwrap();
        let found = (operation.str_at(&["operationId"]), operation.str_at(&["x-kubernetes-action"]), tags[0].as_str().unwrap());
        assert_eq!(found, (id, action, tag), "{method} {path}");
    }
    assert!(document.at(&["paths", "/api/v1/watch/componentstatuses"]).is_none(), "component statuses cannot be watched");
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
    let selector = third.at(&["components", "schemas", "io.k8s.api.core.v1.PersistentVolumeClaimSpec", "properties", "selector"]);
    assert!(selector.is_some_and(|selector| selector.get("allOf").is_some() && selector.get("$ref").is_none()));
}

#[test]
fn every_document_of_version_3_is_whole() {
    let table = ResourceTable::builtin();
    let keys = openapi::v3_keys(table);
    assert!(["api", "api/v1", "apis", "apis/apps", "apis/apps/v1", "version"].iter().all(|key| keys.iter().any(|known| known == key)));
    let mut paths = 0;
    for key in &keys {
        let document = v3(key);
        check_references(&document, key);
        assert!(!operations(&document).is_empty(), "{key}");
        paths += document.get("paths").and_then(Value::as_object).unwrap().len();
    }
    assert_eq!(paths, v2().get("paths").and_then(Value::as_object).unwrap().len());
    for key in ["", "apis/none", "api/v2", "apis/apps/v1/deployments", "apisx"] {
        assert!(openapi::v3(table, Model::builtin(), key).is_none(), "{key}");
    }
}

#[test]
fn the_index_leads_to_the_documents() {
    let index = openapi::v3_index(ResourceTable::builtin(), |key| format!("h{}", key.len()));
    let url = index.str_at(&["paths", "apis/apps/v1", "serverRelativeURL"]);
    assert_eq!(url, "/openapi/v3/apis/apps/v1?hash=h12");
}
