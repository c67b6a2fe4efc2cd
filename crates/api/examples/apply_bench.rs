//! What field management costs beside the other work on a tree that a write does: `cargo run --release -p api --example
//! apply_bench`. Prints microseconds of processor
//! time per write.

use std::hint::black_box;

use api::{
    Model, Value,
    apply::FieldManager,
    decode::{Defaults, decode},
    json,
    model::Gvk,
};

const ROUNDS: u32 = 20_000;

fn main() {
    let pod = pod();
    let mut ready = pod.clone();
    ready.set(&["status", "phase"], "Running");
    ready.set(&["status", "podIP"], "10.0.0.7");
    let conditions = r#"[{"type":"Ready","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z"},{"type":"PodScheduled","status":"True"}]"#;
    ready.set(&["status", "conditions"], tree(conditions));
    let map = tree(
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"n","uid":"u"},"data":{"a":"1","b":"2","c":"3"}}"#,
    );
    let mut changed = map.clone();
    changed.set(&["data", "a"], "other");
    let wide: Vec<String> = (0..1000).map(|key| format!(r#""key-{key:04}":"value""#)).collect();
    let wide = tree(&format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"c","uid":"u"}},"data":{{{}}}}}"#,
        wide.join(",")
    ));
    let mut wide_changed = wide.clone();
    wide_changed.set(&["data", "key-0500"], "other");
    run("ConfigMap, one of 3 keys", "ConfigMap", "", &["status"], &map, &changed, ROUNDS);
    run("ConfigMap, one of 1000 keys", "ConfigMap", "", &["status"], &wide, &wide_changed, ROUNDS / 50);
    run("Pod, status", "Pod", "status", &["spec"], &pod, &ready, ROUNDS);
    run("Pod, nothing changed", "Pod", "status", &["spec"], &ready, &ready, ROUNDS);
    apply(&map);
}

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_default()
}

fn pod() -> Value {
    let container = |name: &str| {
        format!(
            r#"{{"name":"{name}","image":"registry/app:1","imagePullPolicy":"IfNotPresent","ports":[{{"containerPort":80,"protocol":"TCP"}}],"env":[{{"name":"A","value":"1"}},{{"name":"B","value":"2"}}],"resources":{{"requests":{{"cpu":"10m","memory":"64Mi"}},"limits":{{"memory":"128Mi"}}}},"volumeMounts":[{{"name":"v","mountPath":"/v"}}],"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}}"#
        )
    };
    tree(&format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p","namespace":"n","uid":"u","labels":{{"app":"a","pod-template-hash":"h"}}}},"spec":{{"containers":[{},{}],"volumes":[{{"name":"v","emptyDir":{{}}}}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"tolerations":[{{"key":"k","operator":"Exists"}}]}},"status":{{"phase":"Pending"}}}}"#,
        container("one"),
        container("two")
    ))
}

/// One kind's field manager at one endpoint.
fn with<T>(kind: &str, subresource: &str, reset: &[&str], work: impl FnOnce(&FieldManager<'_>) -> T) -> T {
    let gvk = Gvk::new("", "v1", kind);
    let ty = Model::builtin().kind(&gvk).unwrap_or_else(|| unreachable!("a kind of the model"));
    let skip = FieldManager::unowned(&[reset]);
    let knows = |_: &str| true;
    work(&FieldManager {
        model: Model::builtin(),
        ty,
        kind: &gvk,
        subresource,
        skip: &skip,
        resource: None,
        knows: &knows,
        now: "2026-01-01T00:00:00Z",
    })
}

/// Processor time, so that what else the machine does does not count.
fn micros(rounds: u32, mut work: impl FnMut()) -> f64 {
    let start = cpu_micros();
    (0..rounds).for_each(|_| work());
    (cpu_micros() - start) / f64::from(rounds)
}

fn cpu_micros() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds: u64 = text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
    nanoseconds as f64 / 1e3
}

fn run(name: &str, kind: &str, subresource: &str, reset: &[&str], before: &Value, after: &Value, rounds: u32) {
    let mut live = before.clone();
    with(kind, "", &["status"], |fields| fields.update(&Value::object(), &mut live, "creator"));
    let mut object = after.clone();
    if let Some(list) = live.at(&["metadata", "managedFields"]) {
        object.set(&["metadata", "managedFields"], list.clone());
    }
    let bare = write(kind, before, after, rounds);
    let full = write(kind, &live, &object, rounds);
    let copy = micros(rounds, || drop(black_box(object.clone())));
    let update = |fields: &FieldManager<'_>, live: &Value, object: &Value| {
        let mut object = object.clone();
        fields.update(live, &mut object, "other");
        object
    };
    let (first, again) = with(kind, subresource, reset, |fields| {
        let first = micros(rounds, || drop(black_box(update(fields, &live, &object))));
        let owned = update(fields, &live, &object);
        let mut back = live.clone();
        if let Some(list) = owned.at(&["metadata", "managedFields"]) {
            back.set(&["metadata", "managedFields"], list.clone());
        }
        (first, micros(rounds, || drop(black_box(update(fields, &back, &owned)))))
    });
    let (first, again) = (first - copy, again - copy);
    println!(
        "{name}: work on the tree {bare:.1} without entries, {full:.1} with; field management {first:.1} for a new manager, {again:.1} for the same again"
    );
}

/// What a write does anyway: read what is stored, read and decode what the client sent, write it, read it for the cache.
fn write(kind: &str, before: &Value, after: &Value, rounds: u32) -> f64 {
    let ty = Model::builtin().kind(&Gvk::new("", "v1", kind)).unwrap_or_else(|| unreachable!("a kind of the model"));
    let (stored, sent) = (before.to_json(), after.to_json());
    micros(rounds, || {
        let live = json::parse(&stored).unwrap_or_default();
        let mut object = json::parse(&sent).unwrap_or_default();
        let _ = black_box(decode(Model::builtin(), ty, &mut object, Defaults::On));
        black_box(live == object);
        let bytes = object.to_json();
        let _ = black_box(json::parse(&bytes));
    })
}

fn apply(map: &Value) {
    let mut config = map.clone();
    config.take(&["metadata", "uid"]);
    let work = with("ConfigMap", "", &["status"], |fields| {
        let live = fields.apply(&Value::object(), &config, "me", true).unwrap_or_default();
        config.set(&["data", "a"], "other");
        micros(ROUNDS, || drop(black_box(fields.apply(&live, &config, "me", true))))
    });
    println!("ConfigMap, applied: {work:.1}");
}
