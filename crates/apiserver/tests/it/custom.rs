//! CustomResourceDefinitions: how one becomes a resource, what the resource does, and how both go.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use apiserver::{Server, SystemClock, UserInfo};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use store::{
    Store,
    embedded::{Embedded, EmbeddedOptions},
};
use tokio_util::sync::CancellationToken;

use crate::harness::{Harness, config};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A definition of namespaced widgets in version `v1`.
fn widgets() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}],
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {"type": "object", "required": ["color"], "properties": {
                            "color": {"type": "string", "enum": ["red", "blue"], "description": "Its paint."},
                            "replicas": {"type": "integer", "maximum": 10},
                            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                                "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}}
                        }},
                        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}
                    }
                }}
            }]
        }
    })
}

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !check().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn condition<'v>(definition: &'v Value, kind: &str) -> &'v Value {
    let none = &Value::Null;
    let conditions = definition["status"]["conditions"].as_array();
    conditions.and_then(|list| list.iter().find(|entry| entry["type"] == kind)).unwrap_or(none)
}

pub async fn established(server: &Harness, definition: &Value) {
    let (code, created) = server.post(DEFINITIONS, &definition.to_string()).await;
    assert_eq!(code, StatusCode::CREATED, "{created}");
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().unwrap());
    until("established", async || condition(&server.get(&path).await.1, "Established")["status"] == "True").await;
}

