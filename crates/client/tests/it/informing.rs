//! Informers against scripted lists and watches.

use std::sync::Arc;

use client::{Delta, Informer, InformerFactory, Kind, ListParams, kinds::core::v1::ConfigMap};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fake::{Answer, End, Script, until};

fn object(name: &str, version: u32) -> Value {
    object_of("uid", name, version)
}

fn object_of(uid: &str, name: &str, version: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "namespace": "ns", "name": name, "uid": format!("{uid}-{name}"), "resourceVersion": version.to_string(),
        "labels": {"parity": if version.is_multiple_of(2) { "even" } else { "odd" }},
        "managedFields": [{"manager": "kubectl", "operation": "Apply"}],
    }})
}

fn list(version: &str, continue_token: &str, items: impl IntoIterator<Item = Value>) -> Answer {
    let items: Vec<Value> = items.into_iter().collect();
    let metadata = json!({"resourceVersion": version, "continue": continue_token});
    Answer::Json(200, json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items}))
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn bookmark(version: &str) -> Value {
    event("BOOKMARK", json!({"kind": "ConfigMap", "metadata": {"resourceVersion": version}}))
}

fn expired() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version"})
}

type Log = Arc<Mutex<Vec<String>>>;

/// Writes deltas down as `+name@version`, `~name@old>new` and `-name@version`.
fn record(informer: &Informer<ConfigMap>) -> Log {
    let log = Log::default();
    let written = log.clone();
    informer.on_event(move |delta| {
        let at = |object: &ConfigMap| format!("{}@{}", object.name(), object.resource_version());
        written.lock().push(match delta {
            Delta::Added(object) => format!("+{}", at(object)),
            Delta::Updated { old, new } => format!("~{}>{}", at(old), new.resource_version()),
            Delta::Deleted(object) => format!("-{}", at(object)),
        });
    });
    log
}

fn names(objects: Vec<Arc<ConfigMap>>) -> Vec<String> {
    objects.iter().map(|object| object.name().to_owned()).collect()
}

/// Runs the script and gives what was told.
async fn follow(script: &Script) -> (Informer<ConfigMap>, Vec<String>) {
    let factory = InformerFactory::new(script.client());
    let informer = factory.informer::<ConfigMap>();
    let log = record(&informer);
    let cancel = CancellationToken::new();
    factory.start(cancel.clone());
    factory.wait_for_sync().await;
    assert!(informer.has_synced());
    script.followed().await;
    cancel.cancel();
    let told = log.lock().clone();
    (informer, told)
}

const FIRST_LIST: &str = "GET /api/v1/configmaps?limit=500&resourceVersion=0";
const NEW_LIST: &str = "GET /api/v1/configmaps?limit=500";

fn open() -> Answer {
    Answer::Events(Vec::new(), End::Open)
}

