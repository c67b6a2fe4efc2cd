//! Objects and patches as wide as a request may be: nothing about them takes a time that grows with the square of the width.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, header};

use serde_json::json;

use crate::{custom::established, harness::Harness};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const NODES: &str = "/api/v1/nodes";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

const WIDTH: usize = 60_000;
/// Of items that the store still takes with what is kept about each.
const STORED: usize = 20_000;
/// On a busy machine and without optimization; each pair of members looked at once would be three thousand million looks.
const LIMIT: Duration = Duration::from_secs(15);

fn joined(numbers: impl Iterator<Item = usize>, item: impl Fn(usize) -> String) -> String {
    let mut out = String::new();
    for number in numbers {
        let comma = if out.is_empty() { "" } else { "," };
        let _ = write!(out, "{comma}{}", item(number));
    }
    out
}

fn upward(item: impl Fn(usize) -> String) -> String {
    joined(0..WIDTH, item)
}

fn downward(item: impl Fn(usize) -> String) -> String {
    joined((0..WIDTH).rev(), item)
}

fn map(name: &str, members: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},{members}}}"#)
}

fn meta(name: &str, members: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}",{members}}}}}"#)
}

fn pod(members: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"wide"}},"spec":{{{members}}}}}"#)
}

const LISTS: &str = "/apis/example.com/v1/namespaces/default/lists";

fn lists() -> serde_json::Value {
    let properties = json!({
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 4}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}},
        "enum": {"type": "array", "items": {
            "type": "string", "enum": (0..STORED).map(|n| n.to_string()).collect::<Vec<_>>(),
        }},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lists.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "lists", "kind": "List"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
            }]
        }
    })
}