#[tokio::test]
async fn a_definition_becomes_a_resource_and_takes_it_along() {
    let server = Harness::start().await;
    let (code, _) = server.get(WIDGETS).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    established(&server, &widgets()).await;

    let (_, definition) = server.get(&format!("{DEFINITIONS}/widgets.example.com")).await;
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(definition["status"]["acceptedNames"]["listKind"], "WidgetList");
    assert_eq!(condition(&definition, "NamesAccepted")["reason"], "NoConflicts");

    let widget = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a"},"spec":{"color":"red","noise":1},"status":{"replicas":1}}"#;
    let (code, created) = server.post(WIDGETS, widget).await;
    assert_eq!(code, StatusCode::CREATED, "{created}");
    assert_eq!(created["spec"], json!({"color": "red"}));
    assert_eq!((&created["status"], &created["metadata"]["generation"]), (&Value::Null, &json!(1)));
    let (code, refused) =
        server.post(&format!("{WIDGETS}?fieldValidation=Strict"), &widget.replace("\"a\"", "\"b\"")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert_eq!(
        refused["message"],
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.noise\""
    );
    let (code, invalid) = server
        .post(
            WIDGETS,
            r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"b"},"spec":{"replicas":11}}"#,
        )
        .await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        invalid["message"],
        "Widget.example.com \"b\" is invalid: [spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10, spec.color: Required value]"
    );

    let (_, list) = server.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred")).await;
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&json!("WidgetList"), Some(1)));
    let (_, none) = server.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dblue")).await;
    assert_eq!(none["items"], json!([]));
    let (code, _) = server.get(&format!("{WIDGETS}?fieldSelector=spec.replicas%3D1")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);

    // Deleting the definition deletes the widget; one that is held holds the definition.
    server.patch(&format!("{WIDGETS}/a"), "merge", r#"{"metadata":{"finalizers":["example.com/hold"]}}"#).await;
    let (code, _) = server.delete(&format!("{DEFINITIONS}/widgets.example.com")).await;
    assert_eq!(code, StatusCode::OK);
    until("the widget is marked", async || {
        server.get(&format!("{WIDGETS}/a")).await.1["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    let (_, definition) = server.get(&format!("{DEFINITIONS}/widgets.example.com")).await;
    assert_eq!(condition(&definition, "Terminating")["status"], "True");
    let (code, refused) = server.post(WIDGETS, &widget.replace("\"a\"", "\"c\"")).await;
    assert!(code.is_client_error(), "{refused}");
    let (code, freed) = server.patch(&format!("{WIDGETS}/a"), "merge", r#"{"metadata":{"finalizers":null}}"#).await;
    assert_eq!(code, StatusCode::OK, "{freed}");
    until("the definition is gone", async || {
        server.get(&format!("{DEFINITIONS}/widgets.example.com")).await.0 == StatusCode::NOT_FOUND
    })
    .await;
    until("the resource is gone", async || server.get(WIDGETS).await.0 == StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn status_and_scale_are_their_own() {
    let server = Harness::start().await;
    established(&server, &widgets()).await;
    server.post(WIDGETS, r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a"},"spec":{"color":"red","replicas":2}}"#).await;

    let status = r#"{"spec":{"color":"blue"},"status":{"replicas":2,"selector":"app=a"}}"#;
    let (code, updated) = server.patch(&format!("{WIDGETS}/a/status"), "merge", status).await;
    assert_eq!(code, StatusCode::OK, "{updated}");
    assert_eq!((&updated["spec"]["color"], &updated["metadata"]["generation"]), (&json!("red"), &json!(1)));
    let (_, updated) =
        server.patch(&format!("{WIDGETS}/a"), "merge", r#"{"spec":{"color":"blue"},"status":{"replicas":9}}"#).await;
    assert_eq!((&updated["status"]["replicas"], &updated["metadata"]["generation"]), (&json!(2), &json!(2)));

    let (_, scale) = server.get(&format!("{WIDGETS}/a/scale")).await;
    assert_eq!(scale["kind"], "Scale", "{scale}");
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]),
        (&json!(2), &json!({"replicas": 2, "selector": "app=a"}))
    );
    let (code, scale) = server.patch(&format!("{WIDGETS}/a/scale"), "merge", r#"{"spec":{"replicas":3}}"#).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (StatusCode::OK, &json!(3)), "{scale}");
    let (code, _) = server.patch(&format!("{WIDGETS}/a/scale"), "merge", r#"{"spec":{"replicas":11}}"#).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let (code, refused) = server.patch(&format!("{WIDGETS}/a"), "strategic-merge", "{}").await;
    assert_eq!(code, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{refused}");
}

#[tokio::test]
async fn several_appliers_share_a_custom_resource() {
    let server = Harness::start().await;
    established(&server, &widgets()).await;
    let apply = async |manager: &str, spec: Value| {
        let body = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec});
        server
            .call(
                Method::PATCH,
                &format!("{WIDGETS}/a?fieldManager={manager}"),
                "application/apply-patch+yaml",
                body.to_string(),
            )
            .await
    };
    let (code, made) = apply("one", json!({"color": "red", "ports": [{"name": "x", "port": 1}]})).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let (code, both) = apply("two", json!({"color": "red", "ports": [{"name": "y", "port": 2}]})).await;
    assert_eq!(code, StatusCode::OK, "{both}");
    assert_eq!(both["spec"]["ports"], json!([{"name": "x", "port": 1}, {"name": "y", "port": 2}]));
    let (code, conflict) = apply("two", json!({"color": "blue"})).await;
    assert_eq!(
        (code, &conflict["details"]["causes"][0]["field"]),
        (StatusCode::CONFLICT, &json!(".spec.color")),
        "{conflict}"
    );
    let (_, last) = apply("one", json!({"color": "red"})).await;
    assert_eq!(last["spec"]["ports"], json!([{"name": "y", "port": 2}]));
}

#[tokio::test]
async fn objects_are_served_in_every_version_and_stored_in_one() {
    let server = Harness::start().await;
    let mut definition = widgets();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["deprecated"] = json!(true);
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    established(&server, &definition).await;
    let widget = r#"{"apiVersion":"example.com/v2","kind":"Widget","metadata":{"name":"a"},"spec":{"color":"red"}}"#;
    let (code, created) = server.post("/apis/example.com/v2/namespaces/default/widgets", widget).await;
    assert_eq!((code, &created["apiVersion"]), (StatusCode::CREATED, &json!("example.com/v2")), "{created}");
    let (_, read) = server.get(&format!("{WIDGETS}/a")).await;
    assert_eq!(read["apiVersion"], "example.com/v1");
    let (_, groups) = server.get("/apis/example.com").await;
    assert_eq!(groups["preferredVersion"]["version"], "v2");

    // A new default shows on what is stored already.
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let add = r#"[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size","value":{"type":"integer","default":7}}]"#;
    let (code, patched) = server.patch(&path, "json", add).await;
    assert_eq!(code, StatusCode::OK, "{patched}");
    until("the default shows", async || server.get(&format!("{WIDGETS}/a")).await.1["spec"]["size"] == 7).await;

    // What has been stored as v1 keeps v1 listed.
    let swap = r#"[{"op":"replace","path":"/spec/versions/0/storage","value":false},{"op":"replace","path":"/spec/versions/1/storage","value":true}]"#;
    let (code, swapped) = server.patch(&path, "json", swap).await;
    assert_eq!((code, &swapped["status"]["storedVersions"]), (StatusCode::OK, &json!(["v1", "v2"])), "{swapped}");
    let (code, refused) = server.patch(&path, "json", r#"[{"op":"remove","path":"/spec/versions/0"}]"#).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused["message"].as_str().unwrap().contains("v1 was previously a storage version"), "{refused}");
}

#[tokio::test]
async fn names_are_given_once() {
    let server = Harness::start().await;
    established(&server, &widgets()).await;
    let mut other = widgets();
    other["metadata"]["name"] = json!("gadgets.example.com");
    other["spec"]["names"] = json!({"plural": "gadgets", "kind": "Widget"});
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    let (code, _) = server.post(DEFINITIONS, &other.to_string()).await;
    assert_eq!(code, StatusCode::CREATED);
    until("the conflict is told", async || condition(&server.get(&path).await.1, "NamesAccepted")["status"] == "False")
        .await;
    let (_, definition) = server.get(&path).await;
    assert_eq!(condition(&definition, "NamesAccepted")["message"], "\"WidgetList\" is already in use");
    assert_eq!(condition(&definition, "Established")["reason"], "NotAccepted");
    let (code, _) = server.get("/apis/example.com/v1/namespaces/default/gadgets").await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    // When the names become free, it gets them.
    server.delete(&format!("{DEFINITIONS}/widgets.example.com")).await;
    until("the names are free", async || condition(&server.get(&path).await.1, "Established")["status"] == "True")
        .await;
}

#[tokio::test]
async fn definitions_are_checked() {
    let server = Harness::start().await;
    for (pointer, value, expected) in [
        ("/metadata/name", json!("x.example.com"), "must be spec.names.plural+\\\".\\\"+spec.group"),
        ("/spec/group", json!("example"), "should be a domain with at least one dot"),
        ("/spec/scope", json!("Universe"), "supported values: \\\"Cluster\\\", \\\"Namespaced\\\""),
        ("/spec/versions/0/storage", json!(false), "must have exactly one version marked as storage version"),
        ("/spec/versions/0/schema/openAPIV3Schema/type", json!("string"), "must be object at the root"),
        (
            "/spec/versions/0/additionalPrinterColumns/0/jsonPath",
            json!("spec"),
            "must be a simple json path starting with .",
        ),
        ("/spec/versions/0/selectableFields/0/jsonPath", json!(".spec.shape"), "is an invalid path"),
        (
            "/spec/versions/0/subresources/scale/specReplicasPath",
            json!(".status.replicas"),
            "should be a json path under .spec",
        ),
        ("/spec/conversion", json!({"strategy": "Webhook"}), "conversion by webhooks is not supported yet"),
        (
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations",
            json!([{"rule": "true"}]),
            "validation rules in CEL are not supported yet",
        ),
    ] {
        let mut definition = widgets();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        definition.pointer_mut(parent).unwrap()[name] = value;
        let (code, refused) = server.post(DEFINITIONS, &definition.to_string()).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{pointer}: {refused}");
        assert!(refused["message"].to_string().contains(expected), "{pointer}: {refused}");
    }
}

#[tokio::test]
async fn tables_watches_and_documents_know_custom_resources() {
    let server = Harness::start().await;
    established(&server, &widgets()).await;
    server
        .post(
            WIDGETS,
            r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"a"},"spec":{"color":"red"}}"#,
        )
        .await;
    let request =
        http::Request::builder().uri(WIDGETS).header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    let response = server.send(request.body(Default::default()).unwrap()).await;
    let table: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(table["columnDefinitions"][1]["name"], "Color", "{table}");
    assert_eq!(table["rows"][0]["cells"], json!(["a", "red"]));

    let request = http::Request::builder().uri(format!("{WIDGETS}?watch=1")).body(Default::default()).unwrap();
    let mut watch = server.send(request).await.into_body();
    let frame = watch.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(frame.starts_with(br#"{"type":"ADDED","object":{"kind":"Widget","apiVersion":"example.com/v1","#));

    let (_, resources) = server.get("/apis/example.com/v1").await;
    let names: Vec<&str> =
        resources["resources"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["widgets", "widgets/scale", "widgets/status"]);
    assert_eq!(resources["resources"][0]["shortNames"], json!(["wd"]));
    let (_, index) = server.get("/openapi/v3").await;
    assert!(index["paths"]["apis/example.com/v1"]["serverRelativeURL"].is_string());
    let (_, document) = server.get("/openapi/v3/apis/example.com/v1").await;
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["color"]["description"], "Its paint.");
    assert_eq!(
        schema["x-kubernetes-group-version-kind"],
        json!([{"group": "example.com", "kind": "Widget", "version": "v1"}])
    );
    assert!(document["components"]["schemas"]["com.example.v1.WidgetList"].is_object());
    assert!(document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/scale"].is_object());
    let (_, old) = server.get("/openapi/v2").await;
    assert!(old["definitions"]["com.example.v1.Widget"].is_object());

    // The watch ends with the resource.
    server.delete(&format!("{DEFINITIONS}/widgets.example.com")).await;
    let rest = tokio::time::timeout(Duration::from_secs(10), watch.collect())
        .await
        .expect("the watch ends")
        .unwrap()
        .to_bytes();
    assert!(rest.starts_with(br#"{"type":"DELETED""#), "{rest:?}");
    let (_, groups) = server.get("/apis").await;
    assert!(!groups.to_string().contains("example.com"));
}

#[tokio::test]
async fn a_thousand_definitions_do_not_slow_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Embedded::open(EmbeddedOptions::new(dir.path())).unwrap());
    let definition = |index: usize| {
        let mut definition = widgets();
        let plural = format!("widgets{index}");
        definition["metadata"] = json!({"name": format!("{plural}.example.com"), "uid": index.to_string()});
        definition["spec"]["names"] = json!({"plural": plural, "singular": plural, "kind": format!("Widget{index}"), "listKind": format!("Widget{index}List")});
        definition["status"] = json!({
            "acceptedNames": definition["spec"]["names"],
            "storedVersions": ["v1"],
            "conditions": [{"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}],
        });
        (
            format!("/registry/apiextensions.k8s.io/customresourcedefinitions/{plural}.example.com"),
            definition.to_string(),
        )
    };
    let seeded = (0..1000).map(definition).map(|(key, text)| {
        let store = store.clone();
        async move { store.create(&key, text.into(), None).await }
    });
    for result in futures_util::future::join_all(seeded).await {
        result.unwrap();
    }
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let server = Server::start(config(), store, Arc::new(SystemClock), stop.clone()).await.unwrap();
    let took = begun.elapsed();
    println!("1,000 definitions: started after {took:?}");
    // A debug build on a busy machine; a release build takes a small part of it.
    assert!(took < Duration::from_secs(20), "{took:?}");
    let admin = Arc::new(UserInfo::authenticated("admin", ["system:masters".to_owned()]));
    let get =
        http::Request::builder().uri("/apis/example.com/v1/namespaces/default/widgets999").body(Default::default());
    assert_eq!(server.handle_local(admin, get.unwrap()).await.status(), StatusCode::OK);
    stop.cancel();
}