#[tokio::test(start_paused = true)]
async fn lists_in_pages_then_watches_from_where_each_watch_ended() {
    let script = Script::new([
        (FIRST_LIST, list("10", "t", [object("a", 1)])),
        ("GET /api/v1/configmaps?limit=500&continue=t", list("10", "", [object("b", 2)])),
        (
            "WATCH /api/v1/configmaps?resourceVersion=10",
            Answer::Events(
                vec![
                    event("ADDED", object("c", 11)),
                    event("MODIFIED", object("a", 12)),
                    event("DELETED", object("b", 13)),
                    bookmark("20"),
                ],
                End::Closed,
            ),
        ),
        (
            "WATCH /api/v1/configmaps?resourceVersion=20",
            Answer::Events(vec![event("MODIFIED", object("a", 21))], End::Lost),
        ),
        ("WATCH /api/v1/configmaps?resourceVersion=21", open()),
    ]);
    let (informer, told) = follow(&script).await;
    assert_eq!(told, ["+a@1", "+b@2", "+c@11", "~a@1>12", "-b@13", "~a@12>21"]);
    assert_eq!(informer.last_resource_version(), "21");
    assert_eq!(names(informer.list()), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn after_an_expired_watch_the_difference_is_told_and_nothing_twice() {
    let script = Script::new([
        (FIRST_LIST, list("10", "", [object("a", 1), object("b", 2), object("c", 3), object("d", 4)])),
        ("WATCH /api/v1/configmaps?resourceVersion=10", Answer::Events(vec![event("ERROR", expired())], End::Closed)),
        (NEW_LIST, list("50", "", [object("a", 1), object("b", 30), object_of("other", "c", 40), object("e", 41)])),
        ("WATCH /api/v1/configmaps?resourceVersion=50", Answer::Json(410, expired())),
        (NEW_LIST, list("60", "", [object("a", 1), object("b", 30), object_of("other", "c", 40), object("e", 41)])),
        ("WATCH /api/v1/configmaps?resourceVersion=60", open()),
    ]);
    let (informer, told) = follow(&script).await;
    assert_eq!(told, ["+a@1", "+b@2", "+c@3", "+d@4", "-d@4", "~b@2>30", "-c@3", "+c@40", "+e@41"]);
    assert_eq!(informer.get("ns", "c").unwrap().uid(), "other-c");
    assert!(informer.get("ns", "d").is_none() && informer.get("other", "a").is_none());
}

#[tokio::test(start_paused = true)]
async fn goes_on_through_failures_of_any_request() {
    let unavailable = || Answer::Json(503, json!({}));
    let too_new = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Timeout", "code": 504,
        "details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}});
    let script = Script::new([
        (FIRST_LIST, unavailable()),
        (FIRST_LIST, list("5", "t", [object("a", 1)])),
        ("GET /api/v1/configmaps?limit=500&continue=t", Answer::Json(410, expired())),
        ("GET /api/v1/configmaps?resourceVersion=0", Answer::Json(504, too_new)),
        (NEW_LIST, list("10", "", [object("a", 1)])),
        ("WATCH /api/v1/configmaps?resourceVersion=10", unavailable()),
        ("WATCH /api/v1/configmaps?resourceVersion=10", Answer::Events(Vec::new(), End::Closed)),
        (
            "WATCH /api/v1/configmaps?resourceVersion=10",
            Answer::Events(vec![event("ADDED", object("b", 11)), json!({"type": "ADDED", "object": 5})], End::Open),
        ),
        ("WATCH /api/v1/configmaps?resourceVersion=11", open()),
    ]);
    let (_, told) = follow(&script).await;
    assert_eq!(told, ["+a@1", "+b@11"]);
}

#[tokio::test(start_paused = true)]
async fn indexes_and_late_handlers_see_what_is_there() {
    let script = Script::new([
        (FIRST_LIST, list("10", "", [object("a", 1), object("b", 2), object("c", 3)])),
        (
            "WATCH /api/v1/configmaps?resourceVersion=10",
            Answer::Events(vec![event("MODIFIED", object("a", 12)), event("DELETED", object("c", 13))], End::Open),
        ),
    ]);
    let parity: fn(&ConfigMap) -> Vec<String> =
        |object| object.meta().labels.iter().flat_map(|labels| labels.values().cloned()).collect();
    let factory = InformerFactory::new(script.client());
    let informer = factory.informer::<ConfigMap>();
    informer.add_index("parity", parity);
    informer.add_index("parity", |_| vec!["ignored".into()]);
    factory.start(CancellationToken::new());
    until(|| informer.last_resource_version() == "13").await;
    assert_eq!(names(informer.by_index("parity", "even")), ["a", "b"]);
    assert_eq!(names(informer.by_index("parity", "odd")), [""; 0]);
    assert_eq!(names(informer.by_index("unknown", "odd")), [""; 0]);
    assert_eq!(names(informer.list_namespace("ns")), ["a", "b"]);
    assert_eq!(*record(&informer).lock(), ["+a@12", "+b@2"]);
    assert!(informer.list().iter().all(|object| object.meta().managed_fields.is_none()));
    // An index added late knows what is there.
    informer.add_index("late", parity);
    assert_eq!(names(informer.by_index("late", "even")), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_factory_has_one_informer_per_selection() {
    let script = Script::new([
        (
            "GET /api/v1/configmaps?fieldSelector=metadata.name%3Da&limit=500&resourceVersion=0",
            list("10", "", [object("a", 1)]),
        ),
        ("WATCH /api/v1/configmaps?fieldSelector=metadata.name%3Da&resourceVersion=10", open()),
    ]);
    let factory = InformerFactory::new(script.client());
    let one = factory.informer_with::<ConfigMap>(ListParams::fields("metadata.name=a"));
    let same = factory.informer_with::<ConfigMap>(ListParams::fields("metadata.name=a"));
    factory.start(CancellationToken::new());
    factory.start(CancellationToken::new());
    let never_started = factory.informer::<ConfigMap>();
    one.wait_for_sync().await;
    factory.wait_for_sync().await;
    assert_eq!(names(same.list()), ["a"]);
    assert!(!never_started.has_synced());
    script.followed().await;
}

/// Conditions without times are taken by the API, and what nobody can read must not hide the rest.
#[test]
fn one_object_that_cannot_be_read_does_not_hide_the_others() {
    use client::kinds::core::v1::Service;
    let timeless = br#"{"metadata":{"name":"a"},"status":{"conditions":[{"type":"Up","status":"True","lastTransitionTime":null}]}}"#;
    let service = Service::decode(timeless).expect("a Service");
    assert_eq!(service.status.and_then(|status| status.conditions).map(|conditions| conditions.len()), Some(1));

    let broken = json!({"metadata": {"name": "broken", "labels": 7}});
    let script = Script::new([("GET /api/v1/configmaps?", list("5", "", [object("a", 1), broken, object("b", 2)]))]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let page = runtime.block_on(script.client().all::<ConfigMap>().list(&ListParams::default())).expect("a page");
    assert_eq!(page.items.iter().map(Kind::name).collect::<Vec<_>>(), ["a", "b"]);
}