fn custom(members: &str) -> String {
    format!(r#"{{"apiVersion":"example.com/v1","kind":"List","metadata":{{"name":"wide"}},{members}}}"#)
}

#[tokio::test]
async fn no_width_takes_long() {
    let key = |value: &'static str| move |n: usize| format!(r#""k{n:05}":{value}"#);
    let data = |members: String| format!(r#""data":{{{members}}}"#);
    let owner = |n: usize| format!(r#"{{"kind":"K","uid":"{n}"}}"#);
    let finalizer = |n: usize| format!(r#""x/{n}""#);
    let patch = |members: String| format!("{{{members}}}");
    let owners = |items: String| format!(r#"{{"metadata":{{"ownerReferences":[{items}]}}}}"#);
    let finalizers = |items: String| format!(r#"{{"metadata":{{"finalizers":[{items}]}}}}"#);
    let managed = |fields: String| {
        let entry = r#""manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1""#;
        meta("managed", &format!(r#""managedFields":[{{{entry},"fieldsV1":{{"f:data":{{{fields}}}}}}}]"#))
    };
    let one = |name: &str| format!("{MAPS}/{name}");
    let container = |members: String| pod(&format!(r#""containers":[{{"name":"c","image":"i",{members}}}]"#));
    let service = |ports: String| {
        let head = r#""apiVersion":"v1","kind":"Service","metadata":{"name":"wide"}"#;
        format!(r#"{{{head},"spec":{{"ports":[{ports}]}}}}"#)
    };
    let port = |n: usize| format!(r#"{{"name":"p{n}","port":{}}}"#, n + 1);
    let tolerated = |keys: Vec<usize>| {
        let items = joined(keys.into_iter(), |n| format!(r#"{{"key":"k{n}","operator":"Exists"}}"#));
        pod(&format!(r#""containers":[{{"name":"c","image":"i"}}],"tolerations":[{items}]"#))
    };
    let one_pod = format!("{PODS}/wide");
    let node = |addresses: String| {
        let head = r#""apiVersion":"v1","kind":"Node","metadata":{"name":"wide"}"#;
        format!(r#"{{{head},"status":{{"addresses":[{addresses}]}}}}"#)
    };
    let yaml =
        (0..WIDTH).fold("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\ndata:\n".to_owned(), |mut out, n| {
            let _ = writeln!(out, "  k{n}: \"\"");
            out
        });
    let cases: Vec<(&str, &str, String, &str, String)> = vec![
        ("created", "POST", MAPS.into(), JSON, map("wide", &data(upward(key(r#""""#))))),
        ("the other way around", "PUT", one("wide"), JSON, map("wide", &data(downward(key(r#""x""#))))),
        ("merged with", "PATCH", one("wide"), MERGE, patch(data(upward(key(r#""y""#))))),
        ("emptied", "PATCH", one("wide"), MERGE, patch(data(upward(key("null"))))),
        ("filled", "PATCH", one("wide"), STRATEGIC, patch(data(downward(key(r#""y""#))))),
        ("emptied", "PATCH", one("wide"), STRATEGIC, patch(data(upward(key("null"))))),
        (
            "applied",
            "PATCH",
            format!("{MAPS}/applied?fieldManager=a"),
            APPLY,
            map("applied", &data(upward(key(r#""""#)))),
        ),
        (
            "applied by another",
            "PATCH",
            format!("{MAPS}/applied?fieldManager=b&force=true"),
            APPLY,
            map("applied", &data(downward(key(r#""x""#)))),
        ),
        ("as YAML", "PATCH", format!("{MAPS}/yaml?fieldManager=a"), APPLY, yaml),
        ("members that stand twice", "POST", MAPS.into(), JSON, {
            map("twice", &data(format!("{},{}", upward(key(r#""""#)), upward(key(r#""x""#)))))
        }),
        ("unknown members", "POST", format!("{MAPS}?fieldValidation=Strict"), JSON, map("unknown", &upward(key("1")))),
        ("managers' fields", "POST", MAPS.into(), JSON, managed(downward(|n| format!(r#""f:k{n:05}":{{}}"#)))),
        ("finalizers", "PATCH", one("wide"), STRATEGIC, finalizers(upward(finalizer))),
        ("finalizers again", "PATCH", one("wide"), STRATEGIC, finalizers(downward(finalizer))),
        ("owners", "PATCH", one("wide"), STRATEGIC, owners(upward(owner))),
        ("owners again", "PATCH", one("wide"), STRATEGIC, owners(downward(owner))),
        (
            "owners gone",
            "PATCH",
            one("wide"),
            STRATEGIC,
            owners(upward(|n| format!(r#"{{"$patch":"delete","uid":"{n}"}}"#))),
        ),
        ("environment", "POST", PODS.into(), JSON, {
            container(format!(r#""env":[{}]"#, upward(|n| format!(r#"{{"name":"E{n}","value":"v"}}"#))))
        }),
        ("containers", "POST", PODS.into(), JSON, {
            pod(&format!(r#""containers":[{}]"#, upward(|n| format!(r#"{{"name":"c{n}","image":"i"}}"#))))
        }),
        ("tolerations", "POST", format!("{PODS}?dryRun=All"), JSON, {
            let items = upward(|n| format!(r#"{{"key":"k{n}","operator":"Exists"}}"#));
            pod(&format!(r#""containers":[{{"name":"c","image":"i"}}],"tolerations":[{items}]"#))
        }),
        ("a custom set whose items are all too long", "POST", LISTS.into(), JSON, {
            custom(&format!(r#""set":[{}]"#, upward(|n| format!(r#""k{n:05}""#))))
        }),
        ("a custom map", "POST", LISTS.into(), JSON, {
            custom(&format!(r#""map":[{}]"#, joined(0..STORED, |n| format!(r#"{{"k":"{n}"}}"#))))
        }),
        ("a custom map the other way around", "PATCH", format!("{LISTS}/wide"), MERGE, {
            format!(r#"{{"map":[{}]}}"#, joined((0..STORED).rev(), |n| format!(r#"{{"k":"{n}"}}"#)))
        }),
        ("items that are one of many values", "PATCH", format!("{LISTS}/wide"), MERGE, {
            format!(r#"{{"enum":[{}]}}"#, joined(0..STORED, |n| format!(r#""{n}""#)))
        }),
        ("items that are none of many values", "PATCH", format!("{LISTS}/wide"), MERGE, {
            format!(r#"{{"enum":[{}]}}"#, upward(|n| format!(r#""x{n}""#)))
        }),
        ("mounts and devices", "POST", PODS.into(), JSON, {
            let mounts = joined(0..WIDTH / 2, |n| format!(r#"{{"name":"v{n}","mountPath":"/m{n}"}}"#));
            let devices = joined(0..WIDTH / 2, |n| format!(r#"{{"name":"w{n}","devicePath":"/d{n}"}}"#));
            container(format!(r#""volumeMounts":[{mounts}],"volumeDevices":[{devices}]"#))
        }),
        ("label keys", "POST", PODS.into(), JSON, {
            let keys = joined(0..WIDTH / 2, |n| format!(r#""k{n}""#));
            let others = joined(0..WIDTH / 2, |n| format!(r#""l{n}""#));
            let expressions = joined(0..WIDTH / 2, |n| format!(r#"{{"key":"e{n}","operator":"Exists"}}"#));
            let selector = format!(r#""labelSelector":{{"matchExpressions":[{expressions}]}}"#);
            let keys = format!(r#""matchLabelKeys":[{keys}],"mismatchLabelKeys":[{others}]"#);
            let term = format!(r#"{{"topologyKey":"t",{selector},{keys}}}"#);
            let affinity =
                format!(r#"{{"podAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":[{term}]}}}}"#);
            pod(&format!(r#""containers":[{{"name":"c","image":"i"}}],"affinity":{affinity}"#))
        }),
        ("tolerations kept", "POST", PODS.into(), JSON, tolerated((0..STORED).collect())),
        ("tolerations the other way around", "PUT", one_pod.clone(), JSON, tolerated((0..STORED).rev().collect())),
        ("resource claims reported", "PATCH", format!("{one_pod}/status"), MERGE, {
            let claims = upward(|n| format!(r#"{{"name":"c{n}"}}"#));
            format!(r#"{{"status":{{"resourceClaimStatuses":[{claims}]}}}}"#)
        }),
        ("a node", "POST", NODES.into(), JSON, node(String::new())),
        ("its addresses", "PUT", format!("{NODES}/wide/status"), JSON, {
            node(joined(0..STORED, |n| format!(r#"{{"type":"Hostname","address":"h{n}"}}"#)))
        }),
        ("a job", "POST", JOBS.into(), JSON, {
            let template = r#"{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}"#;
            let spec =
                format!(r#""completions":100000000,"parallelism":1,"completionMode":"Indexed","template":{template}"#);
            let spec = format!(r#"{{{spec},"backoffLimitPerIndex":1,"maxFailedIndexes":1}}"#);
            format!(r#"{{"apiVersion":"batch/v1","kind":"Job","metadata":{{"name":"wide"}},"spec":{spec}}}"#)
        }),
        ("its indexes", "PATCH", format!("{JOBS}/wide/status"), MERGE, {
            let completed = upward(|n| format!("{}", 4 * n));
            let failed = upward(|n| format!("{}", 4 * n + 2));
            format!(r#"{{"status":{{"completedIndexes":"{completed}","failedIndexes":"{failed}"}}}}"#)
        }),
        ("ports", "POST", SERVICES.into(), JSON, service(upward(port))),
        ("ports applied", "PATCH", format!("{SERVICES}/wide?fieldManager=a"), APPLY, service(downward(port))),
    ];
    let server = Harness::start().await;
    established(&server, &lists()).await;
    for (name, method, path, kind, body) in cases {
        let request = Request::builder().method(method).uri(&path).header(header::CONTENT_TYPE, kind);
        let request = request.body(Bytes::from(body)).expect("a request");
        let begin = Instant::now();
        let response = server.send(request).await;
        let took = begin.elapsed();
        println!("{name}: {} in {took:.1?}", response.status());
        assert!(!response.status().is_server_error(), "{name}: {}", response.status());
        assert!(took < LIMIT, "{name}: {took:?}");
    }
}
